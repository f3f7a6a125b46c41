"""The embedded models: small, plain, committed with their digest, accurate, and looking at what they should."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects import networks
from cardgen.subjects.digits_on_scenes import Scenes, assemble, backgrounds
from cardgen.subjects.networks import EMBEDDED, SmallCNN, load_embedded, manifest, normalised
from cardgen.subjects.training import RECIPES, Recipe, accuracy, fit, labels_of, placements, predictions, retrain

NAMES = ("digit-cnn", "scene-cnn")


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return assemble("test")


def predicted(name: str, images: np.ndarray) -> np.ndarray:
    return predictions(load_embedded(name), torch.from_numpy(images)).argmax(dim=1).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_digits_and_crops_never_trained_on(name: str, scenes: Scenes) -> None:
    found = accuracy(load_embedded(name), torch.from_numpy(scenes.images), labels_of(name, scenes))
    assert found >= 0.95
    assert manifest()[name]["n_test"] == len(scenes.ids) == 600
    assert manifest()[name]["accuracy"] == pytest.approx(found, abs=2 / 600)


def test_digit_model_looks_at_the_digit(scenes: Scenes) -> None:
    """Behind the same strokes another scene changes few predictions; without strokes it is at chance."""
    before = predicted("digit-cnn", scenes.images)
    bare = backgrounds("test")
    swapped = np.where(scenes.masks[:, None], scenes.images, np.roll(bare, 7, axis=0))
    assert (np.roll(scenes.scenes, 7) != scenes.scenes).mean() > 0.8
    assert (predicted("digit-cnn", swapped) != before).mean() < 0.2
    assert (predicted("digit-cnn", bare) != before).mean() > 0.7


def test_scene_model_looks_at_the_scene(scenes: Scenes) -> None:
    before = predicted("scene-cnn", scenes.images)
    bare = backgrounds("test")
    swapped = np.where(scenes.masks[:, None], scenes.images, np.roll(bare, 7, axis=0))
    assert (predicted("scene-cnn", bare) != before).mean() < 0.1
    assert (predicted("scene-cnn", swapped) == np.roll(scenes.scenes, 7)).mean() > 0.8


def test_network_is_small_and_plain() -> None:
    model = SmallCNN()
    assert 100_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 300_000
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    calls: list[nn.Module] = []
    shapes: list[torch.Size] = []
    leaves = [module for module in model.modules() if not list(module.children())]
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, _, output: (calls.append(module), shapes.append(output.shape))[0])
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    assert [id(call) for call in calls] == [id(leaf) for leaf in leaves]  # each once, in order
    last = max(k for k, leaf in enumerate(leaves) if isinstance(leaf, nn.Conv2d))
    assert shapes[last] == (2, 96, 8, 8)
    assert [type(leaf) for leaf in leaves[-3:]] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]


def test_number_of_classes() -> None:
    assert SmallCNN(num_classes=4).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_normalised_training_images_have_mean_zero_and_variance_one() -> None:
    values = normalised(torch.from_numpy(assemble("train", n=2000).images))
    assert values.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert (values.std(dim=(0, 2, 3)) - 1).abs().max() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_committed_weights_are_the_manifests(name: str) -> None:
    entry = manifest()[name]
    assert entry["parameters"] == sum(parameter.numel() for parameter in load_embedded(name).parameters())
    assert entry["recipe"]["epochs"] == RECIPES[name].epochs
    assert (networks.WEIGHTS / f"{name}.safetensors").stat().st_size <= 1_200_000
    assert not load_embedded(name).training


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in networks.WEIGHTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    changed = bytearray((tmp_path / "digit-cnn.safetensors").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "digit-cnn.safetensors").write_bytes(bytes(changed))
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    load_embedded("scene-cnn")
    with pytest.raises(
        CardgenError, match=r"^weights of digit-cnn are not the committed ones; expected sha256 \w{64}, got"
    ):
        load_embedded("digit-cnn")


def test_unknown_names_are_refused() -> None:
    for function, known in ((load_embedded, EMBEDDED), (retrain, RECIPES)):
        with pytest.raises(CardgenError) as caught:
            function("cat-cnn")
        assert (
            str(caught.value) == f"embedded model; expected one of {', '.join(known)}, got cat-cnn; choose one of these"
        )


def test_one_epoch_of_the_recipe_learns(scenes: Scenes) -> None:
    model = fit(SmallCNN(), placements("scene-cnn"), Recipe(epochs=1))
    assert not model.training
    assert accuracy(model, torch.from_numpy(scenes.images), labels_of("scene-cnn", scenes)) > 0.5


def test_same_recipe_same_weights_and_global_generator_unseeded() -> None:
    data = assemble("train", n=96)
    labelled = torch.from_numpy(data.images), labels_of("digit-cnn", data)

    def weights(seed: int) -> torch.Tensor:
        model = fit(SmallCNN(), lambda _: labelled, Recipe(epochs=2, seed=seed, batch_size=32))
        return nn.utils.parameters_to_vector(model.parameters())

    first, draw = weights(0), torch.rand(1)
    assert torch.equal(first, weights(0))
    assert torch.rand(1) != draw
    assert not torch.equal(first, weights(1))


def test_every_epoch_places_the_digits_anew() -> None:
    epoch = placements("digit-cnn")
    (first, labels), (second, again) = epoch(0), epoch(1)
    assert torch.equal(labels, again)
    assert (first != second).flatten(1).any(dim=1).all()


def test_retrain_writes_weights_and_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cardgen.subjects import training

    data = assemble("train", n=128)
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    monkeypatch.setattr(training, "RECIPES", {name: Recipe(epochs=1) for name in NAMES})
    monkeypatch.setattr(
        training, "placements", lambda name: lambda _: (torch.from_numpy(data.images), labels_of(name, data))
    )
    entries = {name: retrain(name) for name in NAMES}
    assert json.loads((tmp_path / "manifest.json").read_text()) == entries
    assert load_embedded("scene-cnn")(torch.zeros(1, 3, 64, 64)).shape == (1, 10)
