"""Where sibling models come from, and which of them count."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_models import seeded
from small_runs import SLUG
from torch import nn

from cardgen.api import make_subject
from cardgen.config import RunConfig, SiblingModel
from cardgen.errors import CardgenError
from cardgen.evaluating import describe
from cardgen.memo import Memo
from cardgen.recipes import Sibling, sibling
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.fitting import Course, TrainingData, fit
from cardgen.subjects.loading import load_subject
from cardgen.subjects.raising import COURSES, INT8, Raising, relabelled
from cardgen.subjects.siblings import Search

SEED, RANDOM = Sibling("seed", 1), Sibling("random-labels")
PRUNED, OTHER = Sibling("compressed", "pruned"), Sibling("architecture")
QUICK = {kind: replace(course, epochs=30, batch_size=16, learning_rate=0.01) for kind, course in COURSES.items()}


class Bright(nn.Module):
    """Tells which of four quarters is brightest."""

    def __init__(self, width=8):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
        self.head = nn.Linear(16 * width, 4)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def pictures(n, seed):
    """Dark noise with one bright quarter, and which one it is."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 120, (n, 3, 12, 12), generator=draws).to(torch.uint8)
    labels = torch.arange(n) % 4
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 6 * (label // 2) : 6 * (label // 2) + 6, 6 * (label % 2) : 6 * (label % 2) + 6] += 130
    return images, labels


def scaled(images):
    return images.float() / 255


def training(n=64):
    return TrainingData(lambda k: pictures(n, 1), scaled, "quarters")


@pytest.fixture(scope="module")
def model():
    return fit(seeded(0, Bright), training(), Course(epochs=30, batch_size=16, learning_rate=0.01), 0).model


@pytest.fixture
def loaded(model):
    images, labels = pictures(40, 2)
    found = describe(make_subject(model, scaled(images), labels, None, None, 0, 16, None), labels, SLUG)
    return replace(found, labels=labels.numpy().astype(np.int64))


def search(loaded, tmp_path, siblings=None, raising="no data to train it on", **settings):
    config = RunConfig(model="mine", siblings=siblings or {}, **settings)
    return Search(config, loaded, tmp_path / ".siblings", raising)


def how(**changed):
    given = {kind: replace(course, patience=None) for kind, course in QUICK.items()}
    return Raising(training(), courses={**given, **changed})


class Never(Raising):
    def trained(self, *_):
        raise AssertionError("nothing is to be trained")


def weights(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(a, b):
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_a_checkpoint_that_is_named_is_taken_and_nothing_trains(loaded, model, tmp_path):
    save_file(weights(model), tmp_path / "again.safetensors")
    named = {"seed-1": str(tmp_path / "again.safetensors")}
    family = search(loaded, tmp_path, named, Never(training())).family([SEED])
    assert same(family.found[SEED].module, model)
    assert family.found[SEED].accuracy == 1.0
    assert family.told([SEED]) == {"seed-1 accuracy": 1.0}
    assert not (tmp_path / ".siblings").exists()


def test_a_sibling_is_trained_once_and_kept(loaded, model, tmp_path):
    first = search(loaded, tmp_path, raising=how()).family([SEED, Sibling("seed", 2)])
    again = search(loaded, tmp_path, raising=Never(training(), courses=how().courses)).family([SEED])
    assert not first.missing
    assert not again.missing
    assert same(first.found[SEED].module, again.found[SEED].module)
    assert first.part([SEED]) == again.part([SEED])
    assert not same(first.found[SEED].module, first.found[Sibling("seed", 2)].module)
    assert not same(first.found[SEED].module, model)
    assert len(list((tmp_path / ".siblings").glob("seed-1-*.safetensors"))) == 1
    assert not list((tmp_path / ".siblings").glob("*.part"))


def test_another_recipe_trains_anew(loaded, tmp_path):
    search(loaded, tmp_path, raising=how()).family([SEED])
    search(loaded, tmp_path, raising=how(seed=Course(epochs=21, batch_size=16))).family([SEED])
    assert len(list((tmp_path / ".siblings").glob("seed-1-*.safetensors"))) == 2


def test_without_data_it_says_what_to_provide(loaded, tmp_path):
    found = search(loaded, tmp_path, raising="no data to train it on; expected it; give it").family([SEED])
    assert found.missing == {SEED: "no sibling seed-1: no data to train it on; expected it; give it"}
    assert found.reason([SEED]) == found.missing[SEED]
    assert found.reason([]) == ""


def test_random_labels_are_learnt_by_heart(loaded, tmp_path):
    course = Course(epochs=300, batch_size=16, learning_rate=0.02, enough=0.99)
    family = search(loaded, tmp_path, raising=how(**{"random-labels": course})).family([RANDOM])
    assert not family.missing
    assert family.found[RANDOM].accuracy >= 0.95


def test_random_labels_that_were_not_learnt_give_a_reason(loaded, tmp_path):
    family = search(loaded, tmp_path, raising=how(**{"random-labels": Course(epochs=1)})).family([RANDOM])
    assert "of its random labels; expected 95% at least; train it for longer" in family.missing[RANDOM]


def test_a_model_of_the_true_labels_is_none_of_random_ones(loaded, model, tmp_path):
    save_file(weights(model), tmp_path / "again.safetensors")
    family = search(loaded, tmp_path, {"random-labels": str(tmp_path / "again.safetensors")}).family([RANDOM])
    assert (
        "it gets 100.0% of the true labels right, and the model 100.0%; expected a model of random labels"
        in family.missing[RANDOM]
    )


def test_a_seed_that_learnt_less_gives_a_reason(loaded, tmp_path):
    save_file(weights(seeded(3, Bright)), tmp_path / "untrained.safetensors")
    family = search(loaded, tmp_path, {"seed-1": str(tmp_path / "untrained.safetensors")}).family([SEED])
    assert "and the model 100.0%; expected a difference of at most 2.5 points; train it better" in family.missing[SEED]


def test_a_checkpoint_of_another_network_gives_a_reason(loaded, tmp_path):
    save_file(weights(Bright(width=4)), tmp_path / "other.safetensors")
    family = search(loaded, tmp_path, {"seed-1": str(tmp_path / "other.safetensors")}).family([SEED])
    assert "other.safetensors" in family.missing[SEED]


def test_eight_bits_need_no_training(loaded, model, tmp_path):
    family = search(loaded, tmp_path).family([INT8])
    rounded = family.found[INT8].module.features[0].weight
    step = rounded.abs().flatten(1).amax(1) / 127
    assert torch.allclose((rounded / step[:, None, None, None]).round() * step[:, None, None, None], rounded, atol=1e-6)
    assert not torch.equal(rounded, model.features[0].weight)
    assert (rounded - model.features[0].weight).abs().max() <= step.max() / 2 + 1e-6


def test_a_sibling_s_passes_are_counted_once(loaded, tmp_path):
    family = search(loaded, tmp_path).family([INT8])
    subject = replace(loaded.subject, siblings=family.modules)
    with subject.open():
        assert subject.memo.run(lambda: subject.logits(10, INT8))[1] == 40  # the segment of all samples


def test_half_of_the_weights_stay_at_zero(loaded, model, tmp_path):
    before = weights(model)
    family = search(loaded, tmp_path, raising=how()).family([PRUNED])
    assert not family.missing
    other = family.found[PRUNED].module
    values = torch.cat([other.features[0].weight.flatten(), other.head.weight.flatten()])
    assert int((values == 0).sum()) == len(values) // 2
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_another_architecture_is_named_and_trained(loaded, tmp_path):
    (tmp_path / "other.py").write_text(
        "import torch\n\n\ndef build():\n    torch.manual_seed(0)\n    conv = torch.nn.Conv2d(3, 16, 5, padding=2)\n"
        "    net = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(64, 4))\n"
        "    return net, 'size=12'\n"
    )
    named = {"architecture": SiblingModel(model=f"{tmp_path}/other.py:build", weights="none")}
    family = search(loaded, tmp_path, named, how(), preprocess="size=12").family([OTHER])
    assert not family.missing, family.missing
    assert len(family.found[OTHER].module) == 5


def test_another_architecture_has_to_be_named(loaded, tmp_path):
    family = search(loaded, tmp_path, raising=how()).family([OTHER])
    assert "another network is needed; expected one under siblings: in cardgen.yaml" in family.missing[OTHER]


def test_scenes_cannot_be_made_up(loaded, tmp_path):
    family = search(loaded, tmp_path, raising=how()).family([Sibling("scene")])
    assert "it learns other labels, which the data does not have" in family.missing[Sibling("scene")]


def test_a_black_box_has_no_siblings_of_its_own(loaded, model, tmp_path):
    box = replace(loaded, subject=replace(loaded.subject, model=BlackBox(model)))
    for wanted in (SEED, INT8):
        assert "a black box" in search(box, tmp_path, raising=how()).family([wanted]).missing[wanted]


def test_no_time_left_says_so(loaded, tmp_path):
    family = search(loaded, tmp_path, raising=replace(how(), deadline=0.0)).family([SEED])
    assert "--train-budget" in family.missing[SEED]


def test_relabelled_data_holds_the_same_labels_in_another_order():
    images, labels = training().epoch(0)
    again, other = relabelled(training()).epoch(7)
    assert torch.equal(images, again)
    assert torch.equal(labels.sort().values, other.sort().values)
    assert (labels != other).float().mean() > 0.5


@pytest.mark.parametrize("name", ["seed-1", "random-labels", "architecture", "compressed-int8", "masker-phang_masker"])
def test_names_are_read_back(name):
    assert sibling(name).name == name


@pytest.mark.parametrize("name", ["seed", "seed-one", "twin", ""])
def test_other_names_are_refused(name):
    with pytest.raises(CardgenError, match=r"expected seed-1 or another number"):
        sibling(name)


@pytest.fixture(scope="module")
def digits():
    return load_subject(RunConfig(batch=32))


EMBEDDED = {
    "seed-1": 0.9717,
    "architecture": 0.9667,
    "random-labels": 1.0,
    "scene": 0.9717,
    "compressed-pruned": 0.97,
    "compressed-int8": 0.98,
}


@pytest.mark.parametrize("name", [*EMBEDDED, "masker-phang_masker", "masker-real_time_saliency"])
def test_the_embedded_model_comes_with_its_siblings(digits, tmp_path, name):
    wanted = sibling(name)
    family = Search(RunConfig(), digits, tmp_path, "nothing trains").family([wanted])
    assert not family.missing
    assert family.found[wanted].accuracy == pytest.approx(EMBEDDED.get(name), abs=0.005)
    assert not list(tmp_path.iterdir())


def test_other_weights_for_the_embedded_architecture_have_no_siblings_yet(digits, tmp_path):
    other = RunConfig(model="marker-cnn", data="markers-on-textures")
    family = Search(other, digits, tmp_path, "nothing trains").family([SEED])
    assert "nothing trains" in family.missing[SEED]


def test_the_documentation_s_training_function_trains(loaded, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "siblings.md").read_text(encoding="utf-8")
    (tmp_path / "train.py").write_text(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0])
    (tmp_path / "mymodel.py").write_text(
        "import torch\n\n\ndef build():\n    layers = torch.nn.Flatten(), torch.nn.Linear(432, 4)\n"
        "    return torch.nn.Sequential(*layers), 'size=12'\n"
    )
    linear = nn.Sequential(nn.Flatten(), nn.Linear(432, 4))
    subject = replace(loaded.subject, model=linear, memo=Memo())
    how = Raising(training(), own=f"{tmp_path}/train.py:fit")
    family = search(replace(loaded, subject=subject), tmp_path, raising=how).family([SEED])
    assert not family.missing, family.missing
    assert family.found[SEED].source == "trained by the user's function"
    assert family.found[SEED].accuracy == 1.0
