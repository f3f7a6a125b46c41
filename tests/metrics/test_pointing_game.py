"""The pointing game against its slow reference and by hand."""

import numpy as np
import pytest
import torch
from reference import maps as reference
from small_models import every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError


def many(tiny, n=120):
    """Random masks of a few pixels and maps with tied maxima."""
    draws = torch.Generator().manual_seed(5)
    masks = torch.rand(n, 12, 10, generator=draws) < 0.02
    masks[:, 0, 0] |= ~masks.flatten(1).any(1)
    maps = (torch.rand(n, 12, 10, generator=draws) * 40).floor()
    inputs = torch.rand(n, 3, 12, 10, generator=draws)
    return inputs, torch.zeros(n, dtype=torch.int64), maps, masks


@pytest.mark.parametrize("tolerance", [0.0, 15 / 224, 0.1, 0.15, 0.2, 0.3, 0.45])
def test_agrees_with_the_reference(tiny, tolerance):
    inputs, targets, maps, masks = many(tiny)
    found = measure("pointing_game", tiny.model, inputs, targets, maps=maps, masks=masks, tolerance=tolerance)
    expected = [reference.pointing_game(a, m, tolerance) for a, m in zip(maps, masks, strict=True)]
    assert found.values == pytest.approx(expected, abs=1e-12)
    assert 0 < np.mean(expected) < 1
    assert any(0 < e < 1 for e in expected), "no ties: the shares could not be wrong"


def test_the_default_is_15_pixels_at_224(tiny):
    # On 30 × 30 the tolerance is 15/224 · 30 = 2.009 pixels: a distance of 2 hits, √5 = 2.24 does not.
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2700, 2))
    masks = torch.zeros(2, 30, 30, dtype=torch.bool)
    masks[:, 10, 10] = True
    maps = torch.zeros(2, 30, 30)
    maps[0, 10, 12] = 1.0
    maps[1, 11, 12] = 1.0
    found = measure("pointing_game", model, torch.rand(2, 3, 30, 30), torch.tensor([0, 1]), maps=maps, masks=masks)
    assert found.values.tolist() == [1.0, 0.0]


def test_by_hand(tiny):
    # Tolerance 0, four tied maxima of which one lies in the mask: ¼. A maximum beside the mask: 0. Inside: 1.
    maps, masks = torch.zeros(7, 12, 10), torch.zeros(7, 12, 10, dtype=torch.bool)
    masks[:, 2, 3] = True
    maps[0, [2, 5, 6, 7], [3, 5, 5, 5]] = 1.0
    maps[1, 2, 4] = 1.0
    maps[2:, 2, 3] = 1.0
    found = measure("pointing_game", *tiny.call, maps=maps, masks=masks, tolerance=0.0)
    assert found.values.tolist() == [0.25, 0, 1, 1, 1, 1, 1]


MUTATIONS = {
    "the minimum": lambda a, m, t: reference.pointing_game(-a, m, t),
    "the first of tied maxima": lambda a, m, t: reference.pointing_game(
        torch.arange(a.numel()).view(a.shape) == a.argmax(), m, t
    ),
    "the longer side": lambda a, m, t: reference.pointing_game(a, m, t * 1.2),
    "no tolerance": lambda a, m, t: reference.pointing_game(a, m, 0.0),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    inputs, targets, maps, masks = many(tiny)
    found = measure("pointing_game", tiny.model, inputs, targets, maps=maps, masks=masks, tolerance=0.2).values
    wrong = [MUTATIONS[name](a, m, 0.2) for a, m in zip(maps, masks, strict=True)]
    assert np.abs(found - wrong).max() > 0.1


def test_an_empty_mask_has_no_hit_and_no_miss(tiny):
    masks = tiny.masks.clone()
    masks[3] = False
    found = measure("pointing_game", *tiny.call, maps=tiny.maps, masks=masks)
    assert found.valid.tolist() == [True, True, True, False, True, True, True]
    assert np.isfinite(found.values).all()


def test_a_mask_that_nothing_can_miss_has_none_either(tiny):
    # wholly inside, and inside by the tolerance: every map would hit, so that none could lead over noise
    masks = tiny.masks.clone()
    masks[3], masks[5] = True, True
    masks[5, 0, 0] = False
    found = measure("pointing_game", *tiny.call, maps=tiny.maps, masks=masks, tolerance=0.1)
    assert found.valid.tolist() == [True, True, True, False, True, False, True]
    found = measure("pointing_game", *tiny.call, maps=tiny.maps, masks=masks, tolerance=0.0)
    assert found.valid.tolist() == [True, True, True, False, True, True, True]


def test_a_flat_map_hits_by_the_masks_area(tiny):
    # 3 × 4 of 120 pixels
    found = measure("pointing_game", *tiny.call, maps=torch.full((7, 12, 10), -2.0), masks=tiny.masks, tolerance=0.0)
    assert found.values == pytest.approx(np.full(7, 0.1))
    assert found.flat.all()


def test_without_masks_it_says_so(tiny):
    with pytest.raises(CardgenError, match="pointing_game needs ground-truth masks"):
        measure("pointing_game", *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure("pointing_game", *some.call, maps=some.maps, masks=some.masks, tolerance=0.3, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.maps, tiny.masks):
        measure("pointing_game", *tiny.call, maps=tiny.maps, masks=tiny.masks)
