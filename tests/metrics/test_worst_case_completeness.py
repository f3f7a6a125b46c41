"""Worst-case completeness against its slow reference, by hand, and under wrong versions of itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import curves
from reference import worst_case as reference
from reference.network import probability
from rolled_maps import all_maps, found, method
from small_methods import made_method, study_of
from small_models import Share, Small, Tiny, every_batch_and_order, lively, seeded, small_subject, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES, Control

KEY = "worst_case_completeness"
TOLERANCE = 1e-5


def expected(small, classes=4, score=reference.completeness, **options):
    return [score(small.model, image, all_maps(image, classes), **options) for image in small.inputs]


@pytest.mark.parametrize("steps", [2, 7, 50])
def test_agrees_with_the_reference(tiny, steps):
    scores = found(KEY, tiny, steps=steps)
    np.testing.assert_allclose(scores.values, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)
    assert scores.valid.all()


def test_some_labels_are_likely_and_some_are_not(tiny):
    # otherwise the agreement above would say nothing of the choice among them
    likely = [sum(probability(tiny.model, image, a) >= 0.01 for a in range(4)) for image in tiny.inputs]
    assert 1 < sum(likely) / 7 < 4
    scores = found(KEY, tiny)
    assert scores.reported["labels"] == pytest.approx(sum(likely) / 7)
    assert scores.reported["cut"] == 0


def by_labels(first, second):
    """A method that gives one map to label 0 and another to label 1."""
    maps = torch.stack([torch.tensor(first), torch.tensor(second)])
    return made_method(lambda model, inputs, targets, context: maps[targets][:, None])


FALLING, RISING = [[4.0, 3.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]


def light():
    """An image of 0.8 for which f_0 = 0.4 a + 0.3 b + 0.2 c + 0.1 d = 0.8, and f_1 = 0.2; on grey both are 0.5."""
    images = torch.full((2, 1, 2, 2), 0.8)
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    return Small(Share([[[0.4, 0.3], [0.2, 0.1]]]), images, torch.tensor([0, 1]), masks, images[:, 0])


def test_by_hand():
    # Label 0, a b c d kept one after the other: 0.62, 0.71, 0.77, 0.8 → g = 0.725, and 0.725 / 0.8 = 0.90625.
    # Label 1, d c b a: 0.47, 0.41, 0.32, 0.2 → g = 0.35, more than f_1 = 0.2: 1. The class explained makes no difference.
    scores = found(KEY, light(), by_labels(FALLING, RISING), steps=4)
    assert scores.values == pytest.approx([0.90625, 0.90625], abs=1e-6)
    assert scores.reported == {"explained": pytest.approx((0.90625 + 1) / 2, abs=1e-6), "labels": 2.0, "cut": 0}
    # Label 0 with d c b a: 0.53, 0.59, 0.68, 0.8 → g = 0.65, and 0.65 / 0.8 = 0.8125.
    scores = found(KEY, light(), by_labels(RISING, RISING), steps=4)
    assert scores.values == pytest.approx([0.8125, 0.8125], abs=1e-6)


MUTATIONS = {
    "step 0 taken in": lambda monkey: monkey.setattr(
        reference, "counts", lambda pixels, steps, right=curves.counts: [0, *right(pixels, steps)]
    ),
    "the image left out": lambda monkey: monkey.setattr(
        reference, "counts", lambda pixels, steps, right=curves.counts: right(pixels, steps)[:-1]
    ),
    "least salient first": lambda monkey: monkey.setattr(
        reference, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
    "the map of another label": lambda monkey: monkey.setattr(
        reference,
        "kept",
        lambda m, x, a, s, *rest, right=reference.kept: right(m, x, a, s.flatten().roll(31).view(12, 10), *rest),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    scores = found(KEY, tiny, steps=12).values
    np.testing.assert_allclose(scores, expected(tiny, steps=12), rtol=0, atol=TOLERANCE)
    MUTATIONS[name](monkeypatch)
    assert np.abs(scores - expected(tiny, steps=12)).max() > 100 * TOLERANCE


@pytest.mark.parametrize("wrong", [{"least": 0.1}, {"colour": 0.0}, {"least": 0.5}])
def test_wrong_bars_and_colours_would_be_seen(tiny, wrong):
    assert np.abs(found(KEY, tiny, steps=12).values - expected(tiny, steps=12, **wrong)).max() > 100 * TOLERANCE


def test_another_substrate(tiny):
    scores = found(KEY, tiny, steps=12, substrate="black").values
    np.testing.assert_allclose(scores, expected(tiny, steps=12, colour=0.0), rtol=0, atol=TOLERANCE)


def test_of_more_likely_labels_than_are_looked_at_it_says_so():
    small = small_subject(lively(seeded(1, lambda: Tiny(classes=12))), 12, 10)
    small.model.head.weight.data /= 12
    few, all_of_them = found(KEY, small, labels=2, steps=10), found(KEY, small, labels=12, steps=10)
    assert few.reported["cut"] == 7
    assert all_of_them.reported["cut"] == 0
    np.testing.assert_allclose(all_of_them.values, expected(small, 12, steps=10), rtol=0, atol=TOLERANCE)
    assert (few.values >= all_of_them.values).all()
    assert (few.values > all_of_them.values).any()


def test_where_no_label_is_likely_there_is_no_score():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(360, 200))
    torch.nn.init.zeros_(model[1].weight)
    torch.nn.init.zeros_(model[1].bias)
    scores = found(KEY, small_subject(model, 12, 10))
    assert not scores.valid.any()
    assert scores.reported == {"explained": None, "labels": 0.0, "cut": 0}
    assert scores.passes == 7  # nothing is forwarded but the images


def test_the_true_evidence_beats_noise_and_noise_does_not_beat_noise():
    draws = torch.Generator().manual_seed(0)
    weights = torch.zeros(1, 8, 8)
    weights[:, 2:4, 2:4] = 0.25
    images = 0.8 + 0.1 * torch.rand(40, 1, 8, 8, generator=draws)
    small = Small(Share(weights), images, torch.zeros(40, dtype=torch.int64), None, images[:, 0])
    truth = made_method(lambda model, inputs, targets, context: weights.expand(len(inputs), -1, -1, -1))
    noises = {
        key: [measure(KEY, *small.call, method=key, method_params={"draw": d}, steps=8) for d in range(4)]
        for key in ("noise", "noise_4")
    }
    family = {
        key: Control(key, "noise", np.stack([s.values for s in drawn[:3]]), np.stack([s.valid for s in drawn[:3]]))
        for key, drawn in noises.items()
    }

    def verdict(scores):
        return RULES["vs_noise"](scores, family, METRICS[KEY].entry, DEFAULTS, 0).verdict

    assert verdict(found(KEY, small, truth, steps=8)) == "pass"
    assert "pass" not in [verdict(drawn[3]) for drawn in noises.values()]


def test_any_batch_and_order(tiny):
    every_batch_and_order(
        lambda rows, batch: found(KEY, tiny.take(rows), batch=batch, steps=10).values, tolerance=TOLERANCE
    )


def test_ties_are_broken_by_the_sample_and_not_by_the_sort(tiny):
    coarse = made_method(lambda model, inputs, targets, context: (inputs.mean(1, keepdim=True) * 3).floor())
    every_batch_and_order(lambda rows, batch: found(KEY, tiny.take(rows), coarse, batch=batch, steps=10).values)
    flat = made_method(lambda model, inputs, targets, context: torch.zeros_like(inputs[:, :1]))
    assert found(KEY, tiny, flat).flat.all()
    rows = made_method(
        lambda model, inputs, targets, context: -torch.arange(120.0).view(1, 1, 12, 10).expand(len(inputs), -1, -1, -1)
    )
    assert np.abs(found(KEY, tiny, flat).values - found(KEY, tiny, rows).values).max() > 1e-3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"steps": 1},
            "a curve of 1 steps over 120 pixels; expected 2 to 120 steps; set the parameter steps, or give larger images",
        ),
        ({"labels": 0}, "0 labels a sample; expected at least 1; raise the parameter labels"),
    ],
)
def test_parameters_that_make_no_score_are_refused(tiny, parameters, message):
    with pytest.raises(CardgenError) as caught:
        found(KEY, tiny, **parameters)
    assert str(caught.value) == message


def test_own_maps_cannot_be_made_for_other_labels(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_segments_that_end_elsewhere_than_the_samples_asked_for(tiny):
    study = study_of(tiny, method())
    study = replace(study, subject=replace(study.subject, cuts=(2, 5)), n=4)
    some = METRICS[KEY].measure(study, METRICS[KEY].parameters({"steps": 10}))
    np.testing.assert_allclose(some.values, found(KEY, tiny, steps=10).values[:4], rtol=0, atol=TOLERANCE)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="vanilla_gradients")


def test_maps_are_those_of_the_label(tiny):
    asked = []

    def noted(model, inputs, targets, context):
        asked.extend(zip(context.ids, targets.tolist(), strict=True))
        return method().function(model, inputs, targets, context)

    found(KEY, tiny, made_method(noted))
    assert len(asked) == len(set(asked))  # each pair once, the class explained of all samples among them
    chances = tiny.model.eval()(tiny.inputs).softmax(1)
    assert len(asked) == int(((chances >= 0.01) | torch.nn.functional.one_hot(tiny.targets, 4).bool()).sum())
