"""Sufficiency against its slow reference, by hand, and under wrong versions of itself."""

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


def expected(small, noise=None, **options):
    return [
        reference.sufficiency(small.model, x, int(t), a, b, **options)
        for x, t, a, b in zip(
            small.inputs, small.targets, small.maps, backgrounds(small) if noise is None else noise, strict=True
        )
    ]


@pytest.mark.parametrize(("steps", "confidence"), [(STEPS, 0.9), (STEPS, 0.95), (50, 0.9), (7, 1.0)])
def test_agrees_with_the_reference(sure, steps, confidence):
    found = measure("sufficiency", *sure.call, maps=sure.maps, steps=steps, confidence=confidence)
    wanted = np.array(expected(sure, steps=steps, confidence=confidence))
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.valid, wanted > 0)
    assert found.valid.sum() >= 4


def test_the_mean_for_noise(sure):
    found = measure("sufficiency", *sure.call, maps=sure.maps, steps=STEPS, substrate="mean").values
    wanted = expected(sure, noise=torch.full_like(sure.inputs, 0.5), steps=STEPS)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_by_hand():
    # f_0 of the parts that are shown: .4, .7, .9, 1 the one way, .1, .3, .6, 1 the other
    model, images = Share([[[0.4, 0.3], [0.2, 0.1]]]), torch.ones(2, 1, 2, 2)
    maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]])
    for confidence, shares in ((0.35, [0.25, 0.75]), (0.65, [0.5, 1]), (0.85, [0.75, 1]), (0.95, [1, 1])):
        options = {"steps": 4, "substrate": "black", "confidence": confidence}
        found = measure("sufficiency", model, images, torch.tensor([0, 0]), maps=maps, **options)
        assert found.values.tolist() == shares
        assert found.valid.all()


def test_the_share_is_of_the_clean_probability():
    # f_0(x) = .2: .9 of that is .18, which the first pixel has
    model = Share([[[0.19, 0.01], [0.0, 0.0]]])
    saliency = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    options = {"steps": 4, "substrate": "black"}
    found = measure("sufficiency", model, torch.ones(1, 1, 2, 2), torch.tensor([0]), maps=saliency, **options)
    assert found.values.tolist() == [0.25]


def test_where_the_bare_substrate_is_enough_there_is_no_set():
    # class 1 needs darkness
    model = Share([[[0.4, 0.3], [0.2, 0.05]]])
    images, targets = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    found = measure("sufficiency", model, images, targets, maps=torch.rand(2, 2, 2), steps=4, substrate="black")
    assert found.valid.tolist() == [True, False]


def test_it_is_the_first_step_that_counts_even_if_a_later_one_falls_back():
    # shown from the left: .9, then darkness is better (.1), then 1
    class Fickle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.f = torch.nn.Parameter(torch.tensor([0.05, 0.95, 0.1, 0.2, 0.999]))

        def forward(self, x):
            p = self.f[x.flatten(1).sum(1).round().long()]
            return torch.stack([p.log(), (1 - p).log()], 1)

    saliency = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    options = {"steps": 4, "substrate": "black"}
    found = measure("sufficiency", Fickle(), torch.ones(1, 1, 2, 2), torch.tensor([0]), maps=saliency, **options)
    assert found.values.tolist() == [0.25]


MUTATIONS = {
    "least salient first": (
        curves,
        "descending",
        lambda saliency, right=curves.descending: right(-saliency),
    ),
    "one pixel late": (
        curves,
        "counts",
        lambda pixels, steps, right=curves.counts: [max(c - 1, 0) for c in right(pixels, steps)],
    ),
    "another class": (
        reference,
        "probability",
        lambda m, x, t, right=reference.probability: right(m, x, (t + 1) % 4),
    ),
    "taken from the image": (
        reference,
        "only",
        lambda image, pixels, background, right=reference.only: right(background, pixels, image),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(sure, name, monkeypatch):
    found = measure("sufficiency", *sure.call, maps=sure.maps, steps=STEPS).values
    np.testing.assert_allclose(found, expected(sure, steps=STEPS), rtol=0, atol=1e-12)
    monkeypatch.setattr(*MUTATIONS[name])
    assert np.abs(found - expected(sure, steps=STEPS)).max() > 1 / 240


def test_any_batch_and_order(sure):
    def score(rows, batch):
        some = sure.take(rows)
        return measure("sufficiency", *some.call, maps=some.maps, steps=STEPS, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("sufficiency", *tiny.call, maps=tiny.maps, steps=STEPS)


def test_the_curve_is_that_of_insertion_into_the_same_substrate(tiny):
    study = Study(Subject(*tiny.call, content_ids(tiny.inputs)), 7, given=tiny.maps)
    with forwards(tiny.model) as seen:
        for key in ("insertion", "sufficiency"):
            METRICS[key].measure(study, METRICS[key].parameters({"steps": STEPS, "substrate": "random"}))
    assert sum(seen) == 7 * (STEPS + 1)


@pytest.mark.parametrize("confidence", [0.0, -1.0, 1.01])
def test_a_confidence_that_is_no_share_is_refused(tiny, confidence):
    with pytest.raises(CardgenError) as error:
        measure("sufficiency", *tiny.call, maps=tiny.maps, confidence=confidence)
    assert str(error.value) == (
        f"a set that keeps {confidence:g} of the prediction; expected a share above 0, up to 1; mend the parameter confidence"
    )


def test_steps_that_make_no_curve_are_refused(tiny):
    with pytest.raises(CardgenError, match=r"^a curve of 121 steps over 120 pixels; expected 2 to 120 steps"):
        measure("sufficiency", *tiny.call, maps=tiny.maps, steps=121)
