"""Guided Grad-CAM against its slow reference, against its parts, and against captum's."""

import pytest
import torch
from reference import gradient_family as reference
from reference import methods
from small_models import (
    SHARPNESS,
    Residual,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    untouched,
)
from torch import nn

from cardgen import explain
from cardgen.errors import CardgenError

KEY = "guided_grad_cam"


def halves(small, at=6):
    """A float64 network of the tiny kind, cut at its last feature maps, or earlier."""
    model = methods.exact(small.model)
    return model.features[:at], lambda maps: SHARPNESS * model.head(model.features[at:](maps).flatten(1))


def expected(small, i, target=None, at=6):
    target = int(small.targets[i]) if target is None else target
    return reference.guided_grad_cam(small.model, *halves(small, at), small.inputs[i], target)


def near(found, wanted):
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))


def test_agrees_with_the_reference(tiny):
    found, maps = explain(KEY, *tiny.call, reduce=False), explain(KEY, *tiny.call)
    for i in range(7):
        wanted = expected(tiny, i)
        near(found[i], wanted)
        near(maps[i], wanted.abs().amax(0))
    assert (found < 0).any()


def test_at_another_layer(tiny):
    found = explain(KEY, *tiny.call, reduce=False, layer="features.norm1")
    near(found[0], expected(tiny, 0, at=2))


def test_by_hand():
    # One 1 × 1 convolution without bias copies x, a ReLU leaves it as x > 0, s = Σ w x with w = (2, 2, 2, −2) over 2 × 2 pixels.
    # Guided backprop: max(w, 0) = (2, 2, 2, 0). Grad-CAM: α = the mean of w = 1, L = x. Their product: 2x, and 0 at the last pixel.
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1, bias=False))
    model[0].weight.data.fill_(1.0)
    model[3].weight.data = torch.tensor([[2.0, 2, 2, -2]])
    x = torch.tensor([[[[1.0, 0.5], [0.3, 0.2]]]])
    found = explain(KEY, model.eval(), x, torch.tensor([0]), reduce=False)
    torch.testing.assert_close(found, torch.tensor([[[[2.0, 1.0], [0.6, 0.0]]]]))


def test_it_is_the_product_of_its_parts():
    small = small_subject(lively(seeded(0, Residual)), 16, 14)
    guided = explain("guided_backprop", *small.call, reduce=False)
    where = explain("grad_cam", *small.call, reduce=False)
    torch.testing.assert_close(explain(KEY, *small.call, reduce=False), guided * where)
    torch.testing.assert_close(explain(KEY, *small.call), guided.abs().amax(1) * where[:, 0])


def test_captum_agrees_where_it_is_told_to_enlarge_bilinearly(tiny):
    from captum.attr import GuidedGradCam

    theirs = GuidedGradCam(tiny.model, tiny.model.features.relu2)
    found = explain(KEY, *tiny.call, reduce=False)
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        smooth, coarse = (
            theirs.attribute(tiny.inputs.clone().requires_grad_(), tiny.targets, interpolate_mode=mode).detach()
            for mode in ("bilinear", "nearest")
        )
    near(found, smooth.double())
    assert (found - coarse).abs().max() > 0.01 * found.abs().max()


MUTATIONS = {
    "guided backpropagation alone": lambda s: methods.guided_backprop(s.model, s.inputs[3], 3),
    "Grad-CAM alone": lambda s: methods.grad_cam(*halves(s), s.inputs[3], 3).expand(3, -1, -1),
    "the gradient": lambda s: (
        methods.gradient(methods.exact(s.model), s.inputs[3].double(), 3) * methods.grad_cam(*halves(s), s.inputs[3], 3)
    ),
    "of another class": lambda s: expected(s, 3, 0),
    "at another layer": lambda s: expected(s, 3, at=3),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, reduce=False)[3]
    assert (found - MUTATIONS[name](tiny)).abs().max() > 0.01 * found.abs().max()


def test_models_of_other_activations_or_without_feature_maps_are_refused():
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(320, 3))
    with pytest.raises(CardgenError, match=r"^guided Grad-CAM is defined for ReLU, .* activation is GELU \(1\)"):
        explain(KEY, smooth, torch.rand(2, 3, 12, 10), torch.tensor([0, 1]))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(CardgenError, match=r"^the model executes no Conv2d"):
        explain(KEY, flat, torch.rand(2, 3, 2, 2), torch.tensor([0, 1]))


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch).numpy())


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call)
