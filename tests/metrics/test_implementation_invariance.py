"""Implementation invariance against its slow reference, on methods that look at how a network is written, and on those that do not."""

import numpy as np
import pytest
import torch
from reference import maps as reference
from small_methods import made_method, measured
from small_models import (
    Linear,
    Residual,
    Small,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    tiny_subject,
    untouched,
)
from torch import nn

from cardgen import equivalents, measure
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "implementation_invariance"
NAMES = ("folded_batch_norms", "permuted_channels", "rewritten_relus")


def looks_inside(model, inputs, targets, context):
    """The first convolution's outputs, weighted by their number: other weights or another order give another map."""
    weights = torch.arange(1.0, 5.0).view(4, 1, 1)
    found = (model.features.conv1(inputs) * weights).sum(1, keepdim=True)
    return found * torch.tensor([1.0, -2.0, 3.0]).view(3, 1, 1) + inputs


METHOD = made_method(looks_inside)


def attributions(model, image):
    """The same, written out with loops over pixels in float64."""
    weight, bias = model.features.conv1.weight.double(), model.features.conv1.bias.double()
    padded = torch.zeros(3, 14, 12, dtype=torch.float64)
    padded[:, 1:-1, 1:-1] = image
    found = torch.zeros(3, 12, 10, dtype=torch.float64)
    for i in range(12):
        for j in range(10):
            window = padded[:, i : i + 3, j : j + 3]
            total = sum((k + 1) * ((weight[k] * window).sum() + bias[k]) for k in range(4))
            found[:, i, j] = torch.tensor([total, -2 * total, 3 * total]) + image[:, i, j]
    return found


@pytest.fixture(scope="module")
def pairs():
    """Every sample's attributions of the network, and of each rewritten one, in turn."""
    tiny = tiny_subject()
    networks = [tiny.model, *(rewrite(tiny.model, tiny.inputs[:1]) for rewrite in equivalents.REWRITES.values())]
    with torch.no_grad():
        return [[attributions(network, image) for network in networks] for image in tiny.inputs.double()]


def errors(pairs):
    """A row a sample, a column a rewrite: ‖A₁ − A₂‖ / ‖A₁‖."""
    return np.array([[difference(first, other) for other in others] for first, *others in pairs])


def difference(one, other):
    return reference.relative_difference(one.flatten(0, -2), other.flatten(0, -2))


def test_agrees_with_the_reference(tiny, pairs):
    scores = measured(KEY, tiny, METHOD)
    found = errors(pairs)
    assert scores.values == pytest.approx(found.max(1), rel=1e-4)
    assert found[:, :2].min() > 0.05
    assert found[:, 2].max() == 0
    for i, name in enumerate(NAMES):
        assert scores.reported[name] == pytest.approx(np.median(found[:, i]), rel=1e-4)
    assert scores.valid.all()


def test_by_hand():
    # Hidden units 1·x and 3·x, of which two can only be swapped; the map is the first unit's weight: 1, then 3. |1 − 3| / 1 = 2.
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0], [3.0]])
    inputs = torch.rand(3, 1, 1, 1)

    def first_weight(model, inputs, targets, context):
        return model[1].weight[0, 0] * torch.ones_like(inputs)

    small = Small(model, inputs, torch.tensor([0, 1, 0]), torch.ones(3, 1, 1, dtype=torch.bool), inputs[:, 0])
    scores = measured(KEY, small, made_method(first_weight))
    assert scores.values.tolist() == [2.0] * 3
    assert scores.reported == {
        "folded_batch_norms": "not used: no batch norm directly after a convolution or linear layer",
        "permuted_channels": 2.0,
        "rewritten_relus": "not used: no nn.ReLU module that runs",
    }
    assert scores.reason == (
        "Median difference by rewrite: "
        "folded batch norms (not used: no batch norm directly after a convolution or linear layer), "
        "permuted channels 2, rewritten relus (not used: no nn.ReLU module that runs)."
    )
    decision = RULES["axiom"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0)
    assert decision.reason.endswith(f" {scores.reason}")


MUTATIONS = {
    "the mean over rewrites": lambda pairs: errors(pairs).mean(1),
    "the last rewrite": lambda pairs: errors(pairs)[:, -1],
    "over the norm of the other": lambda pairs: np.array(
        [max(difference(other, first) for other in others) for first, *others in pairs]
    ),
    "of maps": lambda pairs: errors([[a.sum(0) for a in row] for row in pairs]).max(1),
    "over the batch's norm": lambda pairs: (
        errors(pairs).max(1)
        * [float(row[0].norm()) for row in pairs]
        / np.mean([float(row[0].norm()) for row in pairs])
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, pairs, name):
    assert np.abs(measured(KEY, tiny, METHOD).values - MUTATIONS[name](pairs)).max() > 1e-3


@pytest.mark.parametrize("method", ["vanilla_gradients", "integrated_gradients", "grad_cam", "rise"])
@pytest.mark.parametrize("model", ["tiny", "residual"])
def test_methods_that_look_at_the_function_only(tiny, method, model):
    small = tiny if model == "tiny" else small_subject(lively(seeded(0, Residual)), 16, 14)
    few = {k: v for k, v in {"n_masks": 20, "steps": 5}.items() if k in METHODS[method].defaults}
    scores = measure(KEY, *small.call, method=method, method_params=few)
    assert scores.values[scores.valid].max() < 1e-4
    assert scores.valid.sum() > 3
    assert all(isinstance(scores.reported[name], float) for name in NAMES)


@pytest.mark.parametrize("method", ["noise", "edges", "constant"])
def test_controls_stay(tiny, method):
    assert measure(KEY, *tiny.call, method=method).values.tolist() == [0.0] * 7


def test_guided_backprop_refuses_a_rectifier_in_other_words(tiny):
    scores = measure(KEY, *tiny.call, method="guided_backprop")
    assert scores.values.tolist() == [1.0] * 7
    assert scores.reported["folded_batch_norms"] < 1e-4
    assert scores.reported["permuted_channels"] < 1e-4
    assert scores.reported["rewritten_relus"].startswith("refused: guided backprop is defined for ReLU")


@pytest.mark.parametrize("where", ["in the method", "in what fits"])
def test_a_method_that_refuses_a_rewritten_network_depends_on_how_it_is_written(tiny, where):
    def refuse(model, *_):
        if not any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
            raise CardgenError("needs batch norms; expected some; add them")

    def picky(model, inputs, targets, context):
        if where == "in the method":
            refuse(model)
        return inputs

    method = made_method(picky, **({"fits": refuse} if where == "in what fits" else {}))
    scores = measured(KEY, tiny, method)
    assert scores.values.tolist() == [1.0] * 7
    assert scores.reported == {
        "folded_batch_norms": "refused: needs batch norms",
        "permuted_channels": 0.0,
        "rewritten_relus": 0.0,
    }


def test_an_error_that_no_one_foresaw_is_no_finding(tiny):
    def broken(model, inputs, targets, context):
        if not any(isinstance(m, nn.ReLU) for m in model.modules()):
            raise ZeroDivisionError("oh")
        return inputs

    with pytest.raises(ZeroDivisionError):
        measured(KEY, tiny, made_method(broken))


def test_a_rewrite_that_computes_something_else_is_not_used(tiny, monkeypatch):
    class Louder(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return 1.001 * self.model(x)

    monkeypatch.setattr(
        f"{METRICS[KEY].function.__module__}.REWRITES", {"louder": lambda model, example: Louder(model)}
    )
    with pytest.raises(CardgenError) as caught:
        measured(KEY, tiny, METHOD)
    with torch.no_grad():
        off = float((tiny.model(tiny.inputs) * 0.001).abs().max())
    assert str(caught.value) == (
        f"no equivalent network can be derived, so invariance cannot be tested: not used: logits differ by {off:.2g}; "
        "expected batch norms after convolutions, hidden layers, or ReLU modules, in float32; leave the metric out"
    )


def test_a_network_without_anything_to_rewrite_says_so():
    small = small_subject(Linear(torch.ones(3, 12, 10)), 12, 10)
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *small.call, method="vanilla_gradients")
    assert str(caught.value) == (
        "no equivalent network can be derived, so invariance cannot be tested: "
        "not used: no batch norm directly after a convolution or linear layer; "
        "not used: no hidden layer whose channels only reach further layers; "
        "not used: no nn.ReLU module that runs; "
        "expected batch norms after convolutions, hidden layers, or ReLU modules, in float32; leave the metric out"
    )


def test_zero_attributions_are_neither_invariant_nor_not(tiny):
    def dark_on_one(model, inputs, targets, context):
        return inputs * (inputs[:, :1, :1, :1] != tiny.inputs[2, 0, 0, 0])

    scores = measured(KEY, tiny, made_method(dark_on_one))
    assert scores.valid.tolist() == [True, True, False, True, True, True, True]
    assert scores.flat.tolist() == [False, False, True, False, False, False, False]
    decision = RULES["axiom"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0)
    assert decision.estimate == pytest.approx(6 / 7)


def test_the_original_is_explained_once_for_all_rewrites(tiny):
    seen = []

    def noted(model, inputs, targets, context):
        seen.append(model is tiny.model)
        return inputs

    measured(KEY, tiny, made_method(noted))
    assert (seen.count(True), seen.count(False)) == (1, 3)


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: measured(KEY, tiny.take(rows), METHOD, batch=batch).values)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="vanilla_gradients")
