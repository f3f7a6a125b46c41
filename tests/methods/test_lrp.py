"""Layer-wise relevance propagation, deep Taylor decomposition and excitation backprop: slow references, by hand, limits, refusals."""

import copy
import gc
import weakref
from functools import partial

import pytest
import torch
import torchvision
from reference import methods, relevance
from small_models import (
    SHARPNESS,
    Linear,
    Residual,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    tiny_subject,
    transformer,
    untouched,
    vgg,
)
from torch import nn

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.features import features_and_gradients
from cardgen.forward import prepared
from cardgen.methods import METHODS
from cardgen.methods.excitation_backprop import _Excitation, stage_before
from cardgen.rules import Ruled
from cardgen.space import Space

SPACE = Space((-0.5,), (1.5,), (0.5,))
BOUNDS = {"low": -0.5, "high": 1.5}
SUBJECTS = {
    "tiny": (tiny_subject, lambda model: relevance.tiny(model, SHARPNESS)),
    "vgg": (lambda: small_subject(lively(seeded(0, vgg)), 12, 10), relevance.vgg),
    "residual": (lambda: small_subject(lively(seeded(0, Residual)), 16, 14), relevance.residual),
}
LAYERS = {"tiny": ("features.relu1", 2), "vgg": ("features.2", 3), "residual": ("layers.0", 6)}
"""A layer, and its number among the reference's steps."""


def expected(key, name, small, i, target=None, **options):
    net = SUBJECTS[name][1](small.model)
    target = int(small.targets[i]) if target is None else target
    if key == "excitation_backprop":
        maps = torch.from_numpy(relevance.excitation(net, small.inputs[i], target, LAYERS[name][1], **options))
        return methods.upsampled(maps, *small.inputs.shape[2:])[None]
    return torch.from_numpy(getattr(relevance, key)(net, small.inputs[i], target, **BOUNDS | options))


def explained(key, name, small, **options):
    return explain(key, *small.call, reduce=False, space=SPACE, layer=LAYERS[name][0], **options)


def relative(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


ALPHA2 = partial(relevance.alpha_beta, alpha=2.0)
EPSILON1 = partial(relevance.epsilon, epsilon=1.0)
CASES = {
    "composite": ("lrp", {}, {}),
    "alpha 2": ("lrp", {"alpha": 2.0}, {"rules": {"convolution": ALPHA2}}),
    "epsilon 1": ("lrp", {"epsilon": 1.0}, {"rules": {"linear": EPSILON1}}),
    "epsilon 1 everywhere": (
        "lrp",
        {"rules": "epsilon", "epsilon": 1.0},
        {"rules": {1: EPSILON1, "convolution": EPSILON1, "linear": EPSILON1}},
    ),
    "deep Taylor": ("deep_taylor", {}, {}),
    "contrastive": ("excitation_backprop", {}, {}),
    "not contrastive": ("excitation_backprop", {"contrastive": False}, {"contrastive": False}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SUBJECTS)
def test_agrees_with_the_reference(name, case):
    key, options, of_reference = CASES[case]
    small = SUBJECTS[name][0]()
    found = explained(key, name, small, **options)
    for i in (0, 3):
        assert relative(found[i], expected(key, name, small, i, **of_reference)) < 1e-4


MUTATIONS = {
    "lrp: of another class": ("lrp", {"target": 0}),
    "lrp: ε in convolutions": ("lrp", {"rules": {"convolution": relevance.epsilon}}),
    "lrp: αβ in linear layers": ("lrp", {"rules": {"linear": relevance.alpha_beta}}),
    "lrp: first layer like others": ("lrp", {"rules": {1: relevance.alpha_beta}}),
    "lrp: bounds of another space": ("lrp", {"low": -1.0}),
    "deep Taylor: first layer like others": ("deep_taylor", {"rules": {1: relevance.positive}}),
    "deep Taylor: biases take their share": ("deep_taylor", {"rules": {"convolution": relevance.alpha_beta}}),
    "excitation: not contrastive": ("excitation_backprop", {"contrastive": False}),
    "excitation: what is negative stays": ("excitation_backprop", {"clipped": False}),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    key, options = MUTATIONS[name]
    assert relative(explained(key, "tiny", tiny)[3], expected(key, "tiny", tiny, 3, **options)) > 0.02


def by_hand():
    """Two pixels (1, ½) through weights (1, −1) and (2, 1) and ReLUs, h = (½, 2½), to the score 2 h₁ + h₂ = 3½."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    model[1].weight.data = torch.tensor([[1.0, -1.0], [2.0, 1.0]])
    model[3].weight.data = torch.tensor([[2.0, 1.0]])
    return model, torch.tensor([[[[1.0, 0.5]]]]), torch.tensor([0])


@pytest.mark.parametrize("key", ["lrp", "deep_taylor"])
def test_by_hand(key):
    # R_h = (1, 2½). The z^B-rule with bounds 0 and 1: unit 1 shares 1·1 and ½·(−1) + 1 = ½, so its 1 as (⅔, ⅓); unit 2 shares 2 and ½.
    found = explain(key, *by_hand(), reduce=False).flatten()
    assert found.tolist() == pytest.approx([2 + 2 / 3, 1 / 2 + 1 / 3], abs=1e-5)


def test_by_hand_with_one_rule_everywhere():
    # LRP-0: unit 1 shares (1, −½) / ½, so its 1 as (2, −1); this is gradient times input, (2 + 2, −2 + 1) ⊙ (1, ½)
    found = explain("lrp", *by_hand(), reduce=False, rules="epsilon").flatten()
    assert found.tolist() == pytest.approx([4.0, -0.5], abs=1e-4)


@pytest.mark.parametrize(("contrastive", "wanted"), [(False, [0.4, 0.6]), (True, [0.0, 0.6])])
def test_excitation_by_hand(contrastive, wanted):
    # Features A = (1, ½) and (2, 1) of pixels (1, ½), weights (1, 2) and (−1, ½). Exciting: 1, 1, –, ½ of 2½, so the chances are 0.4, 0.4,
    # 0, 0.2. Of the negated score: 2 at the third alone, so 0, 0, 1, 0. Difference, added over features: 0.4 − 1 and 0.4 + 0.2.
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1, bias=False))
    model[0].weight.data = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    model[3].weight.data = torch.tensor([[1.0, 2.0, -1.0, 0.5]])
    x = torch.tensor([[[[1.0, 0.5]]]])
    found = explain("excitation_backprop", model, x, torch.tensor([0]), contrastive=contrastive)
    assert found.flatten().tolist() == pytest.approx(wanted)


def without_biases(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.data.zero_()
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.zero_()
            module.running_mean.zero_()
    return model


@pytest.mark.parametrize("name", SUBJECTS)
class TestWithoutBiases:
    def small(self, name):
        small = SUBJECTS[name][0]()
        without_biases(small.model)
        return small

    def scores(self, small):
        with torch.no_grad():
            return small.model(small.inputs).gather(1, small.targets[:, None])[:, 0]

    def test_one_rule_everywhere_is_gradient_times_input(self, name):
        small = self.small(name)
        found = explain("lrp", *small.call, reduce=False, rules="epsilon", epsilon=0.0)
        torch.testing.assert_close(found, explain("input_x_gradient", *small.call, reduce=False), rtol=1e-3, atol=1e-6)

    def test_the_score_is_conserved(self, name):
        small = self.small(name)
        # additions hand relevance to units that are off; such a one with nothing against it loses −β of it
        for alpha in (1.0,) if name == "residual" else (1.0, 2.0):
            found = explain("lrp", *small.call, epsilon=0.0, alpha=alpha).sum((1, 2))
            torch.testing.assert_close(found, self.scores(small), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", SUBJECTS)
def test_deep_taylor_conserves_and_is_positive(name):
    """Whatever the biases, as long as none of them alone makes a unit active, as in the residual network."""
    small = SUBJECTS[name][0]()
    if name == "residual":
        without_biases(small.model)
    found = explain("deep_taylor", *small.call, reduce=False)
    with torch.no_grad():
        scores = small.model(small.inputs).gather(1, small.targets[:, None])[:, 0]
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum((1, 2, 3)), scores.abs(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SUBJECTS)
def test_chances_sum_to_one(name):
    small = SUBJECTS[name][0]()
    if name == "residual":
        without_biases(small.model)
    with prepared(small.model):
        ruled = Ruled(small.model, _Excitation(contrastive=False))
        maps, signals = features_and_gradients(ruled, small.inputs, small.targets, f"model.{LAYERS[name][0]}")
    chances = maps * signals
    assert (chances >= 0).all()
    torch.testing.assert_close(chances.sum((1, 2, 3)), torch.ones(7), rtol=1e-4, atol=1e-4)


def test_at_the_last_features_of_a_pooling_network_it_is_a_map_of_weighted_features():
    """Chances there are features times positive weights, each side divided by its sum: class activation maps but for that."""
    small = SUBJECTS["residual"][0]()
    found = explain("excitation_backprop", *small.call, layer="layers.1")
    with torch.no_grad():
        maps = small.model.layers(small.model.stem(small.inputs))
    weights = small.model.fc.weight.detach()[small.targets][:, :, None, None]
    sides = [maps * side.clamp(min=0) for side in (weights, -weights)]
    wanted = sum(
        sign * side.sum(1) / side.sum((1, 2, 3))[:, None, None].clamp(min=1e-9)
        for sign, side in zip((1, -1), sides, strict=True)
    )
    wanted = torch.nn.functional.interpolate(wanted.clamp(min=0)[:, None], (16, 14), mode="bilinear")[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


class Bottleneck(nn.Module):
    """As in MobileNetV2: values without a ReLU, which are added and go on below zero as above it. No biases."""

    def __init__(self):
        super().__init__()
        layer = lambda *size: nn.Conv2d(*size, bias=False)  # noqa: E731
        self.stem, self.grow, self.shrink, self.last = layer(3, 5, 3), layer(5, 4, 1), layer(4, 5, 1), layer(5, 6, 3)
        self.head = nn.Linear(6, 4, bias=False)

    def forward(self, x):
        y = self.stem(x)
        y = y + self.shrink(self.grow(y).relu())
        return self.head(self.last(y).relu().mean((2, 3)))


class TestValuesWithoutReLU:
    def test_deep_taylor_loses_nothing_below_zero(self):
        small = small_subject(seeded(0, Bottleneck).eval(), 12, 10)
        found = explain("deep_taylor", *small.call)
        with torch.no_grad():
            scores = small.model(small.inputs).gather(1, small.targets[:, None])[:, 0]
        torch.testing.assert_close(found.sum((1, 2)), scores.abs(), rtol=1e-4, atol=1e-6)
        assert found.min() >= -1e-6 * found.max()

    @pytest.mark.parametrize("key", ["deep_taylor", "excitation_backprop"])
    def test_it_is_the_same_map_with_values_of_the_other_sign(self, key):
        """Negating weights to and from a value that has no ReLU changes nothing that the network computes."""
        small = small_subject(seeded(0, Bottleneck).eval(), 12, 10)
        turned = copy.deepcopy(small.model)
        sign = torch.tensor([1.0, -1, -1, 1, -1])
        with torch.no_grad():
            for rows in (turned.stem, turned.shrink):
                rows.weight *= sign[:, None, None, None]
            for columns in (turned.grow, turned.last):
                columns.weight *= sign[:, None, None]
        first = seeded(1, lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())).eval()
        found, wanted = (
            explain(key, Written(model, first), *small.call[1:], layer="first.1") for model in (turned, small.model)
        )
        assert wanted.amax() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


class Prepared(nn.Module):
    """A network that normalises, pads and cuts its images itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6])[:, None, None])

    def forward(self, x):
        x = nn.functional.pad(x.clone(), (0, 1))[..., :-1]
        x -= self.mean
        return self.model(x / -0.25)


@pytest.mark.parametrize("key", ["lrp", "deep_taylor"])
def test_a_network_that_normalises_its_images_itself(tiny, key):
    mean = (0.4, 0.5, 0.6)
    space = Space(tuple((1 - m) / -0.25 for m in mean), tuple(-m / -0.25 for m in mean), (0.0, 0.0, 0.0))
    outside = (tiny.inputs - torch.tensor(mean)[:, None, None]) / -0.25
    wanted = explain(key, tiny.model, outside, tiny.targets, reduce=False, space=space)
    found = explain(key, Prepared(tiny.model).eval(), *tiny.call[1:], reduce=False)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


class Written(nn.Module):
    """A network that computes with its images first."""

    def __init__(self, model, first):
        super().__init__()
        self.model, self.first = model, first

    def forward(self, x):
        return self.model(self.first(x))


WRITTEN = {
    "other names": lambda x: torch.true_divide(torch.multiply(torch.subtract(x, 0.5), 2), 0.5),
    "sign": lambda x: -(0.5 - x) * 4,
    "channels joined": lambda x: torch.cat([(x[:, i : i + 1] - 0.5) * 4 for i in range(3)], 1),
    "channels stacked": lambda x: torch.stack([(channel - 0.5) * 4 for channel in x.unbind(1)], dim=1),
}
"""The same normalisation, written in ways that Prepared is not."""


@pytest.mark.parametrize("key", ["lrp", "deep_taylor"])
@pytest.mark.parametrize("first", WRITTEN)
def test_however_a_normalisation_is_written(tiny, key, first):
    space = Space((-2.0,), (2.0,), (0.0,))
    wanted = explain(key, tiny.model, (tiny.inputs - 0.5) * 4, tiny.targets, reduce=False, space=space)
    found = explain(key, Written(tiny.model, WRITTEN[first]).eval(), *tiny.call[1:], reduce=False)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Ones(nn.Module):
    """Puts a channel of ones beside the image's."""

    def forward(self, x):
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


@pytest.mark.parametrize("key", ["lrp", "deep_taylor"])
def test_a_constant_channel_is_a_bias(tiny, key):
    """Its bounds are its value, so it shares nothing with the image's channels, as a bias does."""
    wide, narrow = seeded(0, lambda: nn.Conv2d(4, 3, 1, bias=False)), nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        narrow.weight.copy_(wide.weight[:, :3])
        narrow.bias.copy_(wide.weight[:, 3, 0, 0])
    found, wanted = (
        explain(key, Written(tiny.model, nn.Sequential(*first, nn.ReLU())).eval(), *tiny.call[1:], reduce=False)
        for first in ([Ones(), wide], [narrow])
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def chain(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class Shortcut(nn.Module):
    """The image itself is added to features of it."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 3)

    def forward(self, x):
        return self.head((self.conv(x).relu() + x).mean((2, 3)))


class Overwritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x)
        self.act(x)
        return self.head(x.mean((2, 3)))


class Moved(nn.Module):
    """Works in place between a convolution and its normalisation, which then cannot be merged."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x)
        x += 1
        return self.head(self.norm(x).relu().mean((2, 3)))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.one, self.other = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x).relu().mean((2, 3))
        return self.one(x) + self.other(x)


class Mean(nn.Module):
    def forward(self, x):
        return (2 * x).mean((2, 3))


def torchvision_model(name):
    return getattr(torchvision.models, name)(weights=None, num_classes=5)


FAMILY = ("lrp", "deep_taylor", "excitation_backprop")
POOLED = ("lrp", "deep_taylor")
REFUSED = {
    "transformer": (transformer, POOLED[:1], r"has no rule for layer_norm in LayerNorm"),
    "GELU": (lambda: chain(nn.GELU()), FAMILY, r"has no rule for gelu in GELU \(1\); expected convolutions"),
    "tanh": (lambda: chain(nn.Tanh()), FAMILY[1:], r"has no rule for tanh in Tanh \(1\)"),
    "normalisation before its layer": (
        lambda: torchvision_model("densenet121"),
        FAMILY,
        r"has no rule for batch_norm in BatchNorm2d \(features.denseblock1.denselayer1.norm1\); .*right after them",
    ),
    "something between a layer and its normalisation": (Moved, FAMILY, "has no rule for "),
    "squeeze and excitation": (lambda: torchvision_model("mobilenet_v3_small"), FAMILY, "has no rule for hardswish in"),
    "the image itself": (Shortcut, FAMILY, "has no rule for add of the image itself and something else in the model"),
    "the image's channels summed": (
        lambda: Written(
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(1800, 2)), lambda x: x.sum(1, keepdim=True)
        ),
        FAMILY[:1],
        "has no rule for sum of the image itself in",
    ),
    "no layer": (Mean, POOLED[:1], "finds no convolution or linear layer in the model"),
    "overwritten": (Overwritten, FAMILY, "^under the rules of .* the model gives other outputs"),
    "two heads": (TwoHeads, FAMILY[2:], "starts at the one layer that gives the scores"),
    "no feature maps": (lambda: Linear(torch.ones(3, 32, 32)), FAMILY[2:], "the model executes no Conv2d"),
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, case in REFUSED.items() for key in case[1]])
def test_refused(name, key):
    build, _, message = REFUSED[name]
    side = 16 if name == "transformer" else 32
    model, example = seeded(0, build).eval(), torch.rand(1, 3, side, side)
    with untouched(model), prepared(model), pytest.raises(CardgenError, match=message):
        METHODS[key].fits(model, example)


def test_activations_that_rise_through_zero_pass_relevance_on():
    small = small_subject(seeded(0, lambda: chain(nn.Tanh(), nn.Conv2d(4, 4, 3), nn.LeakyReLU())).eval(), 12, 10)
    without_biases(small.model)
    found = explain("lrp", *small.call, epsilon=0.0).sum((1, 2))
    with torch.no_grad():
        scores = small.model(small.inputs).gather(1, small.targets[:, None])[:, 0]
    torch.testing.assert_close(found, scores, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("key", FAMILY)
def test_relu6_as_a_module_and_as_a_function(key):
    """torch's module calls hardtanh."""
    as_module = small_subject(
        seeded(0, lambda: chain(nn.ReLU6(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU6())).eval(), 12, 10
    )
    as_function = as_module._replace(model=copy.deepcopy(as_module.model))
    for name in ("1", "3"):
        setattr(as_function.model, name, Function(nn.functional.relu6))
    found, wanted = (explain(key, *small.call, layer="0") for small in (as_module, as_function))
    assert found.abs().amax() > 0
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": "gamma"}, "lrp: rules are 'gamma'; expected composite or epsilon"),
        ({"alpha": 0.5}, "lrp: alpha 0.5 and epsilon 1e-06; expected alpha of at least 1"),
        ({"epsilon": -1.0}, "lrp: alpha 1.0 and epsilon -1.0"),
    ],
)
def test_hyperparameters_that_are_refused(tiny, options, message):
    with pytest.raises(CardgenError, match=message):
        explain("lrp", *tiny.call, **options)


@pytest.mark.parametrize("key", POOLED)
def test_inputs_outside_the_space_are_refused(tiny, key):
    with pytest.raises(CardgenError, match="inputs reach from"):
        explain(key, tiny.model, 2 * tiny.inputs - 1, tiny.targets)


class TestLayer:
    def test_the_stage_before_the_last(self):
        of = lambda name: stage_before(seeded(0, lambda: torchvision_model(name)).eval(), torch.rand(1, 3, 64, 64))  # noqa: E731
        assert of("resnet18") == of("resnet50") == "layer3"
        assert stage_before(seeded(0, vgg).eval(), torch.rand(1, 3, 12, 10)) == "features.1"
        # strides in the first layer alone
        assert stage_before(seeded(0, Residual).eval(), torch.rand(1, 3, 16, 14)) == "layers.1"

    def test_a_sample_has_its_layer_in_any_batch(self):
        """The neck is signed, but on a black image as positive as its bias."""

        def neck():
            model = nn.Sequential(
                *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 6, 3, stride=2), nn.ReLU()),
                *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
            )
            model[0].bias.data.zero_()
            model[2].bias.data.fill_(0.01)
            return model

        small = small_subject(seeded(0, neck).eval(), 16, 14)
        small.inputs[0] = 0
        assert {stage_before(small.model, image[None]) for image in small.inputs} == {"1"}
        found = explain("excitation_backprop", *small.call)
        alone = torch.cat([explain("excitation_backprop", *small.take([i]).call) for i in range(7)])
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-6)

    def test_it_is_the_default(self, tiny):
        found = explain("excitation_backprop", *tiny.call)
        assert torch.equal(found, explain("excitation_backprop", *tiny.call, layer="features.relu1"))

    def test_an_unknown_layer_is_refused(self, tiny):
        with pytest.raises(CardgenError, match=r"no layer is called 'features\.relu3'"):
            explain("excitation_backprop", *tiny.call, layer="features.relu3")


@pytest.mark.parametrize("key", FAMILY)
def test_any_batch_and_order(tiny, key):
    every_batch_and_order(lambda rows, batch: explain(key, *tiny.take(rows).call, batch=batch).numpy(), tolerance=1e-5)


@pytest.mark.parametrize("key", FAMILY)
def test_nothing_is_touched(key):
    small = SUBJECTS["residual"][0]()
    small.model.train()
    with untouched(small.model, small.inputs, small.targets):
        explain(key, *small.call)


def test_no_activations_are_kept():
    """Rules hold values for the way back: these go with the graph, at once."""
    small, kept = tiny_subject(), []
    handle = small.model.features.conv2.register_forward_hook(lambda m, a, output: kept.append(weakref.ref(output)))
    gc.disable()
    try:
        for key in (*FAMILY, "deeplift"):
            explain(key, *small.call)
        assert kept
        assert all(reference() is None for reference in kept)
    finally:
        gc.enable()
        handle.remove()
