"""Integrated gradients against two slow references, by hand, and against its axioms."""

import pytest
import torch
from reference import methods as reference
from small_models import Linear, every_batch_and_order, lively, seeded, small_subject, untouched, vgg

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.space import Space

KEY = "integrated_gradients"


def expected(small, i, colour=0.0, **options):
    image = small.inputs[i]
    return reference.integrated_gradients(
        small.model, image, int(small.targets[i]), torch.full_like(image, colour), **options
    )


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_agrees_with_the_reference(tiny, steps):
    found = explain(KEY, *tiny.call, reduce=False, steps=steps)
    for i in (0, 3):
        torch.testing.assert_close(found[i].double(), expected(tiny, i, steps=steps), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("baseline", "colour"), [("black", -1.0), ("white", 3.0), ("grey", 1.0), ("mean", 0.25), ("zero", 0.0)]
)
def test_baselines_are_colours_of_the_space(tiny, baseline, colour):
    space = Space((-1.0,), (3.0,), (0.25,))
    found = explain(KEY, *tiny.call, reduce=False, steps=10, baseline=baseline, space=space)
    torch.testing.assert_close(found[2].double(), expected(tiny, 2, colour, steps=10), rtol=1e-4, atol=1e-5)


def test_fifty_nodes_come_near_the_integral(tiny):
    found = explain(KEY, *tiny.call, reduce=False)[1].double()
    image = tiny.inputs[1]
    integral = reference.path_integral(tiny.model, image, 1, torch.zeros_like(image))
    assert (found - integral).norm() < 0.02 * integral.norm()
    coarse = reference.integrated_gradients(tiny.model, image, 1, torch.zeros_like(image), steps=2)
    assert (coarse - integral).norm() > 0.03 * integral.norm(), "two nodes would do: the comparison says nothing"


def test_by_hand():
    # On s_0 = Σ w·x the path's gradient is w everywhere: attributions are w·(x − x̄), exactly, with one node as with fifty, and sum
    # to s(x) − s(x̄). Space from −1 to 1, so black is −1: x − x̄ = x + 1.
    w = torch.tensor([[[1.0, -2.0], [3.0, -4.0]]])
    x = torch.tensor([[[[0.5, 0.0], [-1.0, 1.0]]]])
    for steps in (1, 50):
        found = explain(
            KEY, Linear(w), x, torch.tensor([0]), reduce=False, steps=steps, space=Space((-1.0,), (1.0,), (0.0,))
        )
        torch.testing.assert_close(found, torch.tensor([[[[1.5, -2.0], [0.0, -8.0]]]]))
        assert found.sum().item() == pytest.approx(-8.5)


def test_complete(tiny):
    # relative error of ΣA against s(x) − s(x̄), over seven images
    for model in (tiny.model, lively(seeded(4, vgg))):
        small = small_subject(model, 12, 10)
        total = explain(KEY, *small.call).sum((1, 2)).double()
        with torch.no_grad():
            rows = torch.arange(7)
            clean = small.model(small.inputs)[rows, small.targets]
            base = small.model(torch.zeros_like(small.inputs))[rows, small.targets]
        assert ((total - (clean - base)).abs() < 0.01 * (clean - base).abs() + 5e-3).all()


MUTATIONS = {
    "of another class": lambda s, i: reference.integrated_gradients(
        s.model, s.inputs[i], (int(s.targets[i]) + 1) % 4, torch.zeros_like(s.inputs[i])
    ),
    "without the factor x − x̄": lambda s, i: expected(s, i) / s.inputs[i].double(),
    "gradient times input": lambda s, i: (
        s.inputs[i].double() * reference.gradient(reference.exact(s.model), s.inputs[i].double(), int(s.targets[i]))
    ),
    "from grey": lambda s, i: expected(s, i, 0.5),
    "one node fewer": lambda s, i: expected(s, i, steps=6),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, reduce=False, steps=7)[3].double()
    assert (found - MUTATIONS[name](tiny, 3)).abs().max() > 1e-3


def test_any_batch_and_order(tiny):
    every_batch_and_order(
        lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch, steps=6).numpy(), tolerance=1e-5
    )


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call, steps=3)


def test_inputs_outside_the_space_are_refused(tiny):
    with pytest.raises(
        CardgenError, match=r"inputs reach from .*; expected values between \(0\) and \(1\); pass space="
    ):
        explain(KEY, tiny.model, 2 * tiny.inputs - 1, tiny.targets)


def test_an_unknown_baseline_is_refused(tiny):
    with pytest.raises(CardgenError, match="no substrate is called 'noise'"):
        explain(KEY, *tiny.call, baseline="noise")
