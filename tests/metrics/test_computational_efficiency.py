"""The cost of a map: passes counted by another hook than the metric's own, and times that make sense."""

import numpy as np
import pytest
import torch
from small_models import Pooled, every_batch_and_order, lively, seeded, untouched

from cardgen import explain, measure
from cardgen.errors import CardgenError
from cardgen.methods import METHODS

KEY = "computational_efficiency"


class Counting(torch.nn.Module):
    """Counts samples forwarded, and those that a gradient flows back through, by what autograd itself does."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.forwards, self.backwards = inner, 0, 0

    def forward(self, x):
        self.forwards += len(x)
        out = self.inner(x)
        if out.requires_grad:
            out.register_hook(lambda grad: setattr(self, "backwards", self.backwards + len(grad)))
        return out


@pytest.mark.parametrize(
    ("method", "parameters", "forwards", "backwards"),
    [
        ("vanilla_gradients", {}, 1, 1),
        ("integrated_gradients", {"steps": 12}, 12, 12),
        ("grad_cam", {}, 1, 1),
        ("rise", {"n_masks": 40}, 40, 0),
        ("noise", {}, 0, 0),
        ("edges", {}, 0, 0),
    ],
)
def test_passes_are_those_that_the_model_sees(tiny, method, parameters, forwards, backwards):
    model = Counting(tiny.model)
    explain(method, model, tiny.inputs[:1], tiny.targets[:1], layer="inner.features.relu2", **parameters)
    assert (model.forwards, model.backwards) == (forwards, backwards)
    found = measure(KEY, *tiny.call, method=method, method_params=parameters)
    assert found.values.tolist() == [float(forwards + backwards)] * 7
    assert METHODS[method].passes(METHODS[method].parameters(parameters)) == forwards + backwards


class Clocked(torch.nn.Module):
    """A model whose forward pass takes two hundredths of a second a batch, and one a sample, on a clock of its own."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.now = 100.0
        monkeypatch.setattr("cardgen.timing.time.perf_counter", lambda: self.now)

    def forward(self, x):
        self.now += 0.02 + 0.01 * len(x)
        return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)


def test_times_on_a_clock_that_only_the_model_moves(tiny, monkeypatch):
    targets = tiny.targets % 2
    found = measure(KEY, Clocked(monkeypatch), tiny.inputs, targets, method="vanilla_gradients", batch=2).timing
    assert found["seconds_batch_1"] == pytest.approx(0.03)
    assert found["seconds_best_batch"] == pytest.approx((4 * 0.02 + 7 * 0.01) / 7)  # 7 samples in 4 batches of 2
    assert found["seconds_half_size"] == found["seconds_double_size"] == pytest.approx(0.03)
    masks = measure(
        KEY, Clocked(monkeypatch), tiny.inputs, targets, method="rise", method_params={"n_masks": 10}, batch=5
    ).timing
    assert masks["seconds_batch_1"] == pytest.approx(2 * 0.02 + 10 * 0.01)  # 10 masks in 2 batches of 5
    assert masks["seconds_best_batch"] == pytest.approx((14 * 0.02 + 70 * 0.01) / 7)


def test_memory_is_a_gauge_s_reading_or_nothing(tiny):
    memory = measure(KEY, *tiny.call, method="rise", method_params={"n_masks": 20}).timing["peak_memory_mb"]
    assert memory is None or 0 <= memory < 1000


def test_other_sizes_only_where_the_model_takes_them(tiny):
    one_size = measure(KEY, *tiny.call, method="vanilla_gradients").timing
    assert "seconds_half_size" not in one_size
    pooled = lively(seeded(0, Pooled))
    for method in ("vanilla_gradients", "grad_cam", "planted_truth"):
        any_size = measure(KEY, pooled, tiny.inputs, tiny.targets, method=method, masks=tiny.masks).timing
        assert any_size["seconds_half_size"] > 0
        assert any_size["seconds_double_size"] > 0


def test_images_that_are_too_small_at_half_their_size(tiny):
    """Half of 12 × 10 is 6 × 5, which no 11 × 11 window can be mirrored in: the size is left out, the metric goes on."""
    found = measure(
        KEY,
        lively(seeded(0, Pooled)),
        tiny.inputs,
        tiny.targets,
        method="rise",
        method_params={"n_masks": 5, "background": "blur"},
    )
    assert "seconds_half_size" not in found.timing
    assert found.timing["seconds_double_size"] > 0


def test_own_maps_have_no_cost(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_a_pass_left_out_would_be_seen(tiny, monkeypatch):
    model = Counting(tiny.model)
    from cardgen import forward

    right = forward.counted
    monkeypatch.setattr(forward, "counted", lambda m, add: right(m, lambda samples: add(samples // 2)))
    monkeypatch.setattr("cardgen.study.counted", forward.counted)
    explain("vanilla_gradients", model, tiny.inputs[:1], tiny.targets[:1])
    found = measure(KEY, *tiny.call, method="vanilla_gradients")
    assert found.values[0] != model.forwards + model.backwards


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        found = measure(KEY, *some.call, method="integrated_gradients", method_params={"steps": 4}, batch=batch).values
        return found + np.array(rows)  # all samples cost the same; the helper asks for scores that differ

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="grad_cam")
