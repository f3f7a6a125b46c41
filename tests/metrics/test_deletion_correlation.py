"""Deletion correlation against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import curves
from small_models import Linear, Share, every_batch_and_order, untouched

from cardgen import measure
from cardgen.api import make_subject
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.scores import Scores
from cardgen.space import Space
from cardgen.step_correlation import step_saliency
from cardgen.study import Study
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import Control, vs_noise

TOLERANCE = 1e-5  # a ratio of float32 differences
KEY = "deletion_correlation"


def expected(small, **options):
    return [
        curves.deletion_correlation(small.model, small.inputs[i], int(small.targets[i]), small.maps[i], **options)
        for i in range(7)
    ]


@pytest.mark.parametrize("steps", [2, 7, 16, 50, 120])
def test_agrees_with_the_reference(tiny, steps):
    found = measure(KEY, *tiny.call, maps=tiny.maps - 0.5, steps=steps)
    assert found.valid.all()
    np.testing.assert_allclose(found.values, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "colour"), [("black", -1.0), ("mean", 0.25), ("zero", 0.0)])
def test_substrates_are_colours_of_the_space(tiny, name, colour):
    space = Space((-1.0,), (3.0,), (0.25,))
    found = measure(KEY, *tiny.call, maps=tiny.maps, steps=10, substrate=name, space=space).values
    np.testing.assert_allclose(found, expected(tiny, steps=10, colour=colour), rtol=0, atol=TOLERANCE)


def test_by_hand():
    # f_0(x) = 0.4 a + 0.3 b + 0.2 c + 0.1 d on an image of ones, removed to black:
    # map 4 3 2 1: drops .4 .3 .2 .1 against 4 3 2 1 → 1
    # map 1 2 3 4: d first, drops .1 .2 .3 .4 against 4 3 2 1 → −1
    # map 9 1 0 0.5: order a b d c, drops .4 .3 .1 .2 (mean .25) against 9 1 .5 0 (mean 2.625):
    #   deviations .15 .05 −.15 −.05 and 6.375 −1.625 −2.125 −2.625: Σ .95625 − .08125 + .31875 + .13125 = 1.325;
    #   √(Σ .05 · Σ 54.6875) = 1.653594 → .801285
    # steps of two pixels: map 9 1 0 0.5: drops .7 .3 against 5 .25 → 1
    model, maps = Share([[[0.4, 0.3], [0.2, 0.1]]]), torch.tensor([[4.0, 3, 2, 1], [1, 2, 3, 4], [9, 1, 0, 0.5]])
    call = (model, torch.ones(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    found = measure(KEY, *call, maps=maps.view(3, 2, 2), steps=4, substrate="black").values
    assert found == pytest.approx([1, -1, 0.801285], abs=1e-5)
    coarse = measure(KEY, *call, maps=maps.view(3, 2, 2), steps=2, substrate="black").values
    assert coarse == pytest.approx([1, -1, 1], abs=1e-5)


def test_steps_of_unequal_counts_have_means_and_not_sums():
    # 4 pixels in 3 steps end at 4/3, 8/3, 4, rounded 1, 3, 4: the middle step has two pixels
    # map 9 4 2 1: means 9, 3, 1
    images, maps = torch.ones(1, 1, 2, 2), torch.tensor([[[9.0, 4.0], [2.0, 1.0]]])
    subject = make_subject(Share([[[0.4, 0.3], [0.2, 0.1]]]), images, torch.tensor([0]), None, None, 0, 32, None)
    study = Study(subject, 1, given=maps)
    assert step_saliency(study, 3).tolist() == [[9.0, 3.0, 1.0]]


def test_scale_and_offset_of_the_map_do_not_matter_and_its_values_do(tiny):
    plain = measure(KEY, *tiny.call, maps=tiny.maps).values
    moved = measure(KEY, *tiny.call, maps=4 * tiny.maps - 1).values
    np.testing.assert_allclose(moved, plain, rtol=0, atol=TOLERANCE)
    same_order = measure(KEY, *tiny.call, maps=tiny.maps**8).values
    assert np.abs(same_order - plain).min() > 0.001


MUTATIONS = {
    "rises for drops": lambda monkey: monkey.setattr(
        curves, "changes", lambda values, insert, right=curves.changes: right(values, not insert)
    ),
    "the next step's saliency": lambda monkey: monkey.setattr(
        curves, "step_means", lambda *a, right=curves.step_means: right(*a)[1:] + right(*a)[:1]
    ),
    "the sum for the mean": lambda monkey: monkey.setattr(
        curves,
        "step_means",
        lambda saliency, order, steps, right=curves.step_means: [
            mean * (b - a)
            for mean, a, b in zip(
                right(saliency, order, steps),
                curves.counts(len(order), steps)[:-1],
                curves.counts(len(order), steps)[1:],
                strict=True,
            )
        ],
    ),
    "the mean of all removed so far": lambda monkey: monkey.setattr(
        curves,
        "step_means",
        lambda saliency, order, steps: [
            sum(float(saliency[p]) for p in order[:c]) / c for c in curves.counts(len(order), steps)[1:]
        ],
    ),
    "ranks for values": lambda monkey: monkey.setattr(
        curves, "step_means", lambda saliency, order, steps: [float(steps - k) for k in range(steps)]
    ),
    "the logit": lambda monkey: monkey.setattr(curves, "probability", curves.logit),
    "least salient first": lambda monkey: monkey.setattr(
        curves, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    found = measure(KEY, *tiny.call, maps=tiny.maps**3, steps=16).values
    cubed = tiny._replace(maps=tiny.maps**3)
    np.testing.assert_allclose(found, expected(cubed, steps=16), rtol=0, atol=TOLERANCE)
    MUTATIONS[name](monkeypatch)
    assert np.abs(found - expected(cubed, steps=16)).max() > 100 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score, tolerance=TOLERANCE)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_constant_maps_have_no_correlation(tiny):
    maps = tiny.maps.clone()
    maps[2] = 0.3
    found = measure(KEY, *tiny.call, maps=maps)
    assert found.flat.tolist() == [False, False, True, False, False, False, False]
    assert found.valid.tolist() == [True, True, False, True, True, True, True]
    assert found.values[2] == 0.0
    assert found.reported == {"still": 0}


class Scaled(torch.nn.Module):
    """f_0 = 1/2 + Σ w·x for small w, as good as exactly: logits of ±2 Σ w·x."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.as_tensor(weights))

    def forward(self, x):
        score = 2 * (self.weights * x).sum((1, 2, 3))
        return torch.stack([score, -score], 1)


@pytest.mark.parametrize(("size", "still"), [(0.0, True), (2e-7, True), (1e-5, False)])
def test_drops_that_are_rounding_count_as_flat(size, still):
    # drops of size·4 3 2 1: their standard deviation is size·1.118
    model, maps = Scaled(size * torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])), torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    found = measure(KEY, model, torch.ones(1, 1, 2, 2), torch.tensor([0]), maps=maps, steps=4, substrate="black")
    assert found.flat.tolist() == [still]
    assert found.valid.tolist() == [not still]
    assert found.reported == {"still": int(still)}
    assert found.values[0] == (0.0 if still else pytest.approx(1.0, abs=0.02))


def decided(scores, noise):
    """The rule on given scores; every noise draw has a correlation of 0.5 where `noise` says that it has one."""
    control = Control("Noise", "noise", np.where(noise, 0.5, 0.0)[None], noise[None])
    return vs_noise(scores, {"noise": control}, METRICS[KEY].entry, DEFAULTS, 0)


def test_a_flat_sample_has_no_lead_and_no_sample_without_answer_counts():
    values, all_of_them = np.full(40, 0.9), np.ones(40, dtype=bool)
    values += np.linspace(-0.1, 0.1, 40)
    still = np.arange(40) < 4
    found = Scores(np.where(still, 0.0, values), ~still, still)
    with_noise, without = decided(found, all_of_them), decided(found, ~still)
    assert (with_noise.n, without.n) == (40, 36)  # noise moves the score, or nothing does
    lead = (values[4:] - 0.5).sum()
    assert with_noise.controls["noise"].difference == pytest.approx(lead / 40, abs=5e-4)  # records keep three digits
    assert without.controls["noise"].difference == pytest.approx(lead / 36, abs=5e-4)
    many = np.arange(40) < 5
    assert decided(Scores(np.where(many, 0.0, values), ~many, many), all_of_them).verdict == "inconclusive"
    assert decided(Scores(values, all_of_them, ~all_of_them), all_of_them).verdict == "pass"


def test_a_model_that_never_answers_gives_no_verdict(tiny):
    model = Linear(torch.zeros(360))
    targets = torch.zeros(7, dtype=torch.int64)
    found = measure(KEY, model, tiny.inputs, targets, maps=tiny.maps)
    assert found.flat.all()
    assert not found.valid.any()
    assert found.reported == {"still": 7}
    assert decided(found, np.zeros(7, dtype=bool)).verdict == "inconclusive"


@pytest.mark.usefixtures("as_users_run")
def test_steps_that_make_no_curve_are_refused(tiny):
    with pytest.raises(CardgenError) as error:
        measure(KEY, *tiny.call, maps=tiny.maps, steps=121)
    assert str(error.value) == (
        "a curve of 121 steps over 120 pixels; expected 2 to 120 steps; set the parameter steps, or give larger images"
    )
