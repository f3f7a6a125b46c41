"""Average drop and increase in confidence against torchcam's own, called as its users call them."""

from functools import partial

import numpy as np
import pytest
import torch
from small_models import Tiny, lively, seeded, small_subject

from cardgen import measure
from cardgen.space import Space

torchcam_metrics = pytest.importorskip("torchcam.metrics")
torchcam_methods = pytest.importorskip("torchcam.methods")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
TOLERANCE = 1e-4
PAIRS = {"avg_drop": "average_drop", "conf_increase": "increase_in_confidence"}


@pytest.fixture
def small():
    """A model certain enough that masking costs it something; the class explained is the prediction."""
    found = small_subject(lively(seeded(0, Tiny)), 12, 10)
    with torch.no_grad():
        return found._replace(targets=found.model(found.inputs).argmax(1))


def theirs(small, layer):
    """torchcam's figures for each image, and the maps that they rest on, at the image's size."""
    figures, maps = {name: [] for name in PAIRS}, []
    for i in range(7):
        image, target = small.inputs[i : i + 1].clone().requires_grad_(), int(small.targets[i])
        with torchcam_methods.GradCAMpp(small.model, layer) as extractor:
            metric = torchcam_metrics.ClassificationMetric(extractor, partial(torch.softmax, dim=-1))
            metric.update(image, class_idx=target)
            cam = extractor(target, torch.softmax(small.model(image), dim=-1))[0]
        for name, found in figures.items():
            found.append(metric.summary()[name])
        maps.append(torch.nn.functional.interpolate(cam[None], (12, 10), mode="bilinear")[0, 0].detach())
    return {name: np.array(found) for name, found in figures.items()}, torch.stack(maps)


def ours(key, small, maps, substrate, space=None):
    options = {"space": space} if space else {}
    return measure(key, *small.call, maps=maps, noise_draws=1, substrate=substrate, **options)


def test_agree_on_maps_of_the_image_s_size(small):
    figures, maps = theirs(small, "features.relu1")
    for name, key in PAIRS.items():
        found = ours(key, small, maps, "zero")
        np.testing.assert_allclose(found.values[found.valid], figures[name][found.valid], rtol=0, atol=TOLERANCE)
        assert found.valid.sum() > 3
    upside_down = ours("average_drop", small, 1 - maps, "zero")
    assert np.abs(upside_down.values - figures["avg_drop"]).max() > 100 * TOLERANCE


def test_torchcam_puts_zero_and_not_black_where_nothing_shows(small):
    figures, maps = theirs(small, "features.relu1")
    space = Space((-1.0,), (1.0,), (0.0,))
    black, zero = (ours("average_drop", small, maps, name, space) for name in ("black", "zero"))
    valid = zero.valid
    np.testing.assert_allclose(zero.values[valid], figures["avg_drop"][valid], rtol=0, atol=TOLERANCE)
    assert np.abs(black.values - zero.values)[valid].max() > 0.01


def test_torchcam_normalises_before_it_resizes(small):
    figures, maps = theirs(small, "features.relu2")
    assert maps.amax((1, 2)).max() < 1, "masks that nowhere show the whole image"
    found = ours("average_drop", small, maps, "zero")
    assert np.abs(found.values - figures["avg_drop"])[found.valid].max() > 10 * TOLERANCE
