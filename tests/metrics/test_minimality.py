"""Minimality against its slow reference, by hand, and under wrong versions of itself."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from reference import curves
from reference import regions as reference
from small_models import Share, every_batch_and_order, told_apart, untouched
from small_runs import forwards

from cardgen import measure
from cardgen.draws import content_ids
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.study import Study, Subject

STEPS = 12


def backgrounds(small):
    return Subject(*small.call, content_ids(small.inputs)).substrate("random", len(small.inputs))


@pytest.fixture
def sure(tiny):
    return told_apart(tiny, backgrounds(tiny))


def left(small, **options):
    """Of each sample, pixels of the set, and of what is needed of it."""
    found = [
        reference.left(small.model, x, int(t), a, b, **options)
        for x, t, a, b in zip(small.inputs, small.targets, small.maps, backgrounds(small), strict=True)
    ]
    return np.array([[len(chosen), len(kept)] for chosen, kept in found])


def expected(small, **options):
    size, kept = left(small, **options).T
    return (size - kept) / small.maps[0].numel()


@pytest.mark.parametrize(("steps", "confidence"), [(STEPS, 0.9), (STEPS, 0.95), (30, 0.9), (7, 0.99)])
def test_agrees_with_the_reference(sure, steps, confidence):
    found = measure("minimality", *sure.call, maps=sure.maps, steps=steps, confidence=confidence)
    wanted = left(sure, steps=steps, confidence=confidence)
    np.testing.assert_allclose(found.values, expected(sure, steps=steps, confidence=confidence), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.valid, wanted[:, 0] > 0)
    assert found.valid.sum() >= 4
    size, kept = wanted[wanted[:, 0] > 0].T / 120
    means = {"sufficient": size.mean(), "needed": kept.mean(), "of_set": (1 - kept / size).mean()}
    assert found.reported == pytest.approx(means)


EIGHTHS = Share([[[0.4, 0.0, 0.3, 0.0], [0.2, 0.0, 0.1, 0.0]]])
HAND = {"steps": 8, "substrate": "black"}


@pytest.mark.parametrize(
    ("saliency", "confidence", "size", "needed"),
    [
        # the set is all that matters and nothing else: .4 .3 .2 ≥ .85
        ([[8, 3, 7, 2], [6, 1, 5, 0]], 0.85, 3, 3),
        # two pixels that do not matter come between: they can go
        ([[8, 7, 6, 5], [4, 3, 2, 1]], 0.85, 5, 3),
        # the least salient first: .4 .3 .1 .2 pass .9 with the last; at ≥ .75 that is .4 .3 .1, where .1 cannot go
        ([[8, 1, 7, 2], [5, 3, 6, 0]], 0.75, 3, 3),
        # .1 .2 .3 .4: of all four at ≥ .65 first .4 is tried, which cannot go (.6); then .3 goes (.7), .2 cannot (.5), .1 cannot (.6)
        ([[5, 1, 6, 2], [7, 3, 8, 0]], 0.65, 4, 3),
        # 0 .3 0 .2: enough with the last, and the two that do not matter can go
        ([[1, 8, 7, 6], [5, 4, 3, 2]], 0.35, 4, 2),
    ],
)
def test_by_hand(saliency, confidence, size, needed):
    image, target = torch.ones(1, 1, 2, 4), torch.tensor([0])
    call = {"maps": torch.tensor([saliency]).float(), "confidence": confidence}
    found = measure("minimality", EIGHTHS, image, target, **call, **HAND)
    assert found.valid.all()
    assert [round(8 * found.reported[name]) for name in ("sufficient", "needed")] == [size, needed]
    assert found.values == pytest.approx([(size - needed) / 8])


def test_where_the_bare_substrate_is_enough_there_is_no_set():
    images, targets = torch.ones(2, 1, 2, 4), torch.tensor([0, 1])
    model = Share([[[0.35, 0.0, 0.3, 0.0], [0.2, 0.0, 0.1, 0.0]]])
    found = measure("minimality", model, images, targets, maps=torch.rand(2, 2, 4), **HAND)
    assert found.valid.tolist() == [True, False]
    alone = measure("minimality", model, images[1:], targets[1:], maps=torch.rand(1, 2, 4), **HAND)
    assert alone.reported == {"sufficient": None, "needed": None, "of_set": None}


def groups_not_put_back(model, image, target, saliency, background, steps=50, confidence=0.9):
    """Each group by itself, without the others having gone."""
    chosen = reference.sufficient(model, image, target, saliency, background, steps, confidence)
    whole, kept = reference.probability(model, image, target), list(chosen)
    edges = curves.counts(len(chosen), steps)
    for start, stop in itertools.pairwise(edges):
        rest = [p for p in chosen if p not in chosen[start:stop]]
        if reference.probability(model, reference.only(image, rest, background), target) >= confidence * whole:
            kept = [p for p in kept if p not in chosen[start:stop]]
    return chosen, kept


def most_salient_first(*args, **options):
    """The set turned round, so that its most salient group is visited first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            reference, "sufficient", lambda *a, right=reference.sufficient, **o: list(reversed(right(*a, **o)))
        )
        return RIGHT(*args, **options)


RIGHT = reference.left
MUTATIONS = {
    "each group by itself": ("left", groups_not_put_back),
    "most salient group first": ("left", most_salient_first),
    "another class": ("probability", lambda m, x, t, right=reference.probability: right(m, x, (t + 1) % 4)),
    "taken from the image": (
        "only",
        lambda image, pixels, background, right=reference.only: right(background, pixels, image),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(sure, name, monkeypatch):
    found = measure("minimality", *sure.call, maps=sure.maps, steps=STEPS).values
    np.testing.assert_allclose(found, expected(sure, steps=STEPS), rtol=0, atol=1e-12)
    monkeypatch.setattr(reference, *MUTATIONS[name])
    assert np.abs(found - expected(sure, steps=STEPS)).max() > 1 / 240


def test_any_batch_and_order(sure):
    def score(rows, batch):
        some = sure.take(rows)
        return measure("minimality", *some.call, maps=some.maps, steps=STEPS, batch=batch).values

    every_batch_and_order(score)


def test_fewer_samples_first_gives_the_same_scores(sure):
    metric = METRICS["minimality"]

    def scores(*counts):
        subject = Subject(*sure.call, content_ids(sure.inputs), cuts=(2, 5))
        return [
            metric.measure(Study(subject, n, given=sure.maps), metric.parameters({"steps": STEPS})).values
            for n in counts
        ][-1]

    np.testing.assert_array_equal(scores(2, 5, 7), scores(7))


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("minimality", *tiny.call, maps=tiny.maps, steps=STEPS)


def test_no_image_is_forwarded_twice_and_all_rounds_are_full(sure):
    digests, sizes = [], []

    def look(module, arguments):
        sizes.append(len(arguments[0]))
        digests.extend(hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in arguments[0])

    sure.model.register_forward_pre_hook(look)
    study = Study(Subject(*sure.call, content_ids(sure.inputs)), 7, given=sure.maps)
    for key in ("sufficiency", "minimality", "sufficiency"):
        METRICS[key].measure(study, METRICS[key].parameters({"steps": STEPS, "confidence": 0.99}))
    assert len(set(digests)) == len(digests)
    assert len(sizes) <= STEPS + 2 + -(-7 * (STEPS - 1) // 32), "one batch a round, of all samples that ask"


def test_it_costs_the_curve_and_at_most_one_pass_a_group(sure):
    study = Study(Subject(*sure.call, content_ids(sure.inputs)), 7, given=sure.maps)
    metric = METRICS["minimality"]
    with forwards(sure.model) as seen:
        passes = metric.measure(study, metric.parameters({"steps": STEPS})).passes
    assert passes == sum(seen)
    sets = left(sure, steps=STEPS)[:, 0]
    assert 7 * (STEPS + 1) < passes <= 7 * (STEPS + 1) + np.minimum(sets, STEPS).sum()


def test_a_confidence_that_is_no_share_is_refused(tiny):
    with pytest.raises(CardgenError, match=r"^a set that keeps 0 of the prediction; expected a share above 0, up to 1"):
        measure("minimality", *tiny.call, maps=tiny.maps, confidence=0.0)
