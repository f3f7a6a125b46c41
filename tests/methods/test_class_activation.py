"""The family of class activation against slow references, by hand, and where its members must agree or differ."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from reference import cams as reference
from reference.network import exact
from small_models import SHARPNESS, Pooled, Residual, Tiny, lively, seeded, small_subject, transformer, untouched, vgg
from torch import nn
from torch.nn import functional as F

from cardgen import explain
from cardgen.api import make_subject
from cardgen.errors import CardgenError
from cardgen.features import leaves_after
from cardgen.forward import prepared
from cardgen.methods import METHODS, Explainer, require_fit
from cardgen.methods.lift_cam import lifted
from cardgen.space import Space

BLIND = ("eigen_cam", "activation_map")
BY_GRADIENT = ("grad_cam_plus_plus", "xgrad_cam", "layer_cam")
ANYWHERE = (*BY_GRADIENT, *BLIND, "score_cam", "ablation_cam", "lift_cam")
KEYS = ("cam", *ANYWHERE)
PLACES = {"features.relu1": 3, "features.norm2": 5, "features.relu2": 6}
"""Layers, and how many modules end there."""
UNIT = Space((-3.0,), (3.0,), (0.0,))


def halves(model, at):
    """A float64 network of the tiny kind: up to a layer, and what follows, as modules in a row."""
    model = exact(model)
    last = copy.deepcopy(model.head)
    last.weight.data *= SHARPNESS
    last.bias.data *= SHARPNESS
    return model.features[:at], nn.Sequential(*model.features[at:], nn.Flatten(), last)


def expected(key, small, i, layer="features.relu2", turn=0):
    """The reference's map of sample i for its target, or the class `turn` further."""
    image, target = small.inputs[i], (int(small.targets[i]) + turn) % 4
    if key == "cam":
        model = exact(small.model)
        return reference.cam(model.features, model.head.weight.detach(), image, target)
    features, rest = halves(small.model, PLACES[layer])
    if key == "score_cam":
        return reference.score_cam(small.model, features, image, target, torch.full_like(image, 0.5))
    return getattr(reference, key)(features, rest, image, target)


def subject(key):
    """Where a method is tested: CAM where there is global pooling."""
    return small_subject(lively(seeded(2, Pooled) if key == "cam" else seeded(0, Tiny)), 12, 10)


def places(key):
    return ["features.relu2"] if key == "cam" else list(PLACES)


@pytest.mark.parametrize(("key", "layer"), [(key, layer) for key in KEYS for layer in places(key)])
def test_agrees_with_the_reference(key, layer):
    small = subject(key)
    wanted = torch.stack([expected(key, small, i, layer) for i in range(7)])
    assert wanted.abs().max() > 5e-3
    torch.testing.assert_close(explain(key, *small.call, layer=layer).double(), wanted, rtol=1e-4, atol=1e-5)


def changed(name, function):
    return lambda patch: patch.setattr(reference, name, function)


ALIGNED = changed(
    "upsampled",
    lambda small, h, w: F.interpolate(small[None, None], (h, w), mode="bilinear", align_corners=True)[0, 0],
)
NEAREST = changed("upsampled", lambda small, h, w: F.interpolate(small[None, None], (h, w))[0, 0])
MUTATIONS = {
    **{(key, "corners aligned"): ALIGNED for key in KEYS},
    **{(key, "nearest"): NEAREST for key in KEYS},
    **{(key, "not rectified"): changed("positive", lambda value: value) for key in (*BY_GRADIENT, "ablation_cam", "lift_cam")},
    ("grad_cam_plus_plus", "plain sum"): changed("alpha", lambda g, total: 0.5),
    ("grad_cam_plus_plus", "third derivative left out"): changed("alpha", lambda g, total: g**2 / (2 * g**2 + total)),
    ("xgrad_cam", "plain mean"): changed("share", lambda value, total, count: 1 / count),
    ("xgrad_cam", "not divided"): changed("share", lambda value, total, count: value),
    ("eigen_cam", "centred"): changed("centred", lambda rows: rows - rows.mean(0)),
    ("score_cam", "decrease"): changed("increase", lambda seen, hidden: hidden - seen),
    ("score_cam", "stretched from zero"): changed("stretched", lambda large: large / large.max()),
    ("ablation_cam", "the mean in its place"): changed(
        "silenced", lambda maps, k: torch.stack([m.mean().expand_as(m) if j == k else m for j, m in enumerate(maps)])
    ),
    ("lift_cam", "gradient"): changed("quotient", lambda y, y0, x, x0: float(x > 0)),
}  # fmt: skip


@pytest.mark.parametrize(("key", "name"), MUTATIONS)
def test_a_wrong_reference_would_be_seen(key, name, monkeypatch):
    """At a layer before which, and after which, there is more to be told apart than at the last features."""
    small, layer = subject(key), "features.relu2" if key == "cam" else "features.norm2"
    layer = "features.relu1" if name in ("plain mean", "centred", "gradient") else layer
    found = explain(key, *small.call, layer=layer)
    MUTATIONS[key, name](monkeypatch)
    assert max((found[i] - expected(key, small, i, layer)).abs().max() for i in (0, 3, 5)) > 1e-3


@pytest.mark.parametrize("key", [key for key in KEYS if key not in BLIND])
def test_another_class_would_be_seen(key):
    small = subject(key)
    found = explain(key, *small.call)
    assert all((found[i] - expected(key, small, i, turn=1)).abs().max() > 1e-3 for i in (0, 3, 5))


X = torch.tensor([[[[2.0, 0], [0, 0]], [[0, 1], [1, 2]]]])
BY_HAND = {
    # α = 1/(2 + 2g) and 1/(2 + 4g): w₁ = ¼ + ¼, w₂ = 1/6 + ½ · ¼
    "grad_cam_plus_plus": [[1, 7 / 24], [7 / 24, 7 / 12]],
    # w₁ = 2/2, w₂ = (−1 + 1 + 1)/4
    "xgrad_cam": [[2, 0.25], [0.25, 0.5]],
    "layer_cam": [[2, 0], [1, 1]],
    "activation_map": [[1, 0.5], [0.5, 1]],
    # A¹ and A² are orthogonal with energies 4 and 6
    "eigen_cam": [[0, 1], [1, 2]],
    # w₁ = (3 − 1)/3, w₂ = (3 − 2)/3
    "ablation_cam": [[4 / 3, 1 / 3], [1 / 3, 2 / 3]],
    # contributions 2 and 1
    "lift_cam": [[4, 1], [1, 2]],
    # masks A/2: s is 2 behind the first, −½ + ½ + 1 behind the second; softmax(2, 1) = e/(e + 1), 1/(e + 1)
    "score_cam": [[2 * math.e / (math.e + 1), 1 / (math.e + 1)], [1 / (math.e + 1), 2 / (math.e + 1)]],
}


class TestByHand:
    """Two feature maps, A¹ = 2 0 / 0 0 and A² = 0 1 / 1 2, that are the input's channels.

    s_0 = Σ_p g_p A_p with g¹ = 1 1 / 0 0 and g² = 0 −1 / 1 ½, so s_0 = 2 + 1 = 3; s_1 = 0.
    """

    @staticmethod
    def model(*head):
        model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), *head)
        model[0].weight.data = torch.eye(2).view(2, 2, 1, 1)
        return model.eval()

    def flat(self):
        model = self.model(nn.Flatten(), nn.Linear(8, 2, bias=False))
        model[2].weight.data = torch.tensor([[1.0, 1, 0, 0, 0, -1, 1, 0.5], [0] * 8])
        return model

    @pytest.mark.parametrize("key", BY_HAND)
    def test_the_maps(self, key):
        found = explain(key, self.flat(), X, torch.tensor([0]), space=UNIT)
        torch.testing.assert_close(found[0], torch.tensor(BY_HAND[key], dtype=torch.float32))

    def test_score_cam_with_probabilities(self):
        found = explain("score_cam", self.flat(), X, torch.tensor([0]), space=UNIT, weights="probability")
        first, second = (1 / (1 + math.exp(-s)) for s in (2, 1))
        torch.testing.assert_close(found[0], first * X[0, 0] + second * X[0, 1])

    def test_score_cam_over_another_background(self):
        # black is −1: the first mask shows A¹ = 2 −1 / −1 −1 and A² = 0 −1 / −1 −1, so s = 2 − 1 + 1 − 1 − ½ = ½; the second
        # −1 −1/2 / −1/2 0 and −1 0 / 0 2, so s = −1 − ½ + 1 = −½
        black = {"space": Space((-1.0,), (2.0,), (0.0,)), "background": "black"}
        found = explain("score_cam", self.flat(), X, torch.tensor([0]), **black)
        first = math.e / (math.e + 1)
        torch.testing.assert_close(found[0], first * X[0, 0] + (1 - first) * X[0, 1])

    def test_cam(self):
        model = self.model(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
        model[3].weight.data = torch.tensor([[3.0, -1.0]])
        found = explain("cam", model, X, torch.tensor([0]))
        torch.testing.assert_close(found, torch.tensor([[[6.0, -1], [-1, -2]]]))
        assert float(found.mean()) == pytest.approx(float((model(X) - model[3].bias).detach()))

    def test_lift_cam_through_a_rectifier(self):
        # s = ReLU(Σ A¹ − Σ A² + 1) with sums 2 and 4: from 1 at zero maps to 0; rescaled by (0 − 1)/(−1 − 1) = ½, so that
        # contributions are 1 and −2. The gradient is 0.
        model = self.model(nn.Flatten(), nn.Linear(8, 1), nn.ReLU())
        model[2].weight.data = torch.tensor([[1.0] * 4 + [-1.0] * 4])
        model[2].bias.data.fill_(1.0)
        found = explain("lift_cam", model, X, torch.tensor([0]))
        torch.testing.assert_close(found[0], (X[0, 0] - 2 * X[0, 1]).relu())

    def test_ablation_cam_of_a_negative_score(self):
        model = self.flat()
        model[2].weight.data *= -1  # s_0 = −3: both feature maps speak against the class
        assert torch.equal(explain("ablation_cam", model, X, torch.tensor([0])), torch.zeros(1, 2, 2))


class TestWhereTheyAgree:
    def test_before_global_pooling(self):
        small = subject("cam")
        grad_cam = explain("grad_cam", *small.call)
        torch.testing.assert_close(explain("xgrad_cam", *small.call), grad_cam)
        maps = small.model.features(small.inputs)
        sums = (small.model.head.weight[small.targets][:, :, None, None] * maps).sum(1).relu()
        whole = F.interpolate(sums[:, None], (12, 10), mode="bilinear")[:, 0]
        torch.testing.assert_close(grad_cam * maps[0, 0].numel(), whole.detach())
        assert grad_cam.amax() > 1e-3

    @pytest.mark.parametrize("key", ["xgrad_cam", "grad_cam_plus_plus", "layer_cam"])
    def test_not_at_earlier_layers(self, key):
        small = subject("cam")
        maps = [explain(one, *small.call, layer="features.relu1") for one in (key, "grad_cam")]
        apart = [a / a.amax() - b / b.amax() for a, b in zip(*maps, strict=True) if a.any() and b.any()]
        assert max(float(difference.abs().max()) for difference in apart) > 0.05

    def test_on_a_linear_head(self, tiny):
        """Ablating is contributing, and contributions are Shapley values."""
        scores = tiny.model(tiny.inputs).gather(1, tiny.targets[:, None])[:, :, None].detach()
        lift, ablation = (explain(key, *tiny.call) for key in ("lift_cam", "ablation_cam"))
        torch.testing.assert_close(ablation * scores.abs(), lift, rtol=1e-4, atol=1e-5)
        features, rest = halves(tiny.model, 6)
        found = lifted(tiny.model, tiny.inputs, tiny.targets, "features.relu2").contributions
        for i in (0, 3):
            values = reference.shapley(rest, reference.features_of(features, tiny.inputs[i]), int(tiny.targets[i]))
            np.testing.assert_allclose(found[i], values, rtol=1e-4, atol=1e-5)

    def test_eigen_cam_of_one_pattern(self):
        """Feature maps that are multiples of one another: the map is that pattern, whatever signs they have."""
        model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.Flatten(), nn.Linear(48, 2))
        model[0].weight.data = torch.tensor([2.0, -1.0, 2.0]).view(3, 1, 1, 1)
        x = torch.rand(2, 1, 4, 4)
        torch.testing.assert_close(explain("eigen_cam", model, x, torch.tensor([0, 1])), 3 * x[:, 0])


class TestLiftThroughTheNetwork:
    def test_through_pooling_and_rectifiers(self):
        """VGG's head: the rule of the maximum, of a ReLU in place, and of linear layers."""
        small = small_subject(lively(seeded(0, vgg)), 12, 10)
        model = exact(small.model)
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        layers = [model.pool, model.flatten, *model.classifier]
        for layer, at in (("features.4", 5), ("features.3", 4), ("features.0", 1)):
            found = explain("lift_cam", *small.call, layer=layer)
            for i in (0, 3):
                rows = [*model.features[at:], *layers]
                wanted = reference.lift_cam(model.features[:at], rows, small.inputs[i], int(small.targets[i]))
                torch.testing.assert_close(found[i].double(), wanted, rtol=1e-3, atol=1e-7)

    @pytest.mark.parametrize("layer", ["stem", "stem.0", "layers.0", "layers.0.norm1", "layers.1.relu"])
    def test_contributions_add_up_past_shortcuts_and_reused_rectifiers(self, layer):
        small = small_subject(lively(seeded(0, Residual)), 16, 14)
        with prepared(small.model):
            found = lifted(small.model, *small.call[1:], layer)
        assert found.complete.all()
        assert found.contributions.abs().sum(1).min() > 1e-3

    @pytest.mark.parametrize(
        "act", [F.relu, torch.relu_, F.gelu, F.hardswish, torch.sigmoid, F.leaky_relu, partial(torch.clamp, min=0)]
    )
    def test_activations_that_are_functions(self, act):
        class Functional(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.hidden, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 6), nn.Linear(6, 3)

            def forward(self, x):
                hidden = self.hidden(self.conv(x).mean((2, 3)))
                after = act(hidden)
                return self.head(hidden if act is torch.relu_ else after)  # in place, its result need not be used

        small = small_subject(seeded(0, Functional).eval(), 8, 8)
        with prepared(small.model):
            require_fit(METHODS["lift_cam"], small.model, small.inputs[:1])
            assert lifted(small.model, *small.call[1:], "conv").complete.all()


class TestTheLayer:
    @pytest.mark.parametrize("key", ["ablation_cam", "lift_cam", "score_cam", "eigen_cam"])
    def test_the_last_call_of_a_reused_module_counts(self, key):
        small = small_subject(lively(seeded(0, Residual)), 16, 14)
        block, relu = (explain(key, *small.call, layer=layer) for layer in ("layers.1", "layers.1.relu"))
        torch.testing.assert_close(block, relu)

    @pytest.mark.parametrize("key", ANYWHERE)
    def test_before_an_activation_in_place(self, key):
        small = small_subject(lively(seeded(0, vgg)), 12, 10)
        apart = copy.deepcopy(small.model)
        for module in apart.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        found = explain(key, *small.call, layer="features.3")
        torch.testing.assert_close(found, explain(key, apart, *small.call[1:], layer="features.3"))
        assert found.abs().amax() > 0

    def test_passes_follow_the_number_of_feature_maps(self, tiny):
        for layer, channels in (("features.relu1", 4), ("features.relu2", 5)):
            subject = make_subject(*tiny.call, None, None, 0, 32, layer)
            assert subject.channels == channels
            for key in ("score_cam", "ablation_cam"):
                assert Explainer(METHODS[key], {}, subject.channels).passes == channels + 1
        assert make_subject(*tiny.call, None, None, 0, 32, None).channels == 5


class TestNumbers:
    def test_small_gradients_change_no_weights(self, tiny):
        """An ε in a denominator of the order of g² would."""
        whole = explain("grad_cam_plus_plus", *tiny.call)
        small = tiny._replace(model=copy.deepcopy(tiny.model))
        small.model.head.weight.data *= 1e-5
        features, rest = halves(small.model, 6)
        found = explain("grad_cam_plus_plus", *small.call)
        wanted = torch.stack(
            [reference.grad_cam_plus_plus(features, rest, tiny.inputs[i], int(tiny.targets[i])) for i in range(7)]
        )
        torch.testing.assert_close(found.double() / wanted.amax(), wanted / wanted.amax(), rtol=1e-4, atol=1e-5)
        assert (found / found.amax() - whole / whole.amax()).abs().max() > 0.01

    @pytest.mark.parametrize("key", ANYWHERE)
    def test_silent_feature_maps(self, tiny, key):
        """One that is zero everywhere changes nothing; if all are, so is the map."""
        silent = copy.deepcopy(tiny.model)
        silent.features.norm2.weight.data[2] = silent.features.norm2.bias.data[2] = 0
        assert explain(key, silent, *tiny.call[1:]).abs().amax() > 0
        silent.features.norm2.weight.data[:] = silent.features.norm2.bias.data[:] = 0
        assert not explain(key, silent, *tiny.call[1:]).any()


def refusal(key, model, size=(12, 10)):
    with prepared(model), pytest.raises(CardgenError) as error:
        require_fit(METHODS[key], model, torch.rand(1, 3, *size))
    return str(error.value)


class TestRefusals:
    def test_cam_without_global_pooling(self, tiny):
        said = refusal("cam", tiny.model)
        assert "features.relu2) come Dropout (dropout), Linear (head); expected global average pooling" in said

    def test_cam_before_a_hidden_layer(self):
        layers = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)]
        model = seeded(0, lambda: nn.Sequential(nn.Conv2d(3, 4, 3), *layers)).eval()
        assert "come AdaptiveAvgPool2d (1), Flatten (2), Linear (3), ReLU (4), Linear (5); " in refusal("cam", model)

    @pytest.mark.parametrize("pool", [nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(5)])
    def test_cam_after_other_pooling(self, pool):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.Flatten(), nn.LazyLinear(2))
        model(torch.rand(1, 3, 12, 12))
        assert "ends in global average pooling" in refusal("cam", model.eval(), (12, 12))

    def test_cam_of_a_head_that_is_one_linear_layer_in_other_words(self):
        head = [nn.Dropout(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        model = lively(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *head, nn.Linear(5, 2)))
        require_fit(METHODS["cam"], model.requires_grad_(False), torch.rand(1, 3, 12, 10))

    def test_cam_of_a_layer_where_the_gradient_differs(self):
        with pytest.raises(CardgenError, match="more than averaging and a linear layer; expected global"):
            explain("cam", *subject("cam").call, layer="features.relu1")

    @pytest.mark.parametrize("key", KEYS)
    def test_a_transformer(self, key):
        with pytest.raises(CardgenError, match="after its last convolution"):
            explain(key, *small_subject(transformer(), 16, 16).call)

    def test_lift_cam_where_there_is_no_rule(self):
        class Gated(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.gate, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 2)

            def forward(self, x):
                pooled = self.conv(x).mean((2, 3))
                return self.head(pooled * self.gate(pooled))

        model = seeded(0, Gated).eval()
        assert "computes after conv (Linear (gate), Linear (head)): contributions do not add" in refusal(
            "lift_cam", model
        )
        inputs = torch.rand(2, 3, 12, 10)
        with untouched(model), pytest.raises(CardgenError, match=r"^DeepLIFT has no rule .* after conv \(Linear"):
            explain("lift_cam", model, inputs, torch.tensor([0, 1]))

    def test_lift_cam_of_an_earlier_layer(self):
        class Gate(nn.Module):
            def forward(self, x):
                return x * x.mean((2, 3), keepdim=True)

        layers = [nn.Conv2d(3, 4, 3), Gate(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        small = small_subject(seeded(0, lambda: nn.Sequential(*layers, nn.Linear(4, 2))).eval(), 12, 10)
        explain("lift_cam", *small.call)
        with pytest.raises(CardgenError, match="computes after 0: contributions do not add up"):
            explain("lift_cam", *small.call, layer="0")

    def test_score_cam_with_other_weights(self, tiny):
        with pytest.raises(CardgenError, match=r"^score_cam: weights are 'logit'; expected 'softmax' or 'probability'"):
            explain("score_cam", *tiny.call, weights="logit")


def test_what_runs_after_a_layer():
    model = lively(seeded(0, Residual))
    assert leaves_after(model, torch.rand(1, 3, 16, 14), "layers") == ["AdaptiveAvgPool2d (pool)", "Linear (fc)"]
