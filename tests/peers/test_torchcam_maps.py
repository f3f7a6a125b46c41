"""Maps of class activation against torchcam's own, called as its users call them."""

import pytest
import torch
from small_models import Pooled, Tiny, lively, seeded, small_subject
from torch.nn import functional as F

from cardgen import explain
from cardgen.class_activation import enlarged, weighted
from cardgen.features import features_and_gradients

torchcam_methods = pytest.importorskip("torchcam.methods")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
TOLERANCE = 1e-4
"""In units of the largest value: torchcam adds 1e-8 to denominators."""
PAIRS = {"grad_cam": "GradCAM", "xgrad_cam": "XGradCAM", "layer_cam": "LayerCAM"}


def theirs(small, extractor):
    """torchcam's maps, not normalised, enlarged to the image's size."""
    maps = []
    for i in range(7):
        image, target = small.inputs[i : i + 1].clone().requires_grad_(), int(small.targets[i])
        cam = extractor(target, small.model(image), normalized=False)[0].detach()
        maps.append(F.interpolate(cam[None], (12, 10), mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(maps)


def agree(found, expected):
    scale = expected.abs().max()
    assert scale > 0
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=TOLERANCE)
    assert (found - expected.roll(1, 0)).abs().max() / scale > 100 * TOLERANCE


@pytest.mark.parametrize("layer", ["features.relu1", "features.relu2"])
@pytest.mark.parametrize("key", PAIRS)
def test_gradients(key, layer):
    small = small_subject(lively(seeded(0, Tiny)), 12, 10)
    with getattr(torchcam_methods, PAIRS[key])(small.model, layer) as extractor:
        expected = theirs(small, extractor)
    agree(explain(key, *small.call, layer=layer), expected)


def test_cam():
    small = small_subject(lively(seeded(2, Pooled)), 12, 10)
    with torchcam_methods.CAM(small.model, "features.relu2", fc_layer="head") as extractor:
        expected = theirs(small, extractor)
    found = explain("cam", *small.call)
    agree(found, expected)


def test_score_cam_where_nothing_is_enlarged():
    """torchcam stretches before it enlarges, which is the same on feature maps of the image's size.

    It gives silent feature maps a share of the weight, which dims the map and moves nothing.
    """
    small = small_subject(lively(seeded(0, Tiny)), 12, 10)
    for layer, alike in (("features.relu1", True), ("features.relu2", False)):
        with torchcam_methods.ScoreCAM(small.model, layer) as extractor:
            expected = theirs(small, extractor)
        found = explain("score_cam", *small.call, layer=layer, background="zero")
        found, expected = (maps / maps.amax((1, 2), keepdim=True) for maps in (found, expected))
        assert bool((found - expected).abs().max() < TOLERANCE) == alike


def test_grad_cam_plus_plus_has_squares_in_the_place_of_alpha():
    small = small_subject(lively(seeded(0, Tiny)), 12, 10)
    with torchcam_methods.GradCAMpp(small.model, "features.relu2") as extractor:
        expected = theirs(small, extractor)
    maps, gradients = features_and_gradients(small.model, small.inputs, small.targets, "features.relu2")
    weights = (gradients**2 * gradients.relu()).sum((2, 3))
    agree(enlarged(weighted(maps, weights), small.inputs)[:, 0], expected)
    found = explain("grad_cam_plus_plus", *small.call)
    assert (found / found.max() - expected / expected.max()).abs().max() > 100 * TOLERANCE
