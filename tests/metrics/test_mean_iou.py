"""Mean IoU against its slow reference, scikit-image, and by hand."""

import numpy as np
import pytest
import torch
from reference import maps as reference
from skimage.filters import threshold_otsu
from small_models import Linear, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.metrics.perceptual_correspondence.mean_iou import above_otsu

KEY = "mean_iou"


def many(n=30):
    """Random masks, and maps without ties that lean towards them."""
    draws = torch.Generator().manual_seed(5)
    masks = torch.rand(n, 12, 10, generator=draws) < 0.05 + torch.rand(n, 1, 1, generator=draws) * 0.5
    return masks, torch.randn(n, 12, 10, generator=draws) + masks * torch.rand(n, 1, 1, generator=draws) * 3


def found(maps, masks, **options):
    n = len(maps)
    inputs = torch.rand(n, 3, *maps.shape[1:], generator=torch.Generator().manual_seed(1))
    model = Linear(torch.ones(inputs[0].numel()))
    return measure(KEY, model, inputs, torch.zeros(n, dtype=torch.int64), maps=maps, masks=masks, **options)


def test_agrees_with_the_reference():
    masks, maps = many()
    scores = found(maps, masks)
    assert scores.values == pytest.approx([reference.iou_at_own_area(a, m) for a, m in zip(maps, masks, strict=True)])
    otsu = [reference.iou_at_otsu(a, m) for a, m in zip(maps, masks, strict=True)]
    assert scores.reported["otsu"] == pytest.approx(np.mean(otsu))
    assert 0 < scores.values.min() < scores.values.max() < 1
    assert abs(np.mean(otsu) - scores.values.mean()) > 0.01, "else the two thresholds could be mixed up"


def test_by_hand():
    # three of the mask's pixels, the three highest are 9 8 7, of which two are hits: 2 / (3 + 3 − 2).
    # Levels of 9 8 7 | 1 0 0 are 255 226 198 | 28 0 0: Otsu takes the first three as well.
    maps, mask = torch.tensor([[[9.0, 8, 7], [1, 0, 0]]]), torch.tensor([[[True, True, False], [True, False, False]]])
    scores = found(maps, mask)
    assert scores.values == pytest.approx([0.5])
    assert scores.reported == {"otsu": 0.5, "otsu_share": 0.5}
    # 9 alone against 3 2 1 0 0: at Otsu's threshold the first pixel only, one of three
    assert found(torch.tensor([[[9.0, 3, 2], [1, 0, 0]]]), mask).reported["otsu"] == pytest.approx(1 / 3)


MUTATIONS = {
    "upside down": lambda a, m: reference.iou_at_own_area(-a, m),
    "by the magnitude": lambda a, m: reference.iou_at_own_area(a.abs(), m),
    "the background": lambda a, m: reference.iou_at_own_area(a, ~m),
    "at Otsu's threshold": lambda a, m: reference.iou_at_otsu(a, m),
    "Dice": lambda a, m: 2 * (i := reference.iou_at_own_area(a, m)) / (1 + i),
    "above the mean": lambda a, m: reference.iou((a > a.mean()).flatten().tolist(), m.flatten().tolist()),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(name):
    masks, maps = many()
    wrong = [MUTATIONS[name](a, m) for a, m in zip(maps, masks, strict=True)]
    assert np.abs(found(maps, masks).values - wrong).max() > 0.01


@pytest.mark.parametrize("power", [1, 3])
def test_otsu_agrees_with_scikit_image(power):
    maps = torch.rand(40, 300, generator=torch.Generator().manual_seed(2)).pow(power) - 0.5
    ours = above_otsu(maps).numpy()
    for row, above in zip(maps.double().numpy(), ours, strict=True):
        levels = (255 * (row - row.min()) / np.ptp(row)).astype(np.uint8)
        np.testing.assert_array_equal(above, levels > threshold_otsu(levels))
    assert 0.1 < ours.mean() < 0.6


def test_otsu_of_two_values_takes_the_higher_and_of_one_nothing():
    maps = torch.tensor([[1.0, 2.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0], [-5.0, -5.0, 2.0**100, -5.0]])
    assert above_otsu(maps).tolist() == [
        [False, True, False, False],
        [False, False, False, False],
        [False, False, True, False],
    ]


def test_the_mask_is_covered_whole_and_its_inverse_misses_it(tiny):
    assert found(tiny.masks.float(), tiny.masks).values == pytest.approx(np.ones(7))
    missed = found(1 - tiny.masks.float(), tiny.masks)
    assert missed.values == pytest.approx(np.zeros(7))
    assert missed.reported["otsu"] == 0


def test_ties_are_broken_at_random():
    # k of p pixels at random hit k²/p of k: for half of them about a third, (k²/p) / (2k − k²/p)
    masks = torch.zeros(300, 8, 8, dtype=torch.bool)
    masks[:, :4] = True
    scores = found(torch.full((300, 8, 8), 2.0), masks)
    assert scores.flat.all()
    assert scores.valid.all()
    assert scores.values.mean() == pytest.approx(1 / 3, abs=0.02)
    assert scores.values.std() > 0.03


def test_empty_and_full_masks_have_none():
    masks, maps = many(5)
    masks[1], masks[4] = False, True
    scores = found(maps, masks)
    assert scores.valid.tolist() == [True, False, True, True, False]
    kept = [0, 2, 3]
    otsu = [reference.iou_at_otsu(maps[i], masks[i]) for i in kept]
    assert scores.reported["otsu"] == pytest.approx(np.mean(otsu))
    none = found(maps, torch.zeros_like(masks))
    assert none.reported == {"otsu": None, "otsu_share": None}


def test_without_masks_it_says_so(tiny):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, maps=tiny.maps)
    assert str(caught.value) == "mean_iou needs ground-truth masks; the data has none; give masks= or a masks/ folder"


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=(some.maps * 5).floor(), masks=some.masks, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.maps, tiny.masks):
        measure(KEY, *tiny.call, maps=tiny.maps, masks=tiny.masks)
