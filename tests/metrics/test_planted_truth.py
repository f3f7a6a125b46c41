"""Planted truth against all pairs, scikit-learn, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import maps as reference
from sklearn.metrics import roc_auc_score
from small_models import Linear, every_batch_and_order, untouched
from small_runs import loaded, run, store

from cardgen import measure
from cardgen.draws import content_ids
from cardgen.errors import CardgenError
from cardgen.methods import METHODS, Method
from cardgen.metrics import METRICS
from cardgen.records import Record
from cardgen.study import Study, Subject

KEY = "planted_truth"


def many(n=40, levels=40):
    """Random masks and maps with ties, of both signs."""
    draws = torch.Generator().manual_seed(5)
    masks = torch.rand(n, 12, 10, generator=draws) < torch.rand(n, 1, 1, generator=draws) * 0.5
    masks[:, 0, 0] |= ~masks.flatten(1).any(1)
    maps = (torch.rand(n, 12, 10, generator=draws) * levels).floor() - levels / 2 + masks * levels * 0.2
    return torch.rand(n, 3, 12, 10, generator=draws), torch.zeros(n, dtype=torch.int64), maps, masks


def found(tiny, inputs, targets, maps, masks, **options):
    return measure(KEY, tiny.model, inputs, targets, maps=maps, masks=masks, **options)


@pytest.mark.parametrize("levels", [2, 7, 40, 10**6])
def test_agrees_with_all_pairs_and_with_scikit_learn(tiny, levels):
    inputs, targets, maps, masks = many(levels=levels)
    values = found(tiny, inputs, targets, maps, masks).values
    pairs = list(zip(maps, masks, strict=True))
    assert values == pytest.approx([reference.roc_auc(a, m) for a, m in pairs], abs=1e-12)
    assert values == pytest.approx([roc_auc_score(m.flatten(), a.flatten()) for a, m in pairs], abs=1e-12)
    assert 0 < values.min() < values.max() < 1


def test_by_hand():
    # Six pixels, of which those ranked 1, 3 and 6 drive the model: they beat 3, 2 and 0 of the other three: 5/9.
    # Tied: 9 | 5 5 5 | 0 0, of which 9, one 5 and one 0 do: 3 + (1 + 2/2) + 1/2 of 9.
    mask = torch.tensor([[[True, False, True], [False, False, True]]]).repeat(2, 1, 1)
    maps = torch.tensor([[[6.0, 5, 4], [3, 2, 1]], [[9.0, 5, 5], [5, 0, 0]]])
    model, images = Linear(torch.ones(3, 2, 3)), torch.rand(2, 3, 2, 3)
    scores = measure(KEY, model, images, torch.tensor([0, 1]), maps=maps, masks=mask)
    assert scores.values == pytest.approx([5 / 9, 5.5 / 9])


MUTATIONS = {
    "upside down": lambda a, m: reference.roc_auc(-a, m),
    "by the magnitude": lambda a, m: reference.roc_auc(a.abs(), m),
    "ties are misses": lambda a, m: reference.roc_auc(a - 1e-6 * m.double(), m),
    "ties are hits": lambda a, m: reference.roc_auc(a + 1e-6 * m.double(), m),
    "average precision": reference.average_precision,
    "pairs with itself": lambda a, m: (reference.roc_auc(a, m) * int((~m).sum()) + 0.5 * int(m.sum())) / m.numel(),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    inputs, targets, maps, masks = many()
    wrong = [MUTATIONS[name](a, m) for a, m in zip(maps, masks, strict=True)]
    assert np.abs(found(tiny, inputs, targets, maps, masks).values - wrong).max() > 0.01


def test_the_truth_has_1_its_opposite_0_and_a_flat_map_a_half(tiny):
    for maps, value in ((tiny.masks.float(), 1.0), (-tiny.masks.float(), 0.0), (torch.full((7, 12, 10), -2.0), 0.5)):
        scores = measure(KEY, *tiny.call, maps=maps, masks=tiny.masks)
        assert scores.values.tolist() == [value] * 7
        assert scores.flat.tolist() == [value == 0.5] * 7


@pytest.mark.parametrize("signed", [True, False])
def test_the_magnitude_counts_where_the_sign_means_evidence(tiny, signed):
    """Strong evidence against the class at the pixels that drive the model, a little for it elsewhere."""
    against = 0.1 * tiny.maps.abs() - 5 * tiny.masks
    entry = METHODS["constant"].entry.model_copy(update={"key": "made", "signed": signed})
    made = Method(entry, lambda model, inputs, targets, context: against[:, None], lambda parameters: 0)
    subject = Subject(tiny.model, tiny.inputs, tiny.targets, content_ids(tiny.inputs), masks=tiny.masks)
    assert METRICS[KEY].measure(Study(subject, 7, made), {}).values.tolist() == [float(signed)] * 7


def test_empty_and_full_masks_have_none(tiny):
    masks = tiny.masks.clone()
    masks[3], masks[5] = False, True
    scores = measure(KEY, *tiny.call, maps=tiny.maps, masks=masks)
    assert scores.valid.tolist() == [True, True, True, False, True, False, True]
    assert np.isfinite(scores.values).all()


def test_without_masks_it_says_so(tiny):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, maps=tiny.maps)
    assert str(caught.value) == (
        "planted_truth needs masks of the pixels that drive the model; the data has none; give masks=, or run marker-cnn on "
        "markers-on-textures"
    )


def test_masks_of_which_nothing_is_proven_give_no_verdict(tmp_path):
    of = loaded()
    for ruled in (False, True):
        subject = replace(of, subject=replace(of.subject, ruled=ruled))
        run(subject, tmp_path, metrics=(KEY,))
        record = store(tmp_path).record(store(tmp_path).path(METHODS["vanilla_gradients"].entry, KEY))
        assert isinstance(record, Record)
        if ruled:
            assert record.verdict in ("pass", "fail", "inconclusive")
        else:
            assert (record.verdict, record.reason) == (
                "skipped",
                "it is not proven which pixels drive the model on this data",
            )


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=some.maps, masks=some.masks, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.maps, tiny.masks):
        measure(KEY, *tiny.call, maps=tiny.maps, masks=tiny.masks)
