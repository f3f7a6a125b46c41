"""Worst-case soundness against its slow reference, by hand, and under wrong versions of itself."""

import hashlib

import numpy as np
import pytest
import torch
from reference import curves
from reference import worst_case as reference
from rolled_maps import all_maps, found, method
from small_methods import made_method, study_of
from small_models import Share, Small, Tiny, every_batch_and_order, lively, seeded, small_subject, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.labels import drawn_labels, top_labels
from cardgen.metrics import METRICS

KEY = "worst_case_soundness"
TOLERANCE = 1e-5


def expected(small, **options):
    return [reference.soundness(small.model, image, all_maps(image, 4), **options) for image in small.inputs]


@pytest.mark.parametrize("steps", [2, 7, 50])
def test_agrees_with_the_reference(tiny, steps):
    scores = found(KEY, tiny, steps=steps)
    np.testing.assert_allclose(scores.values, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)
    assert scores.valid.all()
    assert scores.reported["labels"] == scores.reported["classes"] == 4


def test_the_mean_over_wrong_labels(tiny):
    def wrong(image, target):
        maps = {a: saliency for a, saliency in all_maps(image, 4).items() if a != target}
        return reference.soundness(tiny.model, image, maps, over=lambda ratios: sum(ratios) / len(ratios))

    means = [wrong(image, int(t)) for image, t in zip(tiny.inputs, tiny.targets, strict=True)]
    assert found(KEY, tiny).reported["wrong_labels"] == pytest.approx(np.mean(means), abs=TOLERANCE)


def test_by_hand():
    # f_0 = 0.4 a + 0.3 b + 0.2 c + 0.1 d = 0.8, f_1 = 0.2; on grey both are 0.5. One pixel after the other kept:
    # label 0, a b c d: 0.62, 0.71, 0.77, 0.8 → g = 0.725 below f_0: 1.
    # label 1, d c b a: 0.47, 0.41, 0.32, 0.2 → g = 0.35: 0.2 / 0.35 = 4/7. Had it the map of label 0: 0.38, 0.29, 0.23, 0.2,
    # g = 0.275: 0.2 / 0.275 = 8/11.
    maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]])
    images = torch.full((1, 1, 2, 2), 0.8)
    small = Small(Share([[[0.4, 0.3], [0.2, 0.1]]]), images, torch.tensor([0]), None, images[:, 0])
    own = made_method(lambda model, inputs, targets, context: maps[targets][:, None])
    one = made_method(lambda model, inputs, targets, context: maps[:1, None])
    for made, value in ((own, 4 / 7), (one, 8 / 11)):
        scores = found(KEY, small, made, steps=4)
        assert scores.values == pytest.approx([value], abs=1e-6)
        assert scores.reported["wrong_labels"] == pytest.approx(value, abs=1e-6)


MUTATIONS = {
    "step 0 taken in": lambda monkey: monkey.setattr(
        reference, "counts", lambda pixels, steps, right=curves.counts: [0, *right(pixels, steps)]
    ),
    "least salient first": lambda monkey: monkey.setattr(
        reference, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
    "upside down": lambda monkey: monkey.setattr(
        reference, "kept", lambda *all_of_it, right=reference.kept: 1 - right(*all_of_it)
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    scores = found(KEY, tiny, steps=12).values
    np.testing.assert_allclose(scores, expected(tiny, steps=12), rtol=0, atol=TOLERANCE)
    MUTATIONS[name](monkeypatch)
    assert np.abs(scores - expected(tiny, steps=12)).max() > 100 * TOLERANCE


@pytest.mark.parametrize("wrong", [{"floor": 0.1}, {"colour": 0.0}, {"over": lambda ratios: sum(ratios) / len(ratios)}])
def test_wrong_bars_would_be_seen(tiny, wrong):
    assert np.abs(found(KEY, tiny, steps=12).values - expected(tiny, steps=12, **wrong)).max() > 100 * TOLERANCE


def test_labels_that_are_all_but_ruled_out_count_as_one_in_a_thousand():
    small = many().take([0, 1])
    small.model.head.weight.data *= 2
    scores = found(KEY, small, labels=12, steps=10).values
    by_bar = {
        floor: [
            reference.soundness(small.model, image, all_maps(image, 12), steps=10, floor=floor)
            for image in small.inputs
        ]
        for floor in (0.001, 0.0)
    }
    np.testing.assert_allclose(scores, by_bar[0.001], rtol=0, atol=TOLERANCE)
    assert np.abs(scores - by_bar[0.0]).max() > 100 * TOLERANCE


def many():
    """Twelve classes."""
    return small_subject(lively(seeded(1, lambda: Tiny(classes=12))), 12, 10)


def test_labels_looked_at():
    small = many()
    subject = study_of(small, method()).subject
    chances = small.model(small.inputs).softmax(1)
    top, drawn = top_labels(subject, 7, 4), drawn_labels(subject, 7, 4)
    assert top.shape == drawn.shape == (7, 4)
    assert top[:, 0].tolist() == small.targets.tolist()
    for i in range(7):
        others = [a for a in chances[i].argsort(descending=True).tolist() if a != int(small.targets[i])]
        assert top[i, 1:].tolist() == others[:3]
        assert len({*top[i].tolist(), *drawn[i].tolist()}) == 8
    assert len({tuple(sorted(row)) for row in drawn.tolist()}) > 1  # not the same of every sample
    assert drawn_labels(subject, 7, 8).shape == (7, 4)  # all that are left
    assert drawn_labels(subject, 7, 12).shape == (7, 0)
    assert sorted(top_labels(subject, 7, 99)[0].tolist()) == list(range(12))


def test_fewer_labels_than_classes():
    small = many().take([0, 1, 2])
    few, whole = found(KEY, small, labels=4, steps=10), found(KEY, small, labels=12, steps=10)
    subject = study_of(small, method()).subject
    looked = torch.cat([top_labels(subject, 3, 4), drawn_labels(subject, 3, 4)], dim=1)
    for i, image in enumerate(small.inputs):
        maps = all_maps(image, 12)
        some = {a: maps[a] for a in looked[i].tolist()}
        assert few.values[i] == pytest.approx(reference.soundness(small.model, image, some, steps=10), abs=TOLERANCE)
        assert whole.values[i] == pytest.approx(reference.soundness(small.model, image, maps, steps=10), abs=TOLERANCE)
    assert (few.values >= whole.values).all()
    assert (few.reported["labels"], whole.reported["labels"], whole.reported["classes"]) == (8, 12, 12)


def test_any_batch_and_order():
    small = many()
    every_batch_and_order(
        lambda rows, batch: found(KEY, small.take(rows), batch=batch, labels=2, steps=4).values, tolerance=TOLERANCE
    )


def test_one_class_is_sound():
    small = small_subject(lively(seeded(0, lambda: Tiny(classes=1))), 12, 10)
    scores = found(KEY, small)
    assert scores.values.tolist() == [1.0] * 7
    assert scores.reported == {"wrong_labels": None, "labels": 1, "classes": 1}


def seen_by(small):
    seen = []
    small.model.register_forward_pre_hook(
        lambda m, a: seen.extend(hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in a[0])
    )
    return seen


@pytest.mark.parametrize("first", [0, 1])
def test_what_completeness_forwarded_is_not_forwarded_again(tiny, first):
    seen, study = seen_by(tiny), study_of(tiny, method())
    keys = ("worst_case_completeness", KEY)
    scores = {key: METRICS[key].measure(study, METRICS[key].parameters({})) for key in (keys[first], keys[1 - first])}
    assert len(seen) == len(set(seen)) == 7 + 7 * 4 * 49
    likely = int((tiny.model(tiny.inputs).softmax(1) >= 0.01).sum())
    assert scores[keys[0]].passes == 7 + likely * 49  # whichever came first and paid
    assert scores[KEY].passes == 7 + 28 * 49


def test_full_batches(tiny):
    sizes = []
    tiny.model.register_forward_pre_hook(lambda m, a: sizes.append(len(a[0])))
    found(KEY, tiny, batch=8)
    assert len([size for size in sizes if size != 8]) <= 3  # the images', and the last of likely and of unlikely labels


def test_own_maps_cannot_be_made_for_other_labels(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="rise", method_params={"n_masks": 5})
