"""Model consistency against its slow reference, on the model itself, and on maps that know nothing of it."""

import copy

import numpy as np
import pytest
from reference import maps as reference_maps
from reference import siblings as reference
from small_models import again, every_batch_and_order, siblings_of, tiny_subject, untouched

from cardgen import measure, weights
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "model_consistency"
NAMES = ("compressed-pruned", "compressed-int8")


def found(small, method="input_x_gradient", siblings=None, **options):
    options = {"reinitialisations": 2, "siblings": siblings or siblings_of(small.model)} | options
    return measure(KEY, *small.call, method=method, **options)


def maps_of(model, small):
    return [reference.signed(model, x, int(t)) for x, t in zip(small.inputs, small.targets, strict=True)]


def each(one, other, similarity=reference_maps.spearman):
    return np.array([similarity(a, b) for a, b in zip(one, other, strict=True)])


def reinitialised(small, draw):
    other = copy.deepcopy(small.model)
    state = other.state_dict()
    for layer in weights.layers_from_top(small.model, small.inputs[:1]):
        state |= weights.reset(small.model, layer, 0, draw)
    other.load_state_dict(state)
    return other


def test_agrees_with_the_reference(tiny):
    scores, own, others = found(tiny), maps_of(tiny.model, tiny), siblings_of(tiny.model)
    expected = np.stack([each(own, maps_of(others[name], tiny)) for name in NAMES])
    np.testing.assert_allclose(scores.values, expected.mean(0), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(scores.parts["similarity"], scores.values[None])
    baseline = np.stack([each(own, maps_of(reinitialised(tiny, draw), tiny)) for draw in (0, 1)])
    np.testing.assert_allclose(scores.parts["baseline"], baseline, rtol=0, atol=1e-4)
    assert scores.reported == {
        "baseline": "maps of the model with random weights",
        "mean_baseline": pytest.approx(baseline.mean(), abs=1e-4),
        "mean_pruned": pytest.approx(expected[0].mean(), abs=1e-4),
        "mean_int8": pytest.approx(expected[1].mean(), abs=1e-4),
    }
    assert scores.values.mean() > 0.5 > scores.parts["baseline"].mean()


MUTATIONS = {
    "one compression": lambda own, others, small: each(own, maps_of(others["compressed-pruned"], small)),
    "linear correlation": lambda own, others, small: np.mean(
        [
            each(
                own,
                maps_of(others[name], small),
                lambda a, b: reference_maps.pearson(*map(reference_maps.pixels, (a, b))),
            )
            for name in NAMES
        ],
        axis=0,
    ),
    "of magnitudes": lambda own, others, small: np.mean(
        [each(own, maps_of(others[name], small), reference.magnitudes) for name in NAMES], axis=0
    ),
    "another sibling": lambda own, others, small: each(own, maps_of(others["seed-1"], small)),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    wrong = MUTATIONS[name](maps_of(tiny.model, tiny), siblings_of(tiny.model), tiny)
    assert np.abs(found(tiny).values - wrong).max() > 0.005


def verdict(scores):
    return RULES["vs_baseline"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0).verdict


def compressed(one, other):
    return dict(zip(NAMES, (one, other), strict=True))


def test_a_copy_of_the_model_is_consistent():
    small = tiny_subject(24)
    scores = found(small, siblings=compressed(small.model, small.model))
    assert scores.values == pytest.approx(np.ones(24))
    assert verdict(scores) == "pass"


def test_a_model_that_compression_destroyed_is_not():
    small = tiny_subject(24)
    scores = found(small, siblings=compressed(again(small.model, 31), again(small.model, 32)))
    assert verdict(scores) != "pass"


@pytest.mark.parametrize("method", ["noise", "noise_7", "edges", "planted_truth", "constant"])
def test_what_never_changes_has_no_lead_over_its_baseline(method):
    small = tiny_subject(24)
    scores = found(small, method, masks=small.masks)
    assert scores.values == pytest.approx(np.ones(24))
    assert scores.parts["baseline"] == pytest.approx(np.ones((2, 24)))
    assert verdict(scores) == "fail"


@pytest.mark.parametrize("method", ["keyed_noise", "fresh_noise"])
def test_noise_that_changes_with_the_model_does_not_pass(method):
    assert verdict(found(tiny_subject(24), method)) != "pass"


@pytest.mark.parametrize("name", NAMES)
def test_without_a_sibling_it_says_so(tiny, name):
    others = siblings_of(tiny.model)
    others.pop(name)
    with pytest.raises(CardgenError, match=f"^needs the sibling model {name}; "):
        found(tiny, siblings=others)


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: found(tiny.take(rows), batch=batch).values)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    others = siblings_of(tiny.model)
    with untouched(tiny.model, tiny.inputs, tiny.targets), untouched(others["compressed-int8"]):
        found(tiny, siblings=others)
