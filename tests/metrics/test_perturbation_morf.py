"""Most relevant first against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import curves
from small_models import Linear, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.space import Space

TOLERANCE = 1e-5  # logits of the small model reach ten
KEY = "perturbation_morf"


def expected(small, **options):
    return [
        curves.most_relevant_first(small.model, small.inputs[i], int(small.targets[i]), small.maps[i], **options)
        for i in range(7)
    ]


@pytest.mark.parametrize("steps", [2, 7, 16, 50, 120])
def test_agrees_with_the_reference(tiny, steps):
    found = measure(KEY, *tiny.call, maps=tiny.maps - 0.5, steps=steps).values
    np.testing.assert_allclose(found, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "colour"), [("zero", 0.0), ("black", -1.0), ("mean", 0.25)])
def test_zero_is_that_of_the_models_own_space(tiny, name, colour):
    space = Space((-1.0,), (3.0,), (0.25,))
    found = measure(KEY, *tiny.call, maps=tiny.maps, steps=10, substrate=name, space=space).values
    np.testing.assert_allclose(found, expected(tiny, steps=10, colour=colour), rtol=0, atol=TOLERANCE)


def test_by_hand():
    # s_0(x) = 4 a + 2 b − c − 3 d on an image of ones, set to zero by signed value; s_0 = 2 at first:
    # a b c d: 2, −2, −4, −3, 0 → (1 − 2 − 4 − 3 + 0)/4 = −2
    # d c b a: 2, 5, 6, 4, 0 → (1 + 5 + 6 + 4 + 0)/4 = 4
    # by magnitude the first would be a d b c instead: 2, −2, 1, −1, 0 → (1 − 2 + 1 − 1)/4 = −0.25
    model, images = Linear([4.0, 2.0, -1.0, -3.0]), torch.ones(2, 1, 2, 2)
    maps = torch.tensor([[[4.0, 2.0], [-1.0, -3.0]], [[-4.0, -2.0], [1.0, 3.0]]])
    found = measure(KEY, model, images, torch.tensor([0, 0]), maps=maps, steps=4)
    assert found.values == pytest.approx([-2.0, 4.0], abs=1e-6)
    assert found.curve.y == pytest.approx([2, 1.5, 1, 0.5, 0], abs=1e-6)
    assert found.reported == pytest.approx({"on_image": 2.0, "on_substrate": 0.0}, abs=1e-6)
    by_size = measure(KEY, model, images[:1], torch.tensor([0]), maps=maps[:1].abs(), steps=4)
    assert by_size.values == pytest.approx([-0.25], abs=1e-6)


def test_the_true_contributions_are_the_lowest_order_of_all():
    import itertools

    model, images = Linear([4.0, 2.0, -1.0, -3.0]), torch.ones(24, 1, 2, 2)
    maps = torch.tensor(list(itertools.permutations([4.0, 2.0, -1.0, -3.0]))).view(24, 2, 2)
    found = measure(KEY, model, images, torch.zeros(24, dtype=torch.int64), maps=maps, steps=4).values
    assert found.argmin() == 0
    assert found.argmax() == 23


MUTATIONS = {
    "least relevant first": lambda monkey: monkey.setattr(
        curves, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
    "by magnitude": lambda monkey: monkey.setattr(
        curves, "descending", lambda saliency, right=curves.descending: right(saliency.abs())
    ),
    "one pixel late": lambda monkey: monkey.setattr(
        curves, "counts", lambda pixels, steps, right=curves.counts: [max(c - 1, 0) for c in right(pixels, steps)]
    ),
    "a probability for the logit": lambda monkey: monkey.setattr(curves, "logit", curves.probability),
    "the logit of another class": lambda monkey: monkey.setattr(
        curves, "logit", lambda m, x, t, right=curves.logit: right(m, x, (t + 1) % 4)
    ),
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


def test_a_constant_added_to_all_logits_is_added_to_the_area(tiny):
    """The logit, unlike the probability, is the model's own number: nothing is taken relative to other classes."""
    before = measure(KEY, *tiny.call, maps=tiny.maps, steps=10).values
    with torch.no_grad():
        tiny.model.head.bias += 0.5
    after = measure(KEY, *tiny.call, maps=tiny.maps, steps=10).values
    assert after - before == pytest.approx(np.full(7, 6.0), abs=TOLERANCE)  # the model multiplies by 12


@pytest.mark.usefixtures("as_users_run")
def test_steps_that_make_no_curve_are_refused(tiny):
    with pytest.raises(CardgenError) as error:
        measure(KEY, *tiny.call, maps=tiny.maps, steps=121)
    assert str(error.value) == (
        "a curve of 121 steps over 120 pixels; expected 2 to 120 steps; set the parameter steps, or give larger images"
    )


def test_an_unknown_substrate_is_refused(tiny):
    with pytest.raises(CardgenError, match=r"^no substrate is called 'nought'; expected one of black, white, grey"):
        measure(KEY, *tiny.call, maps=tiny.maps, substrate="nought")
