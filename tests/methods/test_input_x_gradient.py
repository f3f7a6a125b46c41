"""Input × gradient against central differences, by hand, and where it sums to the score."""

import pytest
import torch
from reference import methods as reference
from small_models import Linear, every_batch_and_order, untouched
from torch import nn

from cardgen import explain

KEY = "input_x_gradient"


def expected(small, i, target=None):
    return reference.input_x_gradient(small.model, small.inputs[i], int(small.targets[i]) if target is None else target)


def test_agrees_with_the_reference(tiny):
    found, maps = explain(KEY, *tiny.call, reduce=False), explain(KEY, *tiny.call)
    for i in (0, 3):
        torch.testing.assert_close(found[i].double(), expected(tiny, i), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps[i].double(), expected(tiny, i).sum(0), rtol=1e-4, atol=1e-5)


def test_by_hand():
    # s_0 = Σ w·x: two channels of 1 × 2 pixels; w ⊙ x, and added over the channels: 0.5 − 2 and −1 + 0
    w = torch.tensor([[[1.0, -2.0]], [[-4.0, 3.0]]])
    x = torch.tensor([[[[0.5, 0.5]], [[0.5, 0.0]]]])
    found = explain(KEY, Linear(w), x, torch.tensor([0]), reduce=False)
    assert found.tolist() == [[[[0.5, -1.0]], [[-2.0, 0.0]]]]
    assert explain(KEY, Linear(w), x, torch.tensor([0])).tolist() == [[[-1.5, -1.0]]]


def test_the_input_is_what_the_model_takes():
    """The same image and the same function, once normalised outside the model and once inside, give different maps."""
    w, image, mean, std = torch.tensor([[[2.0, -1.0]]]), torch.tensor([[[[0.5, 0.25]]]]), 0.5, 0.25

    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.rest = Linear(w)

        def forward(self, x):
            return self.rest((x - mean) / std)

    zero = torch.tensor([0])
    assert explain(KEY, Linear(w), (image - mean) / std, zero).tolist() == [[[0.0, 1.0]]]
    assert explain(KEY, Inside(), image, zero).tolist() == [[[4.0, -1.0]]]


def test_sums_to_the_score_without_biases():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3, bias=False)
    )
    inputs, targets = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])
    with torch.no_grad():
        scores = model(inputs).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(explain(KEY, model, inputs, targets).sum((1, 2)), scores)


MUTATIONS = {
    "of another class": lambda s, i: expected(s, i, (int(s.targets[i]) + 1) % 4),
    "the gradient alone": lambda s, i: reference.vanilla_gradients(s.model, s.inputs[i], int(s.targets[i])),
    "magnitudes": lambda s, i: expected(s, i).abs(),
    "from grey": lambda s, i: (
        (s.inputs[i].double() - 0.5) * reference.vanilla_gradients(s.model, s.inputs[i], int(s.targets[i]))
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, reduce=False)[3].double()
    assert (found - MUTATIONS[name](tiny, 3)).abs().max() > 1e-3


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch).numpy())


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call)
