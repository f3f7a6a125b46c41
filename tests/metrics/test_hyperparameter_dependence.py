"""Hyperparameter dependence against its slow reference, on methods whose dependence is known."""

import numpy as np
import pytest
from reference import maps as reference
from small_methods import made_method, measured, study_of
from small_models import every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.methods import METHODS, Explainer
from cardgen.metrics import METRICS
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "hyperparameter_dependence"
RANGES = {"power": (1, 2, 5), "mix": (0.0, 0.25, 0.6)}


def mixed(model, inputs, targets, context, *, power: int = 1, mix: float = 0.0, side: str = "left"):
    """The image's mean to a power, with some of another channel mixed in."""
    return (1 - mix) * inputs.mean(1, keepdim=True) ** power + mix * inputs[:, 2:].sqrt()


METHOD = made_method(mixed, ranges=RANGES)


def maps(small, **parameters):
    return mixed(small.model, small.inputs, small.targets, None, **parameters)[:, 0]


def expected(small, score=reference.spearman):
    default = maps(small)
    others = [maps(small, **{name: value}) for name, values in RANGES.items() for value in values[1:]]
    return np.array([[score(default[i], other[i]) for i in range(7)] for other in others])


def test_agrees_with_the_reference(tiny):
    scores = measured(KEY, tiny, METHOD)
    found = expected(tiny)
    assert scores.values == pytest.approx(found.min(0), abs=1e-9)
    assert scores.valid.all()
    assert scores.reported == {
        "power": f"2, 5: {found[:2].mean(1).min():.2f} at 2",
        "mix": f"0.25, 0.6: {found[3].mean():.2f} at 0.6",
    }
    assert list(scores.reported) == ["mix", "power"], "what matters most comes first"
    assert scores.reason == (
        "Maps agree in rank (Spearman) with those of other settings, at the value tried that changes them most: "
        f"{found[3].mean():.2f} with mix 0.6, {found[:2].mean(1).min():.2f} with power 2."
    )


def test_by_hand(tiny):
    # A positive power ranks pixels alike: 1. The other sign ranks them the other way round: −1.
    def signed(model, inputs, targets, context, *, sign: float = 1.0, power: int = 1):
        return sign * inputs.mean(1, keepdim=True) ** power

    method = made_method(signed, ranges={"power": (1, 2), "sign": (-1.0, 1.0, 2.0)})
    scores = measured(KEY, tiny, method)
    assert scores.values == pytest.approx(-np.ones(7), abs=1e-6)
    assert scores.reported == {"power": "2: 1.00 at 2", "sign": "-1, 2: -1.00 at -1"}


MUTATIONS = {
    "the mean over values": lambda small: expected(small).mean(0),
    "the first value": lambda small: expected(small)[0],
    "the first hyperparameter": lambda small: expected(small)[:2].min(0),
    "linear correlation": lambda small: expected(
        small, lambda a, b: reference.pearson(reference.pixels(a), reference.pixels(b))
    ).min(0),
    "all changed at once": lambda small: np.array(
        [reference.spearman(a, b) for a, b in zip(maps(small), maps(small, power=5, mix=0.6), strict=True)]
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    assert np.abs(measured(KEY, tiny, METHOD).values - MUTATIONS[name](tiny)).max() > 1e-3


def test_the_setting_in_force_is_what_others_are_compared_with(tiny):
    scores = measured(KEY, tiny, METHOD, mix=0.6)
    assert scores.reported["mix"].startswith("0, 0.25: ")
    assert " with mix 0, " in scores.reason


def test_a_method_without_hyperparameters(tiny):
    scores = measure(KEY, *tiny.call, method="vanilla_gradients")
    assert scores.values.tolist() == [1.0] * 7
    assert scores.valid.all()
    assert scores.reason == "Has no hyperparameters."
    assert scores.reported == {}


def test_nothing_to_try_gives_no_number(tiny):
    scores = measured(KEY, tiny, made_method(mixed))
    assert not scores.valid.any()
    decision = RULES["descriptive"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0)
    assert decision.reason == "Declares no values to try for power, mix and side."
    assert (decision.verdict, decision.estimate, decision.n) == ("descriptive", None, 0)


def test_passes_are_the_sum_over_all_settings():
    def costs(parameters):
        return 10 * parameters["power"]

    method = made_method(mixed, ranges={"power": (1, 2, 5)})
    explainer = Explainer(
        type(method)(method.entry, mixed, costs, ranges=method.ranges), {"power": 1, "mix": 0.0, "side": "left"}
    )
    assert METRICS[KEY].passes(3, explainer, {}) == 3 * (10 + 20 + 50)


def test_flat_maps_agree_with_flat_maps_only(tiny):
    def lit(model, inputs, targets, context, *, light: float = 0.0):
        return light * inputs.mean(1, keepdim=True)

    scores = measured(KEY, tiny, made_method(lit, ranges={"light": (0.0, 1.0)}))
    assert scores.values.tolist() == [0.0] * 7
    assert scores.flat.all()


@pytest.mark.parametrize("key", [key for key in METHODS if METHODS[key].ranges])
def test_declared_ranges_hold_values_that_the_method_has(key):
    method = METHODS[key]
    assert set(method.ranges) <= set(method.defaults)
    for name, values in method.ranges.items():
        assert len(values) > 1
        assert {type(value) for value in values} == {type(method.defaults[name])}


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, maps=tiny.maps)
    assert str(caught.value) == (
        "this metric explains again, under other hyperparameters; it got maps= only; pass method= instead"
    )


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: measured(KEY, tiny.take(rows), METHOD, batch=batch).values)


def test_the_first_maps_are_shared(tiny):
    calls = []

    def noted(model, inputs, targets, context, *, power: int = 1):
        calls.append(power)
        return inputs.mean(1, keepdim=True) ** power

    study = study_of(tiny, made_method(noted, ranges={"power": (1, 2)}))
    study.maps()
    METRICS[KEY].measure(study, {})
    assert calls == [1, 2]


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measured(KEY, tiny, METHOD)
