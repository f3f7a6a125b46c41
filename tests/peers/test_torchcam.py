"""Average drop and increase in confidence against torchcam's own, called as its users call them."""

from functools import partial

import numpy as np
import pytest
import torch
from small_models import Pooled, lively, seeded, small_subject

from cardgen import measure
from cardgen.space import Space

torchcam_metrics = pytest.importorskip("torchcam.metrics")
torchcam_methods = pytest.importorskip("torchcam.methods")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
TOLERANCE = 1e-4
PAIRS = {"avg_drop": "average_drop", "conf_increase": "increase_in_confidence"}


@pytest.fixture
def small():
    return small_subject(lively(seeded(0, Pooled)), 12, 10)


def theirs(small, i):
    """torchcam's figures for one image, and the map that they rest on, at the image's size."""
    image = small.inputs[i : i + 1].clone().requires_grad_()
    with torchcam_methods.GradCAM(small.model, "features.relu2") as extractor:
        metric = torchcam_metrics.ClassificationMetric(extractor, partial(torch.softmax, dim=-1))
        metric.update(image, class_idx=int(small.targets[i]))
        scores = torch.softmax(small.model(image), dim=-1)
        cam = extractor(int(small.targets[i]), scores)[0]
    resized = torch.nn.functional.interpolate(cam[None], (12, 10), mode="bilinear", align_corners=False)[0, 0]
    return metric.summary(), resized.detach()


def ours(key, small, maps, **options):
    return measure(key, *small.call, maps=maps, noise_draws=1, **options).values


def stretched(maps):
    """From 0 to 1 at the image's size, where torchcam normalises before it resizes."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return low, high


@pytest.mark.parametrize(("name", "key"), PAIRS.items())
def test_agrees_where_the_map_runs_from_0_to_1_at_the_image_s_size(small, name, key):
    found = [theirs(small, i) for i in range(7)]
    maps = torch.stack([cam for _, cam in found])
    low, high = stretched(maps)
    same = ((low < 1e-6) & (high > 1 - 1e-6)).flatten().numpy()
    values, figures = ours(key, small, maps, substrate="zero"), np.array([summary[name] for summary, _ in found])
    assert same.any()
    np.testing.assert_allclose(values[same], figures[same], rtol=0, atol=TOLERANCE)


def test_torchcam_puts_the_mean_colour_where_nothing_shows(small):
    found = [theirs(small, i) for i in range(7)]
    maps, space = torch.stack([cam for _, cam in found]), Space((-1.0,), (1.0,), (0.0,))
    figures = np.array([summary["avg_drop"] for summary, _ in found])
    low, high = stretched(maps)
    same = ((low < 1e-6) & (high > 1 - 1e-6)).flatten().numpy()
    black, zero = (ours("average_drop", small, maps, substrate=name, space=space) for name in ("black", "zero"))
    np.testing.assert_allclose(zero[same], figures[same], rtol=0, atol=TOLERANCE)
    assert np.abs(black - zero)[same].max() > 0.01
