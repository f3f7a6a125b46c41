"""Methods and infidelity against captum's own, called as its users call them."""

import pytest
import torch
from captum.attr import (
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from captum.metrics import infidelity
from small_models import Pooled, Residual, Tiny, lively, seeded, small_subject, vgg

from cardgen import explain, measure
from cardgen.api import make_subject
from cardgen.perturbations import gaussian, removed, squares
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


def test_input_x_gradient(network):
    small, _ = network
    expected = InputXGradient(small.model).attribute(small.inputs.clone().requires_grad_(), small.targets)
    agree(explain("input_x_gradient", *small.call, reduce=False), expected)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_guided_backprop(network):
    small, _ = network
    expected = GuidedBackprop(small.model).attribute(small.inputs.clone().requires_grad_(), small.targets)
    agree(explain("guided_backprop", *small.call, reduce=False), expected)


def test_smoothgrad_comes_near_with_as_many_draws():
    """The draws are not the same, so only their means are; without noise they agree exactly."""
    small = small_subject(lively(seeded(0, Tiny)), 12, 10, n=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {"nt_type": "smoothgrad", "nt_samples": 2000, "nt_samples_batch_size": 100, "stdevs": 0.3}
        expected = NoiseTunnel(Saliency(small.model)).attribute(
            small.inputs, target=small.targets, abs=False, **options
        )
    found = explain("smoothgrad", *small.call, reduce=False, n_samples=2000, noise_level=0.3)
    plain = explain("vanilla_gradients", *small.call, reduce=False)
    assert (found - expected).norm() < 0.03 * expected.norm()
    assert (plain - expected).norm() > 0.1 * expected.norm()


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("name", "value"), [("black", -1.0), ("grey", 0.5)])
def test_occlusion(name, value, stride):
    small = small_subject(lively(seeded(0, lambda: Tiny(height=16, width=16))), 16, 16)
    expected = Occlusion(lambda x: small.model(x).softmax(1)).attribute(
        small.inputs, (3, 4, 4), strides=(3, stride, stride), baselines=value, target=small.targets
    )
    options = {"window": 4 / 16, "stride": stride / 16, "background": name, "space": Space((-1.0,), (2.0,), (0.5,))}
    agree(explain("occlusion", *small.call, **options), expected[:, 0])


def test_occlusion_in_captum_lets_the_last_window_hang_over_the_border():
    """On 10 pixels, windows of 4 at 0, 3 and 6 in both; at 0, 4 and 8, cut at the border, in captum, and at 0, 4 and 6 here."""
    small = small_subject(lively(seeded(0, lambda: Tiny(height=10, width=10))), 10, 10)
    occlusion = Occlusion(lambda x: small.model(x).softmax(1))
    for stride, alike in ((3, True), (4, False)):
        expected = occlusion.attribute(
            small.inputs, (3, 4, 4), strides=(3, stride, stride), baselines=0.0, target=small.targets
        )[:, 0]
        found = explain("occlusion", *small.call, window=0.4, stride=stride / 10, background="black")
        assert torch.allclose(found, expected, atol=1e-5) == alike


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


@pytest.mark.parametrize("kind", ["square", "gaussian"])
@pytest.mark.parametrize(("name", "normalize"), [("plain_", False), ("fitted_", True)])
def test_infidelity_under_the_same_perturbations(kind, name, normalize):
    """captum's value is the paper's, and its normalised one the authors' code's: both are reported here beside the score."""
    small, draws = small_subject(lively(seeded(0, Tiny)), 12, 10), 40
    subject = make_subject(*small.call, None, None, 0, 32, None)
    shown = (
        gaussian(subject, 0.2) if kind == "gaussian" else removed(subject, squares(subject, 7, draws, 10 / 28), "black")
    )
    maps = explain("vanilla_gradients", *small.call, reduce=False)
    values = []
    for i in range(7):
        moved = shown(i, 0, draws)
        found = infidelity(
            small.model,
            lambda expanded, moved=moved: (expanded - moved, moved),
            small.inputs[i : i + 1],
            maps[i : i + 1],
            target=int(small.targets[i]),
            n_perturb_samples=draws,
            normalize=normalize,
        )
        values.append(float(found))
    ours = measure("infidelity", *small.call, method="vanilla_gradients", perturbations=draws, noise_draws=1)
    assert ours.valid.all()
    assert ours.reported[f"{name}{kind}"] == pytest.approx(sum(values) / 7, rel=1e-4)
