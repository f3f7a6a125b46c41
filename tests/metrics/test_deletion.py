"""Deletion against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import curves
from small_models import Linear, Share, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.space import Space

TOLERANCE = 1e-6


def expected(small, **options):
    return [
        curves.deletion(small.model, small.inputs[i], int(small.targets[i]), small.maps[i], **options) for i in range(7)
    ]


@pytest.mark.parametrize("steps", [2, 7, 50, 120])
def test_agrees_with_the_reference(tiny, steps):
    found = measure("deletion", *tiny.call, maps=tiny.maps, steps=steps).values
    np.testing.assert_allclose(found, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "colour"), [("black", -1.0), ("white", 3.0), ("grey", 1.0), ("mean", 0.25), ("zero", 0.0)]
)
def test_substrates_are_colours_of_the_space(tiny, name, colour):
    space = Space((-1.0,), (3.0,), (0.25,))
    found = measure("deletion", *tiny.call, maps=tiny.maps, steps=10, substrate=name, space=space).values
    np.testing.assert_allclose(found, expected(tiny, steps=10, colour=colour), rtol=0, atol=TOLERANCE)


def test_by_hand():
    # f_0(x) = 0.4 a + 0.3 b + 0.2 c + 0.1 d on an image of ones, removed to black, most salient first:
    # a b c d: 1, 0.6, 0.3, 0.1, 0 → (0.5 + 0.6 + 0.3 + 0.1 + 0)/4 = 0.375
    # d c b a: 1, 0.9, 0.7, 0.4, 0 → (0.5 + 0.9 + 0.7 + 0.4 + 0)/4 = 0.625
    model = Share([[[0.4, 0.3], [0.2, 0.1]]])
    images, maps = torch.ones(2, 1, 2, 2), torch.tensor([[[4.0, 3.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]])
    found = measure("deletion", model, images, torch.tensor([0, 0]), maps=maps, steps=4, substrate="black")
    assert found.values == pytest.approx([0.375, 0.625], abs=1e-6)
    assert found.curve.y == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=1e-6)


def test_the_order_by_true_effect_is_the_lowest_of_all():
    import itertools

    model, images = Share([[[0.4, 0.3], [0.2, 0.1]]]), torch.ones(24, 1, 2, 2)
    maps = torch.tensor(list(itertools.permutations([4.0, 3.0, 2.0, 1.0]))).view(24, 2, 2)
    found = measure(
        "deletion", model, images, torch.zeros(24, dtype=torch.int64), maps=maps, steps=4, substrate="black"
    )
    assert found.values.argmin() == 0  # (4, 3, 2, 1), the planted ranking
    assert found.values.argmax() == 23  # (1, 2, 3, 4)
    assert np.unique(found.values.round(6)).size > 10


MUTATIONS = {
    "least salient first": lambda monkey: monkey.setattr(
        curves, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
    "one pixel late": lambda monkey: monkey.setattr(
        curves, "counts", lambda pixels, steps, right=curves.counts: [max(c - 1, 0) for c in right(pixels, steps)]
    ),
    "a plain mean for the trapezoid": lambda monkey: monkey.setattr(
        curves, "area", lambda values, shares: sum(values) / len(values)
    ),
    "step 0 left out": lambda monkey: monkey.setattr(
        curves, "area", lambda values, shares, right=curves.area: right(values[1:], shares[1:])
    ),
    "the logistic of another class": lambda monkey: monkey.setattr(
        curves, "probability", lambda m, x, t, right=curves.probability: right(m, x, (t + 1) % 4)
    ),
    "divided by the curve's maximum": lambda monkey: monkey.setattr(
        curves, "area", lambda values, shares, right=curves.area: right(values, shares) / max(values)
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    found = measure("deletion", *tiny.call, maps=tiny.maps, steps=12).values
    np.testing.assert_allclose(found, expected(tiny, steps=12), rtol=0, atol=TOLERANCE)
    MUTATIONS[name](monkeypatch)
    assert np.abs(found - expected(tiny, steps=12)).max() > 100 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure("deletion", *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("deletion", *tiny.call, maps=tiny.maps)


def test_ties_are_broken_at_random_and_not_by_the_sort():
    # f_0 is the share of light in the left half. A flat map takes pixels in random order, so the curve falls along the diagonal on
    # average, area 1/2; in raster order of the columns it would be 1/4, or 3/4.
    draws = torch.Generator().manual_seed(0)
    weights = torch.zeros(1, 8, 8)
    weights[:, :, :4] = 1 / 32
    images = 1 - 0.001 * torch.rand(200, 1, 8, 8, generator=draws)
    targets = torch.zeros(200, dtype=torch.int64)
    flat = measure(
        "deletion", Share(weights), images, targets, maps=torch.zeros(200, 8, 8), substrate="black", steps=16
    )
    assert flat.flat.all()
    assert flat.values.mean() == pytest.approx(0.5, abs=0.01)
    assert 0.01 < flat.values.std() < 0.1
    halves = torch.zeros(200, 8, 8)
    halves[:, :, :4] = 1.0  # ties only inside the halves: any order inside them gives the same curve
    found = measure("deletion", Share(weights), images, targets, maps=halves, substrate="black", steps=16)
    assert found.values == pytest.approx(np.full(200, 0.25), abs=2e-3)


def test_ties_do_not_depend_on_scale_or_sign_of_zero(tiny):
    coarse = (tiny.maps * 3).floor() - 1
    one, other = (measure("deletion", *tiny.call, maps=m).values for m in (coarse, 7 * coarse + 0.0))
    assert np.array_equal(one, other)


def test_one_class_is_certain_whatever_is_removed(tiny):
    class One(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(360, 1)

        def forward(self, x):
            return self.head(x.flatten(1))

    found = measure("deletion", One(), tiny.inputs, torch.zeros(7, dtype=torch.int64), maps=tiny.maps)
    assert found.values == pytest.approx(np.ones(7))


@pytest.mark.parametrize("steps", [0, 1, 121])
def test_steps_that_make_no_curve_are_refused(tiny, steps):
    with pytest.raises(CardgenError, match="steps"):
        measure("deletion", *tiny.call, maps=tiny.maps, steps=steps)


def test_an_unknown_substrate_is_refused(tiny):
    with pytest.raises(
        CardgenError, match="no substrate is called 'gray'; expected one of black, white, grey, mean, zero, blur"
    ):
        measure("deletion", *tiny.call, maps=tiny.maps, substrate="gray")


def test_the_class_explained_counts(tiny):
    model = Linear(torch.linspace(-1, 1, 360))
    one, other = (measure("deletion", model, tiny.inputs, torch.full((7,), c), maps=tiny.maps).values for c in (0, 1))
    assert one + other == pytest.approx(np.ones(7), abs=1e-6)  # two probabilities that sum to one, so their areas do
