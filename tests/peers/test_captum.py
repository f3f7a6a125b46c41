"""Methods against captum's own, called as its users call them."""

import pytest
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Saliency
from small_models import Pooled, Residual, Tiny, lively, seeded, small_subject, vgg

from cardgen import explain
from cardgen.space import Space

pytestmark = pytest.mark.peers
TOLERANCE = 1e-4

NETWORKS = {
    "flattening head": (Tiny, 12, 10, "features.relu2"),
    "pooling head": (Pooled, 12, 10, "features.relu2"),
    "residual": (Residual, 16, 16, "layers.1.relu"),
    "vgg": (vgg, 16, 16, "features.4"),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    build, height, width, layer = NETWORKS[request.param]
    return small_subject(lively(seeded(0, build)), height, width), layer


def agree(found, expected):
    """Equal to the tolerance in units of the largest value, which is not zero, and unlike the next sample's."""
    scale = expected.abs().max()
    assert scale > 0
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=TOLERANCE)
    assert (found - expected.roll(1, 0)).abs().max() / scale > 100 * TOLERANCE


def test_vanilla_gradients(network):
    small, _ = network
    inputs = small.inputs.clone().requires_grad_()
    signed = Saliency(small.model).attribute(inputs, target=small.targets, abs=False)
    agree(explain("vanilla_gradients", *small.call, reduce=False), signed)
    usual = Saliency(small.model).attribute(inputs, target=small.targets)
    agree(explain("vanilla_gradients", *small.call), usual.amax(1))


@pytest.mark.parametrize(("name", "value"), [("black", -1.0), ("zero", 0.0), ("white", 2.0)])
def test_integrated_gradients(network, name, value):
    small, _ = network
    expected = IntegratedGradients(small.model).attribute(
        small.inputs, torch.full_like(small.inputs, value), small.targets
    )
    found = explain(
        "integrated_gradients", *small.call, reduce=False, baseline=name, space=Space((-1.0,), (2.0,), (0.5,))
    )
    agree(found, expected)


def test_integrated_gradients_by_another_quadrature(network):
    small, _ = network
    expected = IntegratedGradients(small.model).attribute(
        small.inputs, target=small.targets, method="riemann_middle", n_steps=1000, internal_batch_size=700
    )
    found = explain("integrated_gradients", *small.call, reduce=False, steps=300)
    assert (found - expected).norm() < 0.01 * expected.norm()


def test_grad_cam(network):
    small, layer = network
    module = small.model.get_submodule(layer)
    cam = LayerGradCam(small.model, module).attribute(small.inputs, small.targets, relu_attributions=True)
    agree(
        explain("grad_cam", *small.call, layer=layer),
        LayerAttribution.interpolate(cam, small.inputs.shape[2:], "bilinear")[:, 0],
    )


def test_grad_cam_is_upsampled_smoothly_and_captum_by_nearest(network):
    small, layer = network
    cam = LayerGradCam(small.model, small.model.get_submodule(layer)).attribute(
        small.inputs, small.targets, relu_attributions=True
    )
    nearest = LayerAttribution.interpolate(cam, small.inputs.shape[2:])[:, 0]
    assert (explain("grad_cam", *small.call, layer=layer) - nearest).abs().max() > 0.01 * cam.max()
