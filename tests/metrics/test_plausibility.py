"""Plausibility against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import maps as reference
from reference import perturbed
from small_models import Linear, every_batch_and_order, untouched

from cardgen import explain, measure
from cardgen.errors import CardgenError

KEY = "plausibility"
FEW = {"noise_draws": 2}
MEMBERS = ("noise", "noise_1", "noise_4", "noise_7", "noise_14")


def signed(tiny):
    return tiny.maps - 0.4


def found(tiny, maps, masks=None, **options):
    masks = tiny.masks if masks is None else masks
    return measure(KEY, *tiny.call, maps=maps, masks=masks, **FEW | options)


def expected(maps, masks):
    return [reference.plausibility(a, m) for a, m in zip(maps, masks, strict=True)]


@pytest.mark.parametrize("shift", [0.0, -0.4, -0.99])
def test_agrees_with_the_reference(tiny, shift):
    scores = found(tiny, tiny.maps + shift)
    assert scores.values == pytest.approx(expected(tiny.maps + shift, tiny.masks))
    assert scores.valid.all()
    assert np.ptp(scores.values) > 0.02


def test_by_hand():
    # of the mass 2 + 6 two lie inside; −8 counts nowhere
    maps, mask = torch.tensor([[[2.0, 0.0, 6.0, -8.0]]]), torch.tensor([[[True, True, False, False]]])
    scores = measure(
        KEY, Linear(torch.ones(3, 1, 4)), torch.rand(1, 3, 1, 4), torch.tensor([0]), maps=maps, masks=mask, **FEW
    )
    assert scores.values == pytest.approx([0.25])
    # each order of the four values puts 0, 2, 6 or 8 of 8 inside
    for part in scores.parts.values():
        assert set(part.flatten().tolist()) <= {0.0, 0.25, 0.75, 1.0}


MUTATIONS = {
    "the magnitude": lambda a, m: reference.plausibility(a.abs(), m),
    "negative mass counts": lambda a, m: float((a * m).sum() / a.sum()),
    "the background": lambda a, m: reference.plausibility(a, ~m),
    "mean for sum": lambda a, m: float(a.clamp_min(0)[m].mean() / a.clamp_min(0).mean()),
    "pixels for mass": lambda a, m: float(((a > 0) & m).sum() / (a > 0).sum()),
    "after min–max normalisation": lambda a, m: reference.plausibility(a - a.min(), m),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    wrong = [MUTATIONS[name](a, m) for a, m in zip(signed(tiny), tiny.masks, strict=True)]
    assert np.abs(found(tiny, signed(tiny)).values - wrong).max() > 0.01


def test_value_matched_noise_agrees_with_the_reference(tiny):
    scores = found(tiny, signed(tiny))
    assert set(scores.parts) == {f"matched/{member}" for member in MEMBERS}
    for member in ("noise", "noise_14"):  # on coarser grids noise has ties at the border
        for draw in range(2):
            noise = explain(member, *tiny.call, draw=draw)
            moved = [perturbed.matched(a[None], a, b)[0] for a, b in zip(signed(tiny), noise, strict=True)]
            right = expected(moved, tiny.masks)
            assert scores.parts[f"matched/{member}"][draw] == pytest.approx(right)
            assert np.abs(scores.values - right).max() > 0.01


@pytest.mark.parametrize("value", [0.0, -2.0, 3.0, 1e-30])
def test_mass_that_is_nowhere_or_everywhere_leads_over_nothing(tiny, value):
    scores = found(tiny, torch.full((7, 12, 10), value))
    assert scores.valid.all()
    assert scores.flat.all()
    assert scores.values == pytest.approx(np.full(7, 0.1))
    assert all(part == pytest.approx(np.full((2, 7), 0.1)) for part in scores.parts.values())
    assert scores.reported == {"without_mass": 7 if value <= 0 else 0}


def test_a_map_without_a_positive_value_stays_in(tiny):
    maps = signed(tiny)
    maps[2] = -1 - tiny.maps[2]
    scores, others = found(tiny, maps), found(tiny, signed(tiny))
    assert scores.valid.all()
    assert not scores.flat.any()
    assert scores.reported == {"without_mass": 1}
    assert scores.values[2] == pytest.approx(0.1)
    kept = np.arange(7) != 2
    assert np.array_equal(scores.values[kept], others.values[kept])


def test_the_mask_itself_is_all_inside_and_its_inverse_all_outside(tiny):
    assert found(tiny, tiny.masks.float()).values == pytest.approx(np.ones(7))
    assert found(tiny, 1 - tiny.masks.float()).values == pytest.approx(np.zeros(7))


def test_empty_and_full_masks_have_none(tiny):
    masks = tiny.masks.clone()
    masks[3], masks[5] = False, True
    scores = found(tiny, signed(tiny), masks)
    assert scores.valid.tolist() == [True, True, True, False, True, False, True]
    maps = signed(tiny)
    maps[3] = -1.0
    scores = found(tiny, maps, masks)
    assert scores.reported == {"without_mass": 0}, "a sample that does not count is not counted"
    assert not scores.flat.any(), "nor is it a lead over nothing"


def test_huge_and_tiny_maps(tiny):
    for scale in (2.0**120, 2.0**-120):
        assert found(tiny, signed(tiny) * scale).values == pytest.approx(found(tiny, signed(tiny)).values)


def test_without_masks_it_says_so(tiny):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, maps=tiny.maps)
    assert str(caught.value) == (
        "plausibility needs ground-truth masks; the data has none; give masks= or a masks/ folder"
    )


def test_without_opponents_it_says_so(tiny):
    with pytest.raises(CardgenError) as caught:
        found(tiny, tiny.maps, noise_draws=0)
    assert str(caught.value) == (
        "plausibility with 0 draws of noise; expected at least 1; raise the parameter noise_draws"
    )


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=some.maps - 0.4, masks=some.masks, batch=batch, **FEW).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.maps, tiny.masks):
        found(tiny, tiny.maps)
