"""The recorded flow of a forward pass, on networks whose flow is plain to see."""

import pytest
import torch
from small_models import Residual, lively, seeded, untouched

from cardgen.dataflow import SEVERAL, recorded


class Net(torch.nn.Module):
    """Its own parameter, a layer used once, one used twice, one that shares its weight, and an addition in place."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.once, self.twice, self.tied = (torch.nn.Linear(3, 3) for _ in range(3))
        self.other = torch.nn.Linear(3, 3)
        self.other.weight = self.tied.weight

    def forward(self, x):
        y = self.once(x.flatten(1) * self.scale)
        y += self.twice(self.twice(y))
        return torch.cat([self.tied(y), y], dim=1)


@pytest.fixture
def flow():
    return recorded(seeded(0, Net), torch.rand(1, 3, 1, 1))


def test_calls_in_their_order(flow):
    assert [(call.name, call.module) for call in flow.calls] == [
        ("flatten", ""),
        ("mul", SEVERAL),
        ("linear", "once"),
        ("linear", "twice"),
        ("linear", "twice"),
        ("add_", ""),
        ("linear", SEVERAL),
        ("cat", ""),
    ]


def test_who_takes_what(flow):
    flatten, mul, once, first, second, add, tied, cat = flow.calls
    assert flow.takers[flatten.outputs[0]] == [mul]
    assert flow.takers[once.outputs[0]] == [first, add]
    assert flow.takers[second.outputs[0]] == [add]
    assert flow.takers[add.outputs[0]] == [tied, cat], "what is written in place is a new value"
    assert cat.outputs[0] not in flow.takers


def test_shapes_and_options(flow):
    flatten, *_, cat = flow.calls
    assert (flatten.before, flatten.after, flatten.options) == ((1, 3, 1, 1), (1, 3), (1,))
    assert (cat.after, cat.named) == ((1, 6), {"dim": 1})


def test_modules_that_run_once_with_tensors_of_their_own(flow):
    assert list(flow.once) == ["once"]


def test_hooks_on_the_model_are_not_called_and_nothing_is_touched():
    model = lively(seeded(0, Residual)).train()
    handle = model.register_forward_hook(lambda *_: pytest.fail("counted as a pass"))
    example = torch.rand(1, 3, 16, 14)
    with untouched(model, example):
        assert len(recorded(model, example).calls) == 20
    handle.remove()
