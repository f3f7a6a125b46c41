"""Linearity against its slow reference, by hand, on methods that are linear and on those that are not."""

import numpy as np
import pytest
import torch
from reference import siblings as reference
from small_methods import made_method, study_of
from small_models import (
    Linear,
    Plain,
    Pooled,
    Residual,
    Small,
    again,
    every_batch_and_order,
    lively,
    seeded,
    siblings_of,
    small_subject,
    tiny_subject,
    untouched,
)
from torch import nn

from cardgen import explain, measure
from cardgen.api import named
from cardgen.draws import content_ids, generator
from cardgen.errors import CardgenError
from cardgen.forward import slopes
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.metrics.model_sensitivity.linearity import PAIRS, Combined
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "linearity"
FEW = {"steps": 5, "n_masks": 20, "n_samples": 3, "stride": 0.125}
SUMS = ("2 f + 1 g", "1 f - 0.5 g", "-1.5 f + 1 g", "-0.5 f - 2 g")


def found(small, method, siblings=None, **options):
    few = {k: v for k, v in FEW.items() if k in METHODS[method].defaults}
    siblings = siblings or {"seed-1": again(small.model, 11)}
    return measure(KEY, *small.call, method=method, method_params=few, siblings=siblings, **options)


def measured(small, method, other=None):
    study = study_of(small, method)
    study.subject.siblings.update(named({"seed-1": other or again(small.model, 11)}))
    return METRICS[KEY].measure(study, {})


def picked(small):
    """Which sum each sample takes, as its own generator says."""
    return [
        int(torch.randint(len(PAIRS), (1,), generator=generator(0, "linearity", name)))
        for name in content_ids(small.inputs)
    ]


def squared(model, inputs, targets, context):
    with torch.enable_grad():
        return slopes(model, inputs.requires_grad_(), targets).detach() ** 2


@pytest.mark.parametrize(
    ("method", "attribution"),
    [(made_method(squared), reference.squared_gradient), (METHODS["vanilla_gradients"], reference.plain_gradient)],
)
def test_agrees_with_the_reference(tiny, method, attribution):
    scores, other = measured(tiny, method), again(tiny.model, 11)
    expected = [
        reference.linearity(attribution, tiny.model, other, x, int(t), *PAIRS[k])
        for x, t, k in zip(tiny.inputs, tiny.targets, picked(tiny), strict=True)
    ]
    np.testing.assert_allclose(scores.values, expected, rtol=1e-3, atol=1e-5)
    assert scores.valid.all()


def test_by_hand():
    # f = 3x₁ + 4x₂ and g = 8x₁ + 6x₂; a method that gives the squares of the weights: (9, 16), (64, 36), and for 2f + g (14² , 14²).
    # Apart from 2 (9, 16) + (64, 36) = (82, 68) by (114, 128), over 2 √(9² + 16²) + √(64² + 36²).
    inputs = torch.rand(40, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(40, 1, 2, dtype=torch.bool)
    small = Small(Linear([3.0, 4.0]), inputs, torch.zeros(40, dtype=torch.int64), masks, inputs[:, 0])
    scores = measured(small, made_method(squared), Linear([8.0, 6.0]))
    sizes, errors = (337**0.5, 5392**0.5), []
    for a, b in PAIRS:
        total = [(a * f + b * g) ** 2 - (a * f**2 + b * g**2) for f, g in ((3, 8), (4, 6))]
        errors.append((total[0] ** 2 + total[1] ** 2) ** 0.5 / (abs(a) * sizes[0] + abs(b) * sizes[1]))
    assert errors[0] == pytest.approx((114**2 + 128**2) ** 0.5 / (2 * sizes[0] + sizes[1]))
    assert scores.values == pytest.approx([errors[k] for k in picked(small)], rel=1e-5)
    assert set(picked(small)) == {0, 1, 2, 3}
    assert scores.reported == {name: pytest.approx(error, rel=1e-5) for name, error in zip(SUMS, errors, strict=True)}


MUTATIONS = {
    "over the sum's size": lambda a, b, mine, its, both: (
        reference.length(both - (a * mine + b * its)) / reference.length(a * mine + b * its)
    ),
    "a and b the other way round": lambda a, b, mine, its, both: (
        reference.length(both - (b * mine + a * its))
        / (abs(b) * reference.length(mine) + abs(a) * reference.length(its))
    ),
    "with their signs below": lambda a, b, mine, its, both: (
        reference.length(both - (a * mine + b * its)) / (a * reference.length(mine) + b * reference.length(its))
    ),
    "of maps": lambda a, b, mine, its, both: (
        reference.length((both - (a * mine + b * its)).sum(0))
        / (abs(a) * reference.length(mine.sum(0)) + abs(b) * reference.length(its.sum(0)))
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    scores, other, wrong = measured(tiny, made_method(squared)), again(tiny.model, 11), []
    for x, t, k in zip(tiny.inputs.double(), tiny.targets, picked(tiny), strict=True):
        a, b = PAIRS[k]
        networks = [reference.exact(h) for h in (tiny.model, other, Combined(tiny.model, other, a, b))]
        wrong.append(MUTATIONS[name](a, b, *(reference.squared_gradient(h, x, int(t)) for h in networks)))
    assert np.abs(scores.values - wrong).max() > 1e-3


NETWORKS = {"tiny": None, "pooled": Pooled, "residual": Residual}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", ["vanilla_gradients", "input_x_gradient", "integrated_gradients", "smoothgrad"])
def test_methods_that_are_linear_in_the_logits(tiny, method, network):
    small = tiny if network == "tiny" else small_subject(lively(seeded(0, NETWORKS[network])), 12, 10)
    scores = found(small, method)
    assert scores.values.max() < 1e-5
    assert scores.valid.all()


@pytest.mark.parametrize("method", ["rise", "occlusion", "guided_backprop", "grad_cam", "noise", "edges", "constant"])
def test_methods_that_are_not_fail(method):
    small = tiny_subject(40)
    decision = RULES["axiom"](found(small, method), {}, METRICS[KEY].entry, DEFAULTS, 0)
    assert decision.verdict == "fail"
    assert decision.estimate < 0.5


def test_guided_backprop_is_linear_where_both_weights_are_positive():
    """What it cuts off at zero stays cut off under positive weights: a and b of one sign alone would have found it linear."""
    small = tiny_subject(40)
    reported = found(small, "guided_backprop").reported
    assert reported[SUMS[0]] < 1e-5
    assert min(reported[name] for name in SUMS[1:]) > 0.1


def test_what_is_the_same_for_all_networks_is_linear_in_none_of_the_sums(tiny):
    # |a + b − 1| of the same map, over (|a| + |b|) of it
    scores = found(tiny.take([0, 1, 2, 3, 4, 5, 6]), "edges")
    expected = [abs(1 - a - b) / (abs(a) + abs(b)) for a, b in PAIRS]
    assert min(expected) > 0.3
    assert scores.values == pytest.approx([expected[k] for k in picked(tiny)], rel=1e-5)


@pytest.mark.parametrize("method", ["vanilla_gradients", "integrated_gradients", "guided_backprop"])
def test_two_linear_models(method):
    small = small_subject(Linear(torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(1))), 12, 10)
    other = Linear(torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(2)))
    if method == "guided_backprop":  # refuses a network without rectifiers, the model as well as the sum
        with pytest.raises(CardgenError):
            found(small, method, {"seed-1": other})
        return
    assert found(small, method, {"seed-1": other}).values[small.targets.numpy() == 0].max() < 1e-5


def test_class_activation_takes_the_layer_of_f_and_sees_nothing_of_g():
    """On af + bg with a > 0 Grad-CAM gives a times what it gives of f: apart from the sum by the part of g."""
    small = small_subject(lively(seeded(0, Pooled)), 12, 10)
    other = again(small.model, 11)
    scores = found(small, "grad_cam", {"seed-1": other})
    one, its = (explain("grad_cam", model, *small.call[1:], reduce=False).double() for model in (small.model, other))
    for i, k in enumerate(picked(small)):
        (a, b), mine = PAIRS[k], float(one[i].norm())
        if a > 0 and mine > 0:
            theirs = float(its[i].norm())
            assert scores.values[i] == pytest.approx(abs(b) * theirs / (a * mine + abs(b) * theirs), rel=1e-3)


@pytest.mark.parametrize("layer", ["features.relu1", "features.conv2"])
def test_a_layer_that_was_named_is_found_in_the_sum(tiny, layer):
    assert np.isfinite(found(tiny, "grad_cam", layer=layer).values).all()


@pytest.mark.parametrize("where", ["in the method", "in what fits"])
def test_a_method_that_refuses_a_sum_fails_on_its_samples(tiny, where):
    def refuse(model, *_):
        if isinstance(model, Combined) and model.b > 0:
            raise CardgenError("needs one network; expected no sum; give one")

    def picky(model, inputs, targets, context):
        if where == "in the method":
            refuse(model)
        factor = model.a + model.b if isinstance(model, Combined) else 1
        return factor * inputs

    method = made_method(picky, **({"fits": refuse} if where == "in what fits" else {}))
    scores = measured(tiny, method)
    refused = np.array([PAIRS[k][1] > 0 for k in picked(tiny)])
    assert 0 < refused.sum() < 7
    assert scores.values == pytest.approx(refused.astype(float), abs=1e-6)
    for k in set(picked(tiny)):
        told = scores.reported[SUMS[k]]
        assert told == "refused: needs one network" if PAIRS[k][1] > 0 else told < 1e-6
    decision = RULES["axiom"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0)
    assert "f + 1 g (refused: needs one network)" in decision.reason


def test_a_method_that_refuses_every_sum_says_so_once(tiny):
    def picky(model, inputs, targets, context):
        if isinstance(model, Combined):
            raise CardgenError("needs one network; expected no sum; give one")
        return inputs

    scores = measured(tiny, made_method(picky))
    assert scores.values.tolist() == [1.0] * len(scores.values)
    assert dict(scores.reported) == {"every sum": "refused: needs one network"}
    assert scores.reason == "Every sum is refused: needs one network."


def test_a_method_that_refuses_g_itself_is_no_finding(tiny):
    def picky(model, inputs, targets, context):
        if not isinstance(model, Combined) and model is not tiny.model:
            raise CardgenError("needs that very network; expected it; give it")
        return inputs

    with pytest.raises(CardgenError, match="needs that very network"):
        measured(tiny, made_method(picky))


def test_an_error_that_no_one_foresaw_is_no_finding(tiny):
    def broken(model, inputs, targets, context):
        if isinstance(model, Combined):
            raise ZeroDivisionError("oh")
        return inputs

    with pytest.raises(ZeroDivisionError):
        measured(tiny, made_method(broken))


def test_the_sum_gives_weighted_logits_of_both(tiny):
    other = seeded(4, Plain).eval()
    with torch.no_grad():
        one, its = tiny.model.eval()(tiny.inputs), other(tiny.inputs)
        torch.testing.assert_close(Combined(tiny.model, other, -1.5, 1.0)(tiny.inputs), -1.5 * one + its)


def test_the_same_class_for_all(tiny):
    seen = []
    method = made_method(lambda model, inputs, targets, context: seen.append((context.ids, targets.tolist())) or inputs)
    measured(tiny, method)
    told = dict(zip(content_ids(tiny.inputs), tiny.targets.tolist(), strict=True))
    assert all(told[name] == target for ids, targets in seen for name, target in zip(ids, targets, strict=True))
    assert sum(len(ids) for ids, _ in seen) == 21


def test_zero_attributions_satisfy_nothing(tiny):
    scores = measured(tiny, made_method(lambda model, inputs, *_: 0 * inputs))
    assert not scores.valid.any()
    assert scores.flat.all()
    assert RULES["axiom"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0).estimate == 0


def test_networks_of_other_classes_cannot_be_added(tiny):
    with pytest.raises(CardgenError) as caught:
        found(tiny, "vanilla_gradients", {"seed-1": seeded(4, lambda: Plain(3))})
    assert str(caught.value) == (
        "linearity adds the outputs of two networks; expected as many of both, got 4 of the model and 3 of seed-1; give another sibling"
    )


def test_without_g_it_says_so(tiny):
    with pytest.raises(CardgenError, match=r"^needs the sibling model seed-1; "):
        found(tiny, "vanilla_gradients", {"seed-2": tiny.model})


def test_pairs_are_of_all_signs_and_trivial_in_no_case():
    assert {(a > 0, b > 0) for a, b in PAIRS} == {(True, True), (True, False), (False, True), (False, False)}
    assert all(abs(a + b - 1) > 0.3 and abs(a) != abs(b) for a, b in PAIRS)


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        study = study_of(tiny.take(rows), made_method(squared), batch=batch)
        study.subject.siblings.update(named({"seed-1": again(tiny.model, 11)}))
        return METRICS[KEY].measure(study, {}).values

    every_batch_and_order(score, tolerance=1e-5)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    other = siblings_of(tiny.model)["seed-1"].train()
    with untouched(tiny.model, tiny.inputs, tiny.targets), untouched(other):
        found(tiny, "grad_cam", {"seed-1": other})


def test_nothing_is_touched_when_the_method_fails():
    small = tiny_subject()
    other = again(small.model, 11)

    class Fails(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.calls = inner, 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 12:
                raise RuntimeError("out of luck")
            return self.inner(x)

    failing = Fails(other)
    with untouched(small.model), untouched(other), pytest.raises(RuntimeError, match="out of luck"):
        measure(KEY, *small.call, method="vanilla_gradients", batch=1, siblings={"seed-1": failing})
    assert not failing._forward_hooks
