"""Deconvolution against a slow reference, by hand, and where it forgets the image; what it refuses is guided backpropagation's list."""

import warnings

import pytest
import torch
from reference import gradient_family as reference
from reference import methods
from small_models import Residual, every_batch_and_order, lively, seeded, small_subject, untouched, vgg
from torch import nn
from torch.nn import functional as F

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.forward import prepared
from cardgen.methods import METHODS

KEY = "deconvolution"


class Around(nn.Module):
    """A ReLU that runs twice, once with a way around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)
        self.then, self.head = nn.Conv2d(4, 4, 3), nn.Linear(4 * 3 * 2, 3)

    def forward(self, x):
        x = self.conv(x)
        y = self.pool(self.act(x) - x)
        return self.head(self.act(self.then(y)).flatten(1))


SUBJECTS = {
    "residual": lambda: small_subject(lively(seeded(0, Residual)), 16, 14),
    "vgg": lambda: small_subject(lively(seeded(0, vgg)), 12, 10),
    "around": lambda: small_subject(seeded(0, Around).eval(), 12, 10),
}


@pytest.fixture(scope="module")
def pooled():
    """A network with max pooling, on which the method knows the image."""
    return SUBJECTS["vgg"]()


def expected(small, i, target=None):
    target = int(small.targets[i]) if target is None else target
    return reference.deconvolution(small.model, small.inputs[i], target)


def relative(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", SUBJECTS)
def test_agrees_with_the_reference(name):
    small = SUBJECTS[name]()
    with untouched(small.model, small.inputs), warnings.catch_warnings():
        warnings.simplefilter("error")
        found, maps = explain(KEY, *small.call, reduce=False), explain(KEY, *small.call)
    for i in (0, 1, 3):
        wanted = expected(small, i)
        assert relative(found[i], wanted) < 1e-4
        assert relative(maps[i], wanted.abs().amax(0)) < 1e-4


def test_by_hand():
    # x = (1, 2), h = (x₁ + x₂, x₁ − x₂) = (3, −1) through a ReLU, s = 2 h₁⁺ + 7 h₂⁺ − 5 h₁⁺ on another way, s' = −s.
    # Back from s: h₁⁺ gets 2 − 5 = −3: rectified to 0; h₂⁺ gets 7 and passes, though h₂ < 0: (7, −7) arrives.
    # From s': h₁⁺ gets 3: (3, 3); h₂⁺ gets −7: 0.
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            a, b = x[:, 0, 0, 0], x[:, 0, 0, 1]
            h = self.act(torch.stack([a + b, a - b], 1))
            score = 2 * h[:, 0] + 7 * h[:, 1] - 5 * h[:, 0]
            return torch.stack([score, -score], 1)

    x = torch.tensor([[[[1.0, 2.0]]]]).expand(2, 1, 1, 2)
    found = explain(KEY, Model(), x, torch.tensor([0, 1]), reduce=False)
    assert found.tolist() == [[[[7.0, -7.0]]], [[[3.0, 3.0]]]]


MUTATIONS = {
    "the gradient": lambda s: methods.guided_backprop(s.model, s.inputs[3], 3, rectifier=nn.ReLU),
    "guided backpropagation": lambda s: methods.guided_backprop(s.model, s.inputs[3], 3),
    "of another class": lambda s: expected(s, 3, 0),
    "of another image": lambda s: expected(s._replace(inputs=s.inputs[[0, 1, 2, 4]]), 3),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(pooled, name):
    found = explain(KEY, *pooled.call, reduce=False)[3]
    assert relative(found, MUTATIONS[name](pooled)) > 0.1


def test_captum_by_itself_rectifies_the_shortcut_too():
    from captum.attr import Deconvolution

    small = SUBJECTS["around"]()
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        found = Deconvolution(small.model).attribute(small.inputs.clone().requires_grad_(), small.targets)
    assert relative(found[0], expected(small, 0)) > 0.1


def test_without_max_pooling_all_images_have_the_map_of_their_class(tiny):
    maps = explain(KEY, tiny.model, tiny.inputs, 0 * tiny.targets)
    torch.testing.assert_close(maps, maps[:1].expand(7, -1, -1))
    assert maps.max() > 0


def test_without_rectifiers_to_disagree_on_it_is_the_gradient():
    # positive weights after the ReLU and every unit on: nothing is gated and nothing is rectified
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 10 * 8, 2)).eval()
    model[0].bias.data.fill_(10.0)
    model[3].weight.data.abs_()
    x, targets = torch.rand(2, 3, 12, 10), torch.tensor([0, 1])
    found = explain(KEY, model, x, targets, reduce=False)
    torch.testing.assert_close(found, explain("vanilla_gradients", model, x, targets, reduce=False))


class Functional(nn.Module):
    """A function in a ReLU's place."""

    def __init__(self, function):
        super().__init__()
        self.function, self.conv, self.act, self.head = function, nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.function(self.act(self.conv(x)) - 0.1).mean((2, 3)))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (F.relu, "the model rectifies once outside nn.ReLU modules (functional relu in the model itself); "),
        (F.gelu, "deconvolution is defined for ReLU, and the model's activations include functional gelu in the model itself; "),
    ],
)  # fmt: skip
def test_rectifiers_of_other_kinds_are_refused(function, message):
    model = Functional(function).eval()
    with pytest.raises(CardgenError) as caught, prepared(model):
        METHODS[KEY].fits(model, torch.rand(1, 3, 12, 10))
    advice = "expected nn.ReLU modules as the only rectifiers; use these in the model, or leave deconvolution out"
    assert str(caught.value) == message + advice


def test_any_batch_and_order(pooled):
    every_batch_and_order(lambda rows, batch: explain(KEY, *pooled.take(rows).call, batch=batch).numpy())


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call)
