"""Guided backpropagation against a slow reference of its own, by hand, and the models that it refuses."""

import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
import torchvision
from reference import methods as reference
from small_models import (
    Linear,
    Residual,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    untouched,
    vgg,
)
from torch import nn
from torch.nn import functional as F

from cardgen import explain, rectified
from cardgen.api import make_subject
from cardgen.errors import CardgenError
from cardgen.forward import prepared
from cardgen.methods import METHODS, attributions
from cardgen.recipes import Network
from cardgen.study import Study
from cardgen.weights import changed, reset

KEY = "guided_backprop"
ADVICE = "expected nn.ReLU modules as the only rectifiers; use these in the model, or leave guided backprop out"


class Around(nn.Module):
    """A ReLU whose input also goes around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4 * 10 * 8, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.head((self.act(x) - x).flatten(1))


class Gated(nn.Module):
    """A ReLU and a sigmoid gate."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.gate, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Linear(320, 3)

    def forward(self, x):
        return self.head((self.act(self.conv(x)) * self.gate(x).sigmoid()).flatten(1))


def torchvision_model(name, **options):
    return lively(seeded(0, lambda: getattr(torchvision.models, name)(weights=None, num_classes=5, **options)))


def vgg11():
    """torchvision's layers with a head of few weights."""
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"])
    return nn.Sequential(
        layers, nn.Flatten(), nn.Linear(2048, 16), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, 5)
    )


SUBJECTS = {
    "residual": lambda: small_subject(lively(seeded(0, Residual)), 16, 14),
    "vgg": lambda: small_subject(lively(seeded(0, vgg)), 12, 10),
    "around": lambda: small_subject(seeded(0, Around).eval(), 12, 10),
    "gated": lambda: small_subject(seeded(0, Gated).eval(), 12, 10),
    "resnet18": lambda: small_subject(torchvision_model("resnet18"), 64, 64, n=2),
    "vgg11": lambda: small_subject(seeded(0, vgg11).eval(), 64, 64, n=2),
}


def expected(small, i, target=None, **options):
    target = int(small.targets[i]) if target is None else target
    return reference.guided_backprop(small.model, small.inputs[i], target, **options)


def relative(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


def test_agrees_with_the_reference(tiny):
    found, maps = explain(KEY, *tiny.call, reduce=False), explain(KEY, *tiny.call)
    for i in (0, 3):
        wanted = expected(tiny, i)
        torch.testing.assert_close(found[i].double(), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps[i].double(), wanted.abs().amax(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SUBJECTS)
def test_networks_that_reuse_work_in_place_or_go_around(name):
    small = SUBJECTS[name]()
    with untouched(small.model, small.inputs), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain(KEY, *small.call, reduce=False)
    plain = explain("vanilla_gradients", *small.call, reduce=False)
    for i in (0, 1):
        wanted = expected(small, i)
        assert relative(found[i], wanted) < 1e-4
        assert relative(plain[i], wanted) > 0.1


def test_by_hand():
    # Two pixels x = (1, 2) through two ReLUs: h = (x₁ + x₂, x₁ − x₂) = (3, −1), k = h₁⁺ (1, −1)ᵀ, s = 2 k₁⁺ − 5 h₁⁺ on another way.
    # Back: k₁ gets 2, kept as k₁ = 3 > 0 and 2 > 0; h₁⁺ gets 2 − 5 = −3 < 0: stopped, so nothing arrives; the gradient is −3 (1, 1).
    # With s' = −s the signal at k₁ is −2: stopped; h₁⁺ gets 0 + 5 > 0 and h₁ = 3 > 0: 5 (1, 1) arrives. h₂ = −1 is off.
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            a, b = x[:, 0, 0, 0], x[:, 0, 0, 1]
            h = self.first(torch.stack([a + b, a - b], 1))
            k = self.second(torch.stack([h[:, 0], -h[:, 0]], 1))
            score = 2 * k[:, 0] - 5 * h[:, 0] + 7 * h[:, 1]
            return torch.stack([score, -score], 1)

    x = torch.tensor([[[[1.0, 2.0]]]]).expand(2, 1, 1, 2)
    found = explain(KEY, Model(), x, torch.tensor([0, 1]), reduce=False)
    assert found.tolist() == [[[[0.0, 0.0]]], [[[5.0, 5.0]]]]
    plain = explain("vanilla_gradients", Model(), x, torch.tensor([0, 1]), reduce=False)
    assert plain.tolist() == [[[[-3.0, -3.0]]], [[[3.0, 3.0]]]]


class Deconvolution(torch.autograd.Function):
    @staticmethod
    def forward(context, h):
        return h.clamp(min=0)

    @staticmethod
    def backward(context, g):
        return g.clamp(min=0)


class DeconvolutionReLU(nn.Module):
    def forward(self, h):
        return Deconvolution.apply(h)


MUTATIONS = {
    "the gradient": {"rectifier": nn.ReLU},
    "deconvolution": {"rectifier": DeconvolutionReLU},
    "of another class": {"target": 0},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, reduce=False)[3]
    assert relative(found, expected(tiny, 3, **MUTATIONS[name])) > 0.1


def test_captum_by_itself_rectifies_the_shortcut_too():
    from captum.attr import GuidedBackprop

    small = SUBJECTS["around"]()
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        found = GuidedBackprop(small.model).attribute(small.inputs.clone().requires_grad_(), small.targets)
    assert relative(found[0], expected(small, 0)) > 0.1


def transformer():
    return torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16, num_classes=3)


def chain(*activations):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *activations, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class Function(nn.Module):
    """A function inside a module of another name, and an nn.ReLU."""

    def __init__(self, function):
        super().__init__()
        self.function, self.body, self.act, self.head = function, nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.function(self.act(self.body(x)) - 0.1).mean((2, 3)))


REFUSED = {
    "ViT": (transformer, "is GELU (encoder.layers.encoder_layer_0.mlp.1)"),
    "MobileNet v3": (lambda: torchvision_model("mobilenet_v3_small"), "include Hardswish (features.0.2)"),
    "MobileNet v2": (lambda: torchvision_model("mobilenet_v2"), "is ReLU6 (features.0.2)"),
    "leaky": (lambda: chain(nn.LeakyReLU()), "is LeakyReLU (1)"),
    "leaky and not": (lambda: chain(nn.ReLU(), nn.LeakyReLU()), "include LeakyReLU (2)"),
    "PReLU": (lambda: chain(nn.PReLU()), "is PReLU (1)"),
    "SiLU": (lambda: chain(nn.SiLU(inplace=True)), "is SiLU (1)"),
    "tanh": (lambda: chain(nn.Tanh()), "is Tanh (1)"),
    "functional GELU": (lambda: Function(F.gelu), "include functional gelu in the model itself"),
}
OUTSIDE = {
    "DenseNet": (lambda: torchvision_model("densenet121"), "once", "functional relu in the model itself"),
    "GoogLeNet": (lambda: torchvision_model("googlenet", init_weights=False), "57 times", "functional relu in conv1"),
    "clamp": (lambda: Function(lambda x: x.clamp(min=0)), "once", "functional relu in the model itself"),
    "nested": (lambda: nn.Sequential(Function(F.relu), nn.Flatten()), "once", "functional relu in 0"),
}


def refusal(build, side=64):
    """The message with which both `fits` and `explain` refuse a model."""
    model, x = build().eval(), torch.rand(2, 3, side, side)
    with pytest.raises(CardgenError) as caught, prepared(model):
        METHODS[KEY].fits(model, x[:1])
    with untouched(model), pytest.raises(CardgenError) as again:
        explain(KEY, model, x, torch.tensor([0, 1]))
    assert str(caught.value) == str(again.value)
    return str(caught.value)


class TestRefused:
    @pytest.mark.parametrize("name", REFUSED)
    def test_other_activations(self, name):
        build, found = REFUSED[name]
        verb = "activations" if found.startswith("include") else "activation"
        side = 32 if name == "ViT" else 64
        assert refusal(build, side) == f"guided backprop is defined for ReLU, and the model's {verb} {found}; {ADVICE}"

    @pytest.mark.parametrize("name", OUTSIDE)
    def test_rectifiers_that_are_no_modules(self, name):
        build, times, where = OUTSIDE[name]
        assert refusal(build) == f"the model rectifies {times} outside nn.ReLU modules ({where}); {ADVICE}"

    def test_no_activation(self):
        assert refusal(lambda: Linear(torch.ones(3, 8, 8)), 8) == (
            f"guided backprop is defined for ReLU, and the model executes none; {ADVICE}"
        )

    def test_a_relu_out_of_sight(self):
        class Hidden(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.acts = nn.Conv2d(3, 4, 3), [nn.ReLU()]

            def forward(self, x):
                return self.acts[0](self.conv(x)).mean((2, 3))

        assert refusal(Hidden).startswith(
            "the model rectifies once outside nn.ReLU modules (functional relu in the model"
        )

    def test_another_network_in_the_models_place(self, tiny):
        """The model itself fits, the network of a recipe does not."""

        class Functional(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, x):
                features = self.model.features
                x = F.relu(features.norm1(features.conv1(x)))
                return self.model.head(features.relu2(features.norm2(features.conv2(x))).flatten(1))

        subject = make_subject(*tiny.call, None, None, 0, 32, None)
        study = Study(subject, 7, METHODS[KEY])
        recipe = Network("functional", lambda model, _: Functional(model))
        with subject.open():
            assert study.maps().any()
            with pytest.raises(CardgenError, match=r"^the model rectifies once outside nn\.ReLU modules"):
                study.maps(recipe)

    def test_it_is_asked_once_a_subject(self, tiny):
        asked = []
        counting = replace(METHODS[KEY], fits=lambda model, example: asked.append(example.shape))
        study = Study(make_subject(*tiny.call, None, None, 0, 32, None), 7, counting)
        with study.subject.open():
            study.explain(slice(0, 3))
            study.explain(slice(3, 7))
        assert asked == [(1, 3, 12, 10)]

    def test_other_methods_are_not_asked(self):
        model = transformer().eval()
        assert explain("vanilla_gradients", model, torch.rand(1, 3, 32, 32), torch.tensor([0])).shape == (1, 32, 32)


def test_the_model_is_copied_once_a_run(tiny, monkeypatch):
    copies = []
    apart = rectified.activations_apart
    monkeypatch.setattr(rectified, "activations_apart", lambda *given: copies.append(given) or apart(*given))
    context = make_subject(*tiny.call, None, None, 0, 3, None).context(slice(None), 0, METHODS[KEY])
    for run in (1, 2):
        attributions(METHODS[KEY], tiny.model, tiny.inputs, tiny.targets, context, {})
        assert len(copies) == run


def test_weights_changed_between_runs_are_seen(tiny):
    context = make_subject(*tiny.call, None, None, 0, 3, None).context(slice(None), 0, METHODS[KEY])
    run = partial(attributions, METHODS[KEY], tiny.model, tiny.inputs, tiny.targets, context, {})
    before = run()
    with prepared(tiny.model), changed(tiny.model, reset(tiny.model, "head", 0, 0)):
        within = run()
        assert torch.equal(within, explain(KEY, *tiny.call, reduce=False, batch=3))
    assert not torch.equal(within, before)
    assert torch.equal(run(), before)


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch).numpy())


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call)
