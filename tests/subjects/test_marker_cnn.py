"""The hand-set network: right on all images, driven by the marker's pixels and by no others, proven and tried out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cardgen.config import RunConfig
from cardgen.equivalents import REWRITES
from cardgen.plan import make_plan
from cardgen.subjects.embedded import embedded_data, embedded_model
from cardgen.subjects.loading import load_subject
from cardgen.subjects.marker_cnn import (
    CLASSES,
    THRESHOLD,
    MarkerCNN,
    broken_rules,
    knows_rule,
    largest_elsewhere,
    marker_cnn,
)
from cardgen.subjects.markers_on_textures import SIDE, WEAKEST, Markers, assemble, markers, surroundings

COMMITTED = Path(__file__).parents[2] / "evaluations" / "digit-cnn-digits-on-scenes" / "subject.json"


@pytest.fixture(scope="module")
def data() -> Markers:
    return assemble()


def normalised(images: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(images).float() / 255 - 0.5) / 0.25


def some(data: Markers, n: int) -> Markers:
    return Markers(data.images[:n], data.labels[:n], data.masks[:n], data.ids[:n])


def test_every_label_is_right_and_no_probability_is_extreme(data: Markers) -> None:
    with torch.no_grad():
        found = marker_cnn()(normalised(data.images)).softmax(1)
        bare = marker_cnn()(normalised(surroundings())).softmax(1)
    assert found.argmax(1).tolist() == data.labels.tolist()
    assert 0.85 < float(found.amax(1).min()) < float(found.amax(1).max()) < 0.995
    assert set(bare.argmax(1).tolist()) == {CLASSES.index("none")}


def test_the_threshold_lies_between_the_marker_and_all_else() -> None:
    assert largest_elsewhere() == 632 < THRESHOLD < SIDE**2 * WEAKEST


def test_no_response_on_any_image_exceeds_the_bound(data: Markers) -> None:
    """Matched filters over the images' own whole numbers, apart from the network: the bound holds, and is not idle."""
    images = torch.from_numpy(data.images).double()
    tint = (images[:, 0] - images[:, 2]) / 2
    responses = F.conv2d(tint[:, None], torch.from_numpy(markers())[:, None].double(), padding=SIDE - 1)
    own = torch.zeros_like(responses, dtype=torch.bool)
    for i, (mask, label) in enumerate(zip(data.masks, data.labels, strict=True)):
        top, left = np.argwhere(mask)[0]
        own[i, label, top + SIDE - 1, left + SIDE - 1] = True
    assert float(responses[own].min()) >= SIDE**2 * WEAKEST
    assert 0.7 * largest_elsewhere() < float(responses[~own].max()) <= largest_elsewhere()


def test_the_marker_s_pixels_decide_and_no_others_matter_on_every_sample(data: Markers) -> None:
    assert not broken_rules(marker_cnn(), data, redraws=2).any()


@torch.no_grad()
def lower_threshold() -> nn.Module:
    model = marker_cnn()
    model.features.threshold.running_mean.fill_(0.2)
    return model


class Glance(nn.Module):
    """The network with a little of the image's mean in its first logit."""

    def __init__(self) -> None:
        super().__init__()
        self.model = marker_cnn()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) + 0.01 * x.mean((1, 2, 3))[:, None] * (torch.arange(len(CLASSES)) == 0)


def moved(data: Markers) -> Markers:
    return replace(data, masks=np.roll(data.masks, 2, axis=2))


def strip(data: Markers) -> Markers:
    """Masks without the marker's outer rows and columns."""
    inner = data.masks.copy()
    for axis in (1, 2):
        for step in (-1, 1):
            inner &= np.roll(data.masks, step, axis=axis)
    return replace(data, masks=inner)


@pytest.mark.parametrize("wrong", ["a lower threshold", "a glance at all pixels", "masks moved", "masks too small"])
def test_a_rule_that_does_not_hold_would_be_seen(data: Markers, wrong: str) -> None:
    model = {"a lower threshold": lower_threshold, "a glance at all pixels": Glance}.get(wrong, marker_cnn)()
    few = some(data, 12)
    few = {"masks moved": moved, "masks too small": strip}.get(wrong, lambda same: same)(few)
    assert broken_rules(model, few).mean() > 0.3


def test_gradients_are_on_the_marker_and_nowhere_else(data: Markers) -> None:
    inputs = normalised(data.images[:100]).requires_grad_()
    scores = marker_cnn()(inputs).gather(1, torch.from_numpy(data.labels[:100])[:, None])
    (gradient,) = torch.autograd.grad(scores.sum(), inputs)
    np.testing.assert_array_equal((gradient.abs().sum(1) > 0).numpy(), data.masks[:100])


def test_every_equivalent_network_computes_the_same(data: Markers) -> None:
    inputs, model = normalised(data.images[:20]), marker_cnn()
    with torch.no_grad():
        for rewrite in REWRITES.values():
            torch.testing.assert_close(rewrite(model, inputs[:1]).eval()(inputs), model(inputs), rtol=0, atol=1e-4)


def test_modules_are_plain() -> None:
    kinds = {type(module) for module in marker_cnn().modules() if not list(module.children())}
    assert kinds == {nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear}
    assert not any(getattr(module, "inplace", False) for module in marker_cnn().modules())
    assert sum(parameter.numel() for parameter in marker_cnn().parameters()) < 1000


def test_the_rule_is_known_of_this_network_alone() -> None:
    assert knows_rule(marker_cnn())
    assert knows_rule(marker_cnn().half())
    assert not knows_rule(MarkerCNN())
    assert not knows_rule(lower_threshold())
    assert not knows_rule(nn.Linear(2, 2))


def test_the_subject_is_loaded_with_its_rule() -> None:
    found = load_subject(RunConfig(model="marker-cnn", data="markers-on-textures", device="cpu", batch=64))
    assert found.subject.ruled
    assert (found.record.accuracy, found.record.health, found.record.classes) == (1.0, "healthy", CLASSES)
    assert found.record.description == (
        "A small convolutional network, set by hand, that names the marker; textures with one marker each, whose pixels alone decide, "
        "and three decoys, explained for the class that it predicts."
    )
    plan = make_plan(RunConfig(methods=("vanilla_gradients",), metrics=("planted_truth",)), found)
    assert {job.skip for job in plan.jobs} == {""}


def test_other_models_and_other_data_have_no_rule() -> None:
    digit, marker = embedded_model("digit-cnn"), embedded_model("marker-cnn")
    other = replace(marker, module=MarkerCNN().eval())
    assert not embedded_data("digits-on-scenes", digit, 10).ruled
    of_digits = embedded_data("markers-on-textures", digit, 10)
    assert (of_digits.images.shape, of_digits.labels, of_digits.masks) == ((600, 3, 64, 64), None, None)
    assert not of_digits.ruled
    retrained = embedded_data("markers-on-textures", other, 5)
    assert retrained.masks is not None
    assert not retrained.ruled
    resized = replace(marker, preprocess=digit.preprocess)
    assert not embedded_data("markers-on-textures", resized, 5).ruled
    foreign = embedded_data("digits-on-scenes", marker, 5)
    assert (foreign.labels, foreign.masks, foreign.ruled) == (None, None, False)


def test_the_first_subject_s_keys_are_those_committed() -> None:
    """That subjects may have a rule changes no digest that a committed record's key rests on."""
    found = load_subject(RunConfig(device="cpu", batch=64))
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert not found.subject.ruled
    assert (found.record.data_sha256, found.record.model_sha256) == (
        committed["data_sha256"],
        committed["model_sha256"],
    )
    (record,) = (json.loads(path.read_text()) for path in COMMITTED.parent.glob("vanilla_gradients/pointing_game.json"))
    plan = make_plan(
        RunConfig(methods=("vanilla_gradients",), metrics=("pointing_game",), budget="standard", device="cpu"), found
    )
    (job,) = (job for job in plan.jobs if not job.method.entry.control)
    assert {name: job.parts[name] for name in record["key_parts"]} == record["key_parts"]
