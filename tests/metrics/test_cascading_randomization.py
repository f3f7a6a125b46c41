"""Cascading randomisation against its slow reference: every point of the curve."""

import numpy as np
import pytest
from reference import randomisation as reference
from small_models import every_batch_and_order, untouched
from test_model_weight_randomization import reinitialised

from cardgen import measure

KEY = "cascading_randomization"
LAYERS = ["head", "features.norm2", "features.conv2", "features.norm1", "features.conv1"]


def found(small, **options):
    options = {"method": "vanilla_gradients", "reinitialisations": 2} | options
    return measure(KEY, *small.call, **options)


def expected(small, layers, rows, draws=2):
    others = [reinitialised(small.model, small.inputs, draw, layers) for draw in range(draws)]
    return [reference.mean_similarity(small.model, others, small.inputs[i], int(small.targets[i])) for i in range(rows)]


def test_every_point_agrees_with_the_reference(tiny):
    scores = found(tiny, depths=5, curve_samples=7)
    curve = [np.mean(expected(tiny, layers, 7)) for layers in (1, 2, 3, 4, 5)]
    assert list(scores.curve.y) == pytest.approx(curve, abs=1e-3)
    assert scores.values == pytest.approx(expected(tiny, 5, 7), abs=1e-4)


def test_all_points_but_the_last_rest_on_the_first_samples(tiny):
    scores = found(tiny, depths=5, curve_samples=3)
    curve = [np.mean(expected(tiny, layers, 3)) for layers in (1, 2, 3, 4)] + [np.mean(expected(tiny, 5, 7))]
    assert list(scores.curve.y) == pytest.approx(curve, abs=1e-3)


@pytest.mark.parametrize(
    ("depths", "points"), [(1, [5]), (2, [2, 5]), (3, [2, 3, 5]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])]
)
def test_points_are_evenly_spaced_and_end_at_the_last_layer(tiny, depths, points):
    assert list(found(tiny, depths=depths).curve.x) == pytest.approx([k / 5 for k in points])


def test_the_last_point_is_model_weight_randomization(tiny):
    other = measure("model_weight_randomization", *tiny.call, method="vanilla_gradients", reinitialisations=2)
    assert found(tiny).values == pytest.approx(other.values, abs=1e-12)


def test_from_the_bottom_up_would_be_seen(tiny):
    scores = found(tiny, depths=5, curve_samples=7)
    backwards = [np.mean(expected(tiny, layers, 7)) for layers in (5, 4, 3, 2, 1)]
    assert np.abs(np.subtract(scores.curve.y, backwards)).max() > 0.05


def test_one_layer_short_would_be_seen(tiny):
    assert np.abs(found(tiny).values - expected(tiny, 4, 7)).max() > 0.01


@pytest.mark.parametrize("method", ["noise", "constant", "planted_truth"])
def test_controls_stay_as_they_are(tiny, method):
    scores = found(tiny, method=method, masks=tiny.masks)
    assert scores.values == pytest.approx(np.ones(7))
    assert list(scores.curve.y) == pytest.approx(np.ones(5))


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        return found(tiny.take(rows), batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        found(tiny)
