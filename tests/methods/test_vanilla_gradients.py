"""Vanilla gradients against central differences, by hand, and under wrong versions."""

import numpy as np
import pytest
import torch
from reference import methods as reference
from small_models import Linear, every_batch_and_order, untouched

from cardgen import explain

KEY = "vanilla_gradients"
ROWS = (0, 3)


def expected(small, i):
    return reference.vanilla_gradients(small.model, small.inputs[i], int(small.targets[i]))


def test_attributions_agree_with_central_differences(tiny):
    found = explain(KEY, *tiny.call, reduce=False)
    for i in ROWS:
        torch.testing.assert_close(found[i].double(), expected(tiny, i), rtol=1e-4, atol=1e-5)


def test_the_map_is_the_largest_magnitude_over_channels(tiny):
    found = explain(KEY, *tiny.call)
    for i in ROWS:
        torch.testing.assert_close(found[i].double(), expected(tiny, i).abs().amax(0), rtol=1e-4, atol=1e-5)


def test_by_hand():
    # s_0 = Σ w·x and s_1 = 0: ∂s_0/∂x = w on every image, ∂s_1/∂x = 0
    w = torch.tensor([[[1.0, -2.0], [3.0, -4.0]], [[-5.0, 1.0], [0.0, 2.0]]])
    images = torch.rand(2, 2, 2, 2)
    found = explain(KEY, Linear(w), images, torch.tensor([0, 1]), reduce=False)
    assert torch.equal(found, torch.stack([w, torch.zeros_like(w)]))
    assert explain(KEY, Linear(w), images, torch.tensor([0, 1]))[0].tolist() == [[5.0, 2.0], [3.0, 4.0]]


MUTATIONS = {
    "of another class": lambda s, i: reference.vanilla_gradients(s.model, s.inputs[i], (int(s.targets[i]) + 1) % 4),
    "the other sign": lambda s, i: -expected(s, i),
    "of the probability": lambda s, i: expected(s, i) * reference.probability(s.model, s.inputs[i], int(s.targets[i])),
    "times the input": lambda s, i: expected(s, i) * s.inputs[i].double(),
    "batch statistics": lambda s, i: reference.gradient(
        s.model.double().train(), s.inputs[i].double(), int(s.targets[i])
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, reduce=False)[3].double()
    assert (found - MUTATIONS[name](tiny, 3)).abs().max() > 1e-3


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch).numpy())


def test_nothing_is_touched(tiny):
    for training in (True, False):
        tiny.model.train(training)
        with untouched(tiny.model, tiny.inputs, tiny.targets):
            explain(KEY, *tiny.call)


def test_inputs_that_ask_for_gradients_are_left_alone(tiny):
    inputs = tiny.inputs.clone().requires_grad_()
    with torch.no_grad():
        found = explain(KEY, tiny.model, inputs, tiny.targets)
    assert inputs.grad is None
    assert inputs.requires_grad
    assert not found.requires_grad
    np.testing.assert_array_equal(found.numpy(), explain(KEY, *tiny.call).numpy())
