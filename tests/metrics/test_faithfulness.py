"""Faithfulness against its slow reference, by hand, and under wrong versions of itself; and the grid that it asks."""

import numpy as np
import pytest
import torch
from reference import maps as plain
from reference import regions as reference
from small_models import Linear, Share, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.grids import even
from cardgen.space import Space

TOLERANCE = 1e-5


def expected(small, parts=8, colour=0.5):
    background = torch.full_like(small.inputs[0], colour)
    return [
        reference.faithfulness(small.model, x, int(t), a, background, parts)
        for x, t, a in zip(small.inputs, small.targets, small.maps, strict=True)
    ]


@pytest.mark.parametrize("parts", [2, 3, 8, 10])
def test_agrees_with_the_reference(tiny, parts):
    found = measure("faithfulness", *tiny.call, maps=tiny.maps, parts=parts)
    np.testing.assert_allclose(found.values, expected(tiny, parts), rtol=0, atol=TOLERANCE)
    assert found.valid.all()
    assert not found.flat.any()


@pytest.mark.parametrize(("name", "colour"), [("black", -1.0), ("white", 3.0), ("mean", 0.25), ("zero", 0.0)])
def test_substrates_are_colours_of_the_space(tiny, name, colour):
    space = Space((-1.0,), (3.0,), (0.25,))
    found = measure("faithfulness", *tiny.call, maps=tiny.maps, substrate=name, space=space).values
    np.testing.assert_allclose(found, expected(tiny, colour=colour), rtol=0, atol=TOLERANCE)


QUARTERS = Share([[[0.4, 0.3], [0.2, 0.1]]])


@pytest.mark.parametrize(
    ("saliency", "found"),
    # f_0 falls by (.4, .3, .2, .1): deviations from their mean (.15, .05, −.05, −.15), Σ of squares .05
    [
        ([[4.0, 3.0], [2.0, 1.0]], 1.0),
        ([[-1.0, -2.0], [-3.0, -4.0]], 1.0),
        ([[1.0, 2.0], [3.0, 4.0]], -1.0),
        ([[1.0, 0.0], [0.0, 0.0]], 0.15 / np.sqrt(0.05 * 0.75)),
        ([[1.0, 0.0], [0.0, 1.0]], 0.0),
    ],
)
def test_by_hand(saliency, found):
    image, target = torch.ones(1, 1, 2, 2), torch.tensor([0])
    options = {"maps": torch.tensor([saliency]), "parts": 2, "substrate": "black"}
    assert measure("faithfulness", QUARTERS, image, target, **options).values == pytest.approx([found], abs=1e-6)


def test_contributions_of_an_additive_model_are_faithful_and_their_magnitudes_are_not():
    weights = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1))
    images = torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    call = Linear(1e-3 * weights), images, torch.zeros(9, dtype=torch.int64)  # so flat that f_0 is as good as linear
    contributions = (weights * images)[:, 0]
    options = {"substrate": "black"}
    assert measure("faithfulness", *call, maps=contributions, **options).values.min() > 0.999
    assert measure("faithfulness", *call, maps=-contributions, **options).values.max() < -0.999
    assert np.abs(measure("faithfulness", *call, maps=contributions.abs(), **options).values).max() < 0.9


def test_regions_that_all_cost_the_same_tell_nothing_whatever_the_map():
    model = Linear(torch.zeros(1, 8, 8))
    found = measure("faithfulness", model, torch.rand(3, 1, 8, 8), torch.zeros(3).long(), maps=torch.rand(3, 8, 8))
    assert found.values.tolist() == [0, 0, 0]
    assert not found.valid.any()
    assert not found.flat.any(), "the map is not flat"
    assert found.reported["still"] == 3


def test_a_map_of_ones_but_a_corner_does_not_correlate_with_the_sizes_of_regions():
    # sides of 4 and 3 pixels, and each pixel costs the same: larger regions cost more, and have larger sums
    model, images = Share(torch.full((1, 7, 7), 1 / 49)), torch.ones(1, 1, 7, 7)
    ones = torch.ones(1, 7, 7)
    ones[0, 0, 0] = 0
    options = {"parts": 2, "substrate": "black"}
    found = measure("faithfulness", model, images, torch.tensor([0]), maps=ones, **options).values
    # means 15/16, 1, 1, 1: deviations ∝ (−3, 1, 1, 1); drops 16, 12, 12, 9 of 49: (3.75, −.25, −.25, −3.25), so −15 / √(12 · 24.75)
    assert found == pytest.approx([-15 / np.sqrt(12 * 24.75)], abs=1e-5)


def test_a_constant_map_has_no_correlation_even_where_regions_differ_in_size(tiny):
    found = measure("faithfulness", *tiny.call, maps=torch.full((7, 12, 10), 0.3))
    assert found.flat.all()
    assert not found.valid.any()
    assert found.values.tolist() == [0.0] * 7


MUTATIONS = {
    "sums of unequal regions": (reference, "total", lambda a, r, right=reference.total: right(a, r) * len(r)),
    "of magnitudes": (reference, "total", lambda a, r, right=reference.total: right(a.abs(), r)),
    "the drop's sign": (reference, "drops", lambda *a, right=reference.drops: [-d for d in right(*a)]),
    "another class": (
        reference,
        "probability",
        lambda m, x, t, right=reference.probability: right(m, x, (t + 1) % 4),
    ),
    "all but the region": (
        reference,
        "replaced",
        lambda x, r, b, right=reference.replaced: right(b, r, x),
    ),
    "bands rounded down": (reference, "bands", lambda length, parts: [b * length // parts for b in range(parts + 1)]),
    "of ranks": (plain, "pearson", lambda a, b, right=plain.pearson: right(plain.ranks(a), plain.ranks(b))),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    signed = tiny._replace(maps=tiny.maps - 0.5)
    found = measure("faithfulness", *signed.call, maps=signed.maps).values
    np.testing.assert_allclose(found, expected(signed), rtol=0, atol=TOLERANCE)
    monkeypatch.setattr(*MUTATIONS[name])
    assert np.abs(found - expected(signed)).max() > 100 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure("faithfulness", *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score, tolerance=TOLERANCE)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("faithfulness", *tiny.call, maps=tiny.maps)


@pytest.mark.parametrize("parts", [1, 11])
def test_images_without_such_a_grid_are_refused(tiny, parts):
    with pytest.raises(CardgenError) as error:
        measure("faithfulness", *tiny.call, maps=tiny.maps, parts=parts)
    assert str(error.value) == (
        f"images of 12 × 10 pixels in a grid of {parts} × {parts}; expected 2 to 10 parts; "
        "set the parameter parts, or give larger images"
    )


class TestEven:
    @pytest.mark.parametrize(("height", "width", "parts"), [(8, 8, 8), (12, 10, 8), (64, 64, 8), (31, 17, 5)])
    def test_every_pixel_is_in_one_region_and_sides_differ_by_one(self, height, width, parts):
        grid = even(height, width, parts)
        sizes = grid.sizes()
        assert sizes.shape == (parts, parts)
        assert sizes.sum() == height * width
        assert torch.equal(grid.regions().flatten().bincount(), sizes.flatten())
        for bands, length in ((grid.rows, height), (grid.columns, width)):
            lengths = bands.bincount()
            assert lengths.max() - lengths.min() <= (length % parts > 0)
            assert bands.tolist() == sorted(bands.tolist())

    def test_agrees_with_the_reference(self):
        regions = even(13, 10, 4).regions()
        for number, pixels in enumerate(reference.grid(13, 10, 4)):
            assert (regions == number).nonzero().tolist() == [list(p) for p in pixels]

    def test_sums(self):
        maps = torch.arange(24.0).view(1, 4, 6)
        # columns 0 to 2 and 3 to 5 of rows 0, 1 and of rows 2, 3
        assert even(4, 6, 2).sums(maps).tolist() == [[[24.0, 42.0], [96.0, 114.0]]]

    def test_equal_regions_of_equal_values_tie(self):
        maps = torch.full((1, 64, 64), 0.1)
        assert even(64, 64, 8).sums(maps).unique().numel() == 1
