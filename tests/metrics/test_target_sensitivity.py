"""Target sensitivity against its slow reference, by hand, and on controls."""

import numpy as np
import pytest
import torch
from reference import maps as reference_maps
from reference import randomisation as reference
from small_methods import made_method, measured
from small_models import Tiny, every_batch_and_order, lively, seeded, small_subject, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.verdicts import RULES

KEY = "target_sensitivity"


def found(small, method="vanilla_gradients", **options):
    return measure(KEY, *small.call, method=method, **options)


def expected(small, score=reference.target_similarity):
    return [score(small.model, small.inputs[i], int(small.targets[i])) for i in range(7)]


def test_agrees_with_the_reference(tiny):
    scores = found(tiny)
    np.testing.assert_allclose(scores.values, expected(tiny), rtol=0, atol=1e-4)
    assert scores.parts["similarity"].shape == (1, 7)
    np.testing.assert_array_equal(scores.parts["similarity"][0], scores.values)
    assert scores.parts["self"].min() > 0.9
    assert scores.valid.all()


def test_some_targets_are_the_least_likely_class_themselves(tiny):
    # otherwise the agreement above would say nothing of them
    least = [min(range(4), key=lambda c: reference.probability(tiny.model, x, c)) for x in tiny.inputs]
    assert 0 < sum(a == int(b) for a, b in zip(least, tiny.targets, strict=True)) < 7


def named(model, inputs, targets, context):
    """A map that tells the class: its pixel of that number is lit, the others rise in reading order."""
    maps = torch.arange(120.0).repeat(len(inputs), 1)
    maps[torch.arange(len(inputs)), targets] = 1000.0
    return maps.view(-1, 1, 12, 10)


def test_by_hand(tiny):
    # The pixel that is lit ranks 120th, those that it passed fall by one; Spearman is 1 − 6Σd²/(n(n² − 1)), d the ranks' differences.
    def order(lit):
        values = [1000 if i == lit else i for i in range(120)]
        return [sum(v <= value for v in values) for value in values]

    scores = measured(KEY, tiny, made_method(named))
    others = [reference.other_class(tiny.model, x, int(t)) for x, t in zip(tiny.inputs, tiny.targets, strict=True)]
    d2 = [
        sum((i - j) ** 2 for i, j in zip(order(int(t)), order(o), strict=True))
        for t, o in zip(tiny.targets, others, strict=True)
    ]
    assert scores.values == pytest.approx([1 - 6 * d / (120 * (120**2 - 1)) for d in d2], abs=1e-12)
    assert scores.values.max() < 1


MUTATIONS = {
    "the most likely class": lambda model, x, t: reference_maps.spearman(
        reference.largest_gradient(model, x, t),
        reference.largest_gradient(model, x, max(range(4), key=lambda c: reference.probability(model, x, c))),
    ),
    "the next class": lambda model, x, t: reference_maps.spearman(
        reference.largest_gradient(model, x, t), reference.largest_gradient(model, x, (t + 1) % 4)
    ),
    "the least likely even where it is the target": lambda model, x, t: reference_maps.spearman(
        reference.largest_gradient(model, x, t),
        reference.largest_gradient(model, x, min(range(4), key=lambda c: reference.probability(model, x, c))),
    ),
    "linear correlation": lambda model, x, t: reference_maps.pearson(
        *(
            reference_maps.pixels(reference.largest_gradient(model, x, c))
            for c in (t, reference.other_class(model, x, t))
        )
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    assert np.abs(found(tiny).values - expected(tiny, MUTATIONS[name])).max() > 0.01


def test_two_classes_are_enough():
    small = small_subject(lively(seeded(0, lambda: Tiny(classes=2))), 12, 10)
    scores = found(small)
    np.testing.assert_allclose(scores.values, expected(small), rtol=0, atol=1e-4)


def test_one_class_is_not():
    small = small_subject(lively(seeded(0, lambda: Tiny(classes=1))), 12, 10)
    with pytest.raises(CardgenError) as caught:
        found(small)
    assert str(caught.value) == (
        "target_sensitivity compares two classes; the model has 1 output; leave the metric out, or give the model an output a class"
    )


@pytest.mark.parametrize("method", ["noise", "noise_7", "constant", "planted_truth", "edges"])
def test_controls_say_the_same_of_all_classes_and_fail(tiny, method):
    scores = found(tiny.take(list(range(7)) * 3), method, masks=tiny.masks.repeat(3, 1, 1))
    assert scores.values == pytest.approx(np.ones(21))
    from cardgen.metrics import METRICS
    from cardgen.thresholds import DEFAULTS

    assert RULES["randomisation"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0).verdict == "fail"


def test_flat_maps_of_the_other_class_are_counted(tiny):
    def rectified(model, inputs, targets, context):
        lit = (targets == tiny.targets[: len(targets)]).float().view(-1, 1, 1, 1)
        return inputs.mean(1, keepdim=True) * lit

    scores = measured(KEY, tiny, made_method(rectified))
    assert scores.reported["flat_other"] == 7
    assert scores.values.tolist() == [0.0] * 7
    assert not scores.flat.any()


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: found(tiny.take(rows), batch=batch).values)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        found(tiny, "rise", method_params={"n_masks": 5})
