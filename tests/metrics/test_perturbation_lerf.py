"""Least relevant first against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import curves
from small_models import Linear, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.space import Space

TOLERANCE = 1e-5  # logits of the small model reach ten
KEY = "perturbation_lerf"


def expected(small, **options):
    return [
        curves.least_relevant_first(small.model, small.inputs[i], int(small.targets[i]), small.maps[i], **options)
        for i in range(7)
    ]


@pytest.mark.parametrize("steps", [2, 7, 16, 50, 120])  # 120 / 16 is 7.5, where it matters from which end one rounds
def test_agrees_with_the_reference(tiny, steps):
    found = measure(KEY, *tiny.call, maps=tiny.maps - 0.5, steps=steps).values
    np.testing.assert_allclose(found, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "colour"), [("zero", 0.0), ("black", -1.0), ("mean", 0.25)])
def test_zero_is_that_of_the_models_own_space(tiny, name, colour):
    space = Space((-1.0,), (3.0,), (0.25,))
    found = measure(KEY, *tiny.call, maps=tiny.maps, steps=10, substrate=name, space=space).values
    np.testing.assert_allclose(found, expected(tiny, steps=10, colour=colour), rtol=0, atol=TOLERANCE)


def test_by_hand():
    # s_0(x) = 4 a + 2 b − c − 3 d on an image of ones, set to zero from the smallest value up; s_0 = 2 at first:
    # d c b a: 2, 5, 6, 4, 0 → (1 + 5 + 6 + 4 + 0)/4 = 4
    # a b c d: 2, −2, −4, −3, 0 → (1 − 2 − 4 − 3 + 0)/4 = −2
    model, images = Linear([4.0, 2.0, -1.0, -3.0]), torch.ones(2, 1, 2, 2)
    maps = torch.tensor([[[4.0, 2.0], [-1.0, -3.0]], [[-4.0, -2.0], [1.0, 3.0]]])
    found = measure(KEY, model, images, torch.tensor([0, 0]), maps=maps, steps=4)
    assert found.values == pytest.approx([4.0, -2.0], abs=1e-6)
    one = measure(KEY, model, images[:1], torch.tensor([0]), maps=maps[:1], steps=4)
    assert one.curve.y == pytest.approx([2, 5, 6, 4, 0], abs=1e-6)  # it begins with the whole image
    assert one.reported == pytest.approx({"on_image": 2.0, "on_substrate": 0.0}, abs=1e-6)


def test_it_is_most_relevant_first_of_the_negated_map(tiny):
    """120 pixels are 10 equal steps, so both ends cut alike."""
    found = measure(KEY, *tiny.call, maps=tiny.maps, steps=10)
    other = measure("perturbation_morf", *tiny.call, maps=-tiny.maps, steps=10)
    np.testing.assert_allclose(found.values, other.values, rtol=0, atol=TOLERANCE)
    assert found.curve.y == pytest.approx(other.curve.y, abs=TOLERANCE)


MUTATIONS = {
    "most relevant first": lambda monkey: monkey.setattr(
        curves, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
    "by magnitude": lambda monkey: monkey.setattr(
        curves, "descending", lambda saliency, right=curves.descending: right(saliency.abs())
    ),
    "one pixel late": lambda monkey: monkey.setattr(
        curves, "counts", lambda pixels, steps, right=curves.counts: [max(c - 1, 0) for c in right(pixels, steps)]
    ),
    "a probability for the logit": lambda monkey: monkey.setattr(curves, "logit", curves.probability),
    "a plain mean for the trapezoid": lambda monkey: monkey.setattr(
        curves, "area", lambda values, shares: sum(values) / len(values)
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    signed = tiny._replace(maps=tiny.maps - 0.5)
    found = measure(KEY, *signed.call, maps=signed.maps, steps=12).values
    np.testing.assert_allclose(found, expected(signed, steps=12), rtol=0, atol=TOLERANCE)
    MUTATIONS[name](monkeypatch)
    assert np.abs(found - expected(signed, steps=12)).max() > 100 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score, tolerance=TOLERANCE)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure(KEY, *tiny.call, maps=tiny.maps)


@pytest.mark.usefixtures("as_users_run")
def test_steps_that_make_no_curve_are_refused(tiny):
    with pytest.raises(CardgenError) as error:
        measure(KEY, *tiny.call, maps=tiny.maps, steps=1)
    assert str(error.value) == (
        "a curve of 1 steps over 120 pixels; expected 2 to 120 steps; set the parameter steps, or give larger images"
    )
