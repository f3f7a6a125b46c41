"""Localization utility against its slow reference, scikit-learn, and by hand."""

import numpy as np
import pytest
import torch
from reference import maps as reference
from sklearn.metrics import average_precision_score, roc_auc_score
from small_models import Linear, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError

KEY = "localization_utility"


def many(n=40, levels=40):
    """Random masks and maps with ties."""
    draws = torch.Generator().manual_seed(5)
    masks = torch.rand(n, 12, 10, generator=draws) < torch.rand(n, 1, 1, generator=draws) * 0.5
    masks[:, 0, 0] |= ~masks.flatten(1).any(1)
    maps = (torch.rand(n, 12, 10, generator=draws) * levels).floor() - levels / 2 + masks * levels * 0.2
    return torch.rand(n, 3, 12, 10, generator=draws), torch.zeros(n, dtype=torch.int64), maps, masks


def found(tiny, inputs, targets, maps, masks, **options):
    return measure(KEY, tiny.model, inputs, targets, maps=maps, masks=masks, **options)


@pytest.mark.parametrize("levels", [2, 7, 40, 10**6])
def test_agrees_with_the_reference_and_with_scikit_learn(tiny, levels):
    inputs, targets, maps, masks = many(levels=levels)
    values = found(tiny, inputs, targets, maps, masks).values
    assert values == pytest.approx([reference.average_precision(a, m) for a, m in zip(maps, masks, strict=True)])
    flat = [average_precision_score(m.flatten(), a.flatten()) for a, m in zip(maps, masks, strict=True)]
    assert values == pytest.approx(flat)
    assert 0 < values.min() < values.max() < 1


def test_by_hand():
    # Six pixels, of which those ranked 1, 3 and 6 are the object: (1/1 + 2/3 + 3/6) / 3 = 13/18.
    # Tied: 9 | 5 5 5 | 0 0 with hits 1, 1 of 3, 1 of 2: (1 + 2/4 + 3/6) / 3 = 2/3.
    mask = torch.tensor([[[True, False, True], [False, False, True]]]).repeat(2, 1, 1)
    maps = torch.tensor([[[6.0, 5, 4], [3, 2, 1]], [[9.0, 5, 5], [5, 0, 0]]])
    model, images = Linear(torch.ones(3, 2, 3)), torch.rand(2, 3, 2, 3)
    scores = measure(KEY, model, images, torch.tensor([0, 1]), maps=maps, masks=mask)
    assert scores.values == pytest.approx([13 / 18, 2 / 3])


MUTATIONS = {
    "upside down": lambda a, m: reference.average_precision(-a, m),
    "by the magnitude": lambda a, m: reference.average_precision(a.abs(), m),
    "the background": lambda a, m: reference.average_precision(a, ~m),
    "area under the ROC curve": lambda a, m: roc_auc_score(m.flatten(), a.flatten()),
    "ties in reading order": lambda a, m: reference.average_precision(
        a - 1e-6 * torch.arange(120.0, dtype=torch.float64).view(12, 10), m
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    inputs, targets, maps, masks = many()
    wrong = [MUTATIONS[name](a, m) for a, m in zip(maps, masks, strict=True)]
    assert np.abs(found(tiny, inputs, targets, maps, masks).values - wrong).max() > 0.01


def test_the_mask_is_found_whole_and_its_opposite_is_the_worst(tiny):
    masks = tiny.masks  # 3 × 4 of 120 pixels
    assert measure(KEY, *tiny.call, maps=masks.float(), masks=masks).values == pytest.approx(np.ones(7))
    worst = measure(KEY, *tiny.call, maps=-masks.float() - tiny.maps * 0.5, masks=masks).values
    assert worst == pytest.approx(np.full(7, np.mean([k / (108 + k) for k in range(1, 13)])))


def test_a_flat_map_has_the_masks_share(tiny):
    scores = measure(KEY, *tiny.call, maps=torch.full((7, 12, 10), -2.0), masks=tiny.masks)
    assert scores.values == pytest.approx(np.full(7, 0.1))
    assert scores.flat.all()


def test_zeros_of_either_sign_are_one_value(tiny):
    zeros = torch.zeros(7, 12, 10) * torch.where(tiny.maps > 0.5, 1.0, -1.0)
    assert measure(KEY, *tiny.call, maps=zeros, masks=tiny.masks).values == pytest.approx(np.full(7, 0.1))


def test_empty_and_full_masks_have_none(tiny):
    masks = tiny.masks.clone()
    masks[3], masks[5] = False, True
    scores = measure(KEY, *tiny.call, maps=tiny.maps, masks=masks)
    assert scores.valid.tolist() == [True, True, True, False, True, False, True]
    assert np.isfinite(scores.values).all()


def test_no_seed_and_no_order_settles_ties(tiny):
    coarse = (tiny.maps * 3).floor()
    one, other = (measure(KEY, *tiny.call, maps=coarse, masks=tiny.masks, seed=seed).values for seed in (0, 1))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_without_masks_it_says_so(tiny):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, maps=tiny.maps)
    assert str(caught.value) == (
        "localization_utility needs ground-truth masks; the data has none; give masks= or a masks/ folder"
    )


def test_the_average_mask_finds_objects_that_stay_in_place(tiny):
    masks = torch.zeros(7, 12, 10, dtype=torch.bool)
    masks[:, 3:6, 2:6] = True
    values = measure(KEY, *tiny.call, method="mean_mask", masks=masks).values
    assert values == pytest.approx(np.ones(7))


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=some.maps, masks=some.masks, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.maps, tiny.masks):
        measure(KEY, *tiny.call, maps=tiny.maps, masks=tiny.masks)
