"""Masking networks after training: a small one that finds what is planted, and the embedded classifier's."""

import json

import pytest
import torch
from sklearn.metrics import average_precision_score
from small_models import seeded, untouched
from torch import nn

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.forward import probabilities
from cardgen.maskers import KINDS, build
from cardgen.methods import METHODS
from cardgen.space import UNNORMALISED
from cardgen.subjects import embedded_maskers, networks
from cardgen.subjects.digits_on_scenes import assemble
from cardgen.subjects.embedded_maskers import SPACE, load_embedded_masker, quality, retrain_masker
from cardgen.subjects.fitting import Course, TrainingData, fit
from cardgen.subjects.masker_training import masker_loss
from cardgen.subjects.networks import load_embedded, manifest, normalised

KEYS = tuple(KINDS)
NONE = {"real_time_saliency": 4.0, "phang_masker": 0.0}
"""What an image without a patch is to the planted model: of a fourth class, or of any class alike, which is what either loss wants."""


class Colours(nn.Module):
    """Three logits are half the number of pixels that are far more of a colour than of the two others; a fourth, for none, is given."""

    def __init__(self, none):
        super().__init__()
        self.none = none
        self.fine = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
        self.fine[0].weight.data = (2.5 * torch.eye(3) - 1)[:, :, None, None]
        self.fine[0].bias.data.fill_(-0.5)
        self.coarse[0].weight.data = 10 * torch.eye(3)[:, :, None, None]
        self.coarse[0].bias.data.zero_()

    def forward(self, x):
        colours = self.coarse(nn.functional.avg_pool2d(self.fine(x), 2)).sum((2, 3)) / 5
        return torch.cat([colours, torch.full_like(colours[:, :1], self.none)], dim=1)


def patches(count, seed):
    """Grey noise with a patch of 4 × 4 pixels in one of three colours, which is the label; and where it is."""
    draws = torch.Generator().manual_seed(seed)
    images = (90 + 40 * torch.rand(count, 3, 16, 16, generator=draws)).to(torch.uint8)
    labels = torch.randint(3, (count,), generator=draws)
    places = torch.zeros(count, 16, 16, dtype=torch.bool)
    for i, (top, left) in enumerate((2 * torch.randint(7, (count, 2), generator=draws)).tolist()):
        places[i, top : top + 4, left : left + 4] = True
        images[i] = torch.where(places[i], 255 * (torch.arange(3) == labels[i])[:, None, None], images[i])
    return images, labels, places


def precision(maps, truth):
    pairs = zip(truth, maps, strict=True)
    return sum(average_precision_score(t.flatten(), m.flatten()) for t, m in pairs) / len(maps)


@pytest.fixture(scope="module", params=KEYS)
def planted(request):
    """A masking network that was trained for `Colours`, its method, and test images."""
    model = Colours(NONE[request.param]).eval()
    data = TrainingData(lambda k: patches(256, k)[:2], lambda images: images.float() / 255, digest="")
    masker = seeded(0, lambda: build(request.param, model, torch.rand(1, 3, 16, 16), 4))
    loss = masker_loss(request.param, model, UNNORMALISED)
    fit(masker, data, Course(epochs=10, batch_size=16, learning_rate=1e-2), 0, loss=loss)
    images, labels, places = patches(60, 1000)
    return request.param, model, masker, images.float() / 255, labels, places


class TestPlanted:
    def test_the_patch_is_found(self, planted):
        key, model, masker, inputs, labels, places = planted
        found = explain(key, model, inputs, labels, masker=masker)
        assert precision(found, places) > 0.9
        assert found[places].mean() > 0.7
        assert found[~places].mean() < 0.15

    def test_the_mask_keeps_the_class_and_its_complement_does_not(self, planted):
        key, model, masker, inputs, labels, _ = planted
        share = explain(key, model, inputs, labels, masker=masker)[:, None]
        kept, left = (
            probabilities(model, torch.full_like(inputs, 0.5).lerp(inputs, m.expand_as(inputs)), 60).gather(
                1, labels[:, None]
            )
            for m in (share, 1 - share)
        )
        assert kept.mean() > 0.8
        assert left.mean() < 0.3

    def test_a_class_that_is_not_there(self, planted):
        key, model, masker, inputs, labels, places = planted
        found = explain(key, model, inputs, (labels + 1) % 3, masker=masker)
        if METHODS[key].class_specific:
            assert found[places].mean() < 0.4
        else:
            assert torch.equal(found, explain(key, model, inputs, labels, masker=masker))


@pytest.mark.parametrize("key", KEYS)
class TestEmbedded:
    def test_masks_are_as_good_as_the_manifest_says(self, key):
        masker, entry = load_embedded_masker(key), manifest()[embedded_maskers.name_of(key)]
        found = quality(masker)
        assert {name: entry[name] for name in found} == pytest.approx(found, abs=2e-3)
        assert found["average_precision"] > 0.6
        assert found["kept"] > 0.8 * found["before"]
        assert found["left"] < 0.2
        assert found["area"] < 0.2

    def test_the_method_gives_them(self, key):
        scenes, model = assemble("test", n=20), load_embedded("digit-cnn")
        inputs, labels = normalised(torch.from_numpy(scenes.images)), torch.from_numpy(scenes.digits)
        masker = load_embedded_masker(key)
        with untouched(model, inputs, labels):
            found = explain(key, model, inputs, labels, masker=masker, space=SPACE)
        assert precision(found, torch.from_numpy(scenes.masks)) > 0.6

    def test_weights_are_small_and_of_the_committed_classifier(self, key):
        entry = manifest()[embedded_maskers.name_of(key)]
        file = networks.WEIGHTS / f"{embedded_maskers.name_of(key)}.safetensors"
        assert file.stat().st_size <= 600_000
        assert entry["classifier"] == manifest()["digit-cnn"]["sha256"]
        assert entry["parameters"] == sum(parameter.numel() for parameter in load_embedded_masker(key).parameters())
        assert entry["recipe"]["epochs"] == embedded_maskers.COURSES[key].epochs

    def test_other_weights_are_refused(self, key, tmp_path, monkeypatch):
        for file in networks.WEIGHTS.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        name = embedded_maskers.name_of(key)
        changed = bytearray((tmp_path / f"{name}.safetensors").read_bytes())
        changed[-1] ^= 1
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(changed))
        monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
        with pytest.raises(CardgenError, match=rf"^weights of {name} are not the committed ones; .*maskers {key}`$"):
            load_embedded_masker(key)

    def test_retraining_writes_weights_and_manifest(self, key, tmp_path, monkeypatch):
        for file in networks.WEIGHTS.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        data = assemble("train", n=64)
        few = torch.from_numpy(data.images), torch.from_numpy(data.digits)
        monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
        monkeypatch.setattr(embedded_maskers, "COURSES", {key: Course(epochs=1)})
        monkeypatch.setattr(embedded_maskers, "placements", lambda name: lambda k: few)
        monkeypatch.setattr(embedded_maskers, "quality", lambda masker: {"area": 0.5})
        entry = retrain_masker(key)
        entries = json.loads((tmp_path / "manifest.json").read_text())
        assert entries[embedded_maskers.name_of(key)] == entry
        assert entries["digit-cnn"] == manifest()["digit-cnn"]
        first = load_embedded_masker(key).state_dict()
        assert retrain_masker(key) == entry
        assert all(torch.equal(value, first[name]) for name, value in load_embedded_masker(key).state_dict().items())


@pytest.mark.usefixtures("as_users_run")
def test_unknown_names_are_refused():
    for function in (load_embedded_masker, retrain_masker):
        with pytest.raises(
            CardgenError, match=r"^masking network; expected one of real_time_saliency, phang_masker, got"
        ):
            function("rise")
    with pytest.raises(
        CardgenError, match=r"^embedded model; expected one of digit-cnn, scene-cnn, got digit-cnn.masker"
    ):
        load_embedded("digit-cnn.masker-phang_masker")
