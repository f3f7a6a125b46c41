"""Model contrast score against its slow reference, by hand, under its rule, and on maps that know nothing of the model."""

import numpy as np
import pytest
import torch
from reference import siblings as reference
from small_methods import made_method, study_of
from small_models import Small, every_batch_and_order, siblings_of, small_subject, tiny_subject, untouched
from torch import nn

from cardgen import explain, measure
from cardgen.api import named
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.records import MetricEntry, Source
from cardgen.scores import Scores
from cardgen.thresholds import DEFAULTS, Thresholds
from cardgen.verdicts import RULES, contrast_matched_noise, vs_matched_noise

KEY = "model_contrast_score"
FEW = {"noise_draws": 2}
MEMBERS = ("noise", "noise_1", "noise_4", "noise_7", "noise_14")


def found(small, method="input_x_gradient", siblings=None, masks=None, **options):
    masks = small.masks if masks is None else masks
    siblings = siblings or siblings_of(small.model)
    return measure(KEY, *small.call, method=method, siblings=siblings, masks=masks, **FEW | options)


def pairs(small):
    """Each sample's map of the class explained, and the scene model's of the class that it predicts."""
    scene = siblings_of(small.model)["scene"]
    return [
        (reference.signed(small.model, x, int(t)), reference.signed(scene, x, reference.predicted(scene, x)))
        for x, t in zip(small.inputs, small.targets, strict=True)
    ]


def each(small, contrast):
    return [contrast(a, b, mask) for (a, b), mask in zip(pairs(small), small.masks, strict=True)]


def test_agrees_with_the_reference(tiny):
    scores = found(tiny)
    np.testing.assert_allclose(scores.values, each(tiny, reference.contrast), rtol=0, atol=1e-5)
    published = np.mean(each(tiny, reference.published))
    assert scores.reported == {"mean_published_normalisation": pytest.approx(published, abs=1e-5)}
    assert scores.valid.all()
    assert np.ptp(scores.values) > 0.1


def test_value_matched_noise_agrees_with_the_reference(tiny):
    scores = found(tiny)
    assert set(scores.parts) == {f"matched/{member}" for member in MEMBERS}
    for member in ("noise", "noise_14"):  # on coarser grids noise has ties at the border
        for draw in range(2):
            noise = explain(member, *tiny.call, draw=draw)
            expected = [
                reference.matched_contrast(a, b, mask, other)
                for (a, b), mask, other in zip(pairs(tiny), tiny.masks, noise, strict=True)
            ]
            np.testing.assert_allclose(scores.parts[f"matched/{member}"][draw], expected, rtol=0, atol=1e-5)


class Painted(nn.Module):
    """A network that holds the map to be given, and names class 0."""

    def __init__(self, saliency):
        super().__init__()
        self.saliency = nn.Parameter(torch.as_tensor(saliency))

    def forward(self, x):
        return torch.stack([x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3)) - 1e6], 1) + 0 * self.saliency.sum()


PAINTED = made_method(lambda model, inputs, *_: model.saliency.expand(len(inputs), 1, -1, -1))


def painted(one, other, mask, n=1):
    """Scores of a method that gives `one` for the model and `other` for the scene model."""
    inputs = torch.rand(n, 3, *np.shape(one), generator=torch.Generator().manual_seed(0))
    masks = torch.as_tensor(mask).expand(n, -1, -1)
    small = Small(Painted(one), inputs, torch.zeros(n, dtype=torch.int64), masks, inputs[:, 0])
    study = study_of(small, PAINTED)
    study.subject.siblings.update(named({"scene": Painted(other)}))
    return METRICS[KEY].measure(study, FEW)


def test_by_hand():
    # (0 2 4 8) / 8 on the mask of the last two: (0.5 + 1) / 2; (−4 0 −2 −4) becomes 0 1 ½ 0: (½ + 0) / 2. 0.75 − 0.25
    scores = painted([[0.0, 2.0], [4.0, 8.0]], [[-4.0, 0.0], [-2.0, -4.0]], [[False, False], [True, True]])
    assert scores.values == pytest.approx([0.5])
    # sorted 1 .5 .25 0 less 1 .5 0 0 is 0 0 .25 0: the third in the noise's order, on the mask or not
    assert {v for part in scores.parts.values() for v in part.flatten().tolist()} <= {0.0, 0.125}


MUTATIONS = {
    "the model's own class for both": lambda small: [
        reference.contrast(
            reference.signed(small.model, x, int(t)),
            reference.signed(siblings_of(small.model)["scene"], x, int(t) % 3),
            mask,
        )
        for x, t, mask in zip(small.inputs, small.targets, small.masks, strict=True)
    ],
    "the other way round": lambda small: [-v for v in each(small, reference.contrast)],
    "off the mask": lambda small: each(small, lambda a, b, mask: reference.contrast(a, b, ~mask)),
    "not normalised": lambda small: each(small, lambda a, b, mask: float(a[mask].mean() - b[mask].mean())),
    "the sum": lambda small: each(small, lambda a, b, mask: reference.contrast(a, b, mask) * int(mask.sum())),
    "as published": lambda small: each(small, reference.published),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    assert np.abs(found(tiny).values - MUTATIONS[name](tiny)).max() > 0.01


def test_empty_and_full_masks_have_none(tiny):
    masks = tiny.masks.clone()
    masks[3], masks[5] = False, True
    assert found(tiny, masks=masks).valid.tolist() == [True, True, True, False, True, False, True]


@pytest.mark.parametrize("which", ["one", "other"])
def test_a_flat_map_of_either_model_has_no_normalised_form(which):
    maps = {"one": [[0.0, 2.0], [4.0, 8.0]], "other": [[1.0, 0.0], [0.0, 0.0]]} | {which: [[3.0, 3.0], [3.0, 3.0]]}
    scores = painted(**maps, mask=[[True, False], [False, False]], n=3)
    assert not scores.valid.any()
    assert scores.flat.all()
    assert scores.reported == {}


def verdict(scores, bars=DEFAULTS):
    return RULES["contrast_matched_noise"](scores, {}, METRICS[KEY].entry, bars, 0)


def marked(low, high):
    """A map that is high on a corner of 4 × 4 of 12 × 10 pixels, and varies elsewhere."""
    found = low + 0.1 * torch.rand(12, 10, generator=torch.Generator().manual_seed(int(100 * low)))
    found[:4, :4] = high
    found[11, 9], found[11, 8] = 1.0, 0.0
    return found


CORNER = marked(0.0, 1.0) > 0.5
CORNER[11, 9] = False


def test_an_object_that_matters_to_one_model_alone_passes():
    found = verdict(painted(marked(0.2, 0.9), marked(0.2, 0.2), CORNER, n=24))
    assert found.verdict == "pass"
    assert found.reason.startswith("Against its own values in the order of noise: beats every noise control;")


def test_a_map_that_is_brighter_all_over_does_not():
    # the contrast is 0.5 on the object as everywhere else
    scores = painted(marked(0.7, 0.75), marked(0.2, 0.25), CORNER, n=24)
    assert scores.values.min() > 0.4
    assert verdict(scores).verdict != "pass"


def test_an_object_that_matters_to_both_does_not():
    scores = painted(marked(0.2, 0.9), marked(0.2, 0.9), CORNER, n=24)
    assert scores.values == pytest.approx(np.zeros(24))
    assert verdict(scores).verdict == "fail"


@pytest.mark.parametrize(
    "method", [*MEMBERS, "edges", "planted_truth", "heavy_noise", "ones_but_a_corner", "random_blob"]
)
def test_maps_that_are_the_same_for_both_models_fail(method):
    small = tiny_subject(24)
    scores = found(small, method, **({"method_params": {"draw": 7}} if "noise" in method else {}))
    assert scores.values == pytest.approx(np.zeros(24))
    assert verdict(scores).verdict == "fail"


@pytest.mark.parametrize("method", ["keyed_noise", "fresh_noise", "class_noise", "constant"])
def test_noise_of_each_model_s_own_does_not_pass(method):
    assert verdict(found(tiny_subject(24), method)).verdict != "pass"


ENTRY = MetricEntry(
    key="metric",
    title="Metric",
    attribute="label_sensitivity",
    question="?",
    quantity="contrast",
    unit="fraction",
    direction="higher",
    source=Source(paper="", url=""),
    rule="contrast_matched_noise",
)
FAST = Thresholds(resamples=1000)


def contrasts(values, leads, flat=None):
    """Scores, and opponents that they beat by these leads."""
    n = len(values)
    parts = {f"matched/{key}": (values - lead)[None] for key, lead in leads.items()}
    valid = np.ones(n, bool) if flat is None else ~flat
    return Scores(values, valid, ~valid, parts)


class TestRule:
    SPREAD = 0.1 * np.linspace(-1, 1, 64)

    def judge(self, mean, lead, **options):
        scores = contrasts(
            mean + self.SPREAD, {"noise": lead + self.SPREAD[::-1], "noise_4": lead + self.SPREAD}, **options
        )
        return contrast_matched_noise(scores, {}, ENTRY, FAST, 0), vs_matched_noise(scores, {}, ENTRY, FAST, 0)

    def test_as_against_matched_noise_where_the_contrast_is_there(self):
        found, matched = self.judge(0.2, 0.2)
        assert found.verdict == matched.verdict == "pass"
        assert (found.effect, found.interval, found.reason) == (matched.effect, matched.interval, matched.reason)
        assert found.p == pytest.approx(matched.p)

    def test_a_lead_over_noise_without_a_contrast_is_left_open(self):
        found, matched = self.judge(0.01, 0.2)
        assert (matched.verdict, found.verdict) == ("pass", "inconclusive")
        assert found.interval[0] < 0 < found.interval[1]
        assert found.reason == f"{matched.reason[:-1]}, but whether there is a difference is left open."
        low, high = found.interval
        needed = 64 * ((high - low) / 2 / 0.01) ** 2
        assert abs(int(found.advice.split()[1]) - needed) <= 10
        assert found.p > matched.p

    @pytest.mark.parametrize("lead", [0.2, 0.0])
    def test_a_contrast_the_wrong_way_round_fails(self, lead):
        found, _ = self.judge(-0.2, lead)
        assert (found.verdict, found.p, found.advice) == ("fail", 1.0, "")
        assert found.reason == "The other model's map is the higher one where this one's should be."

    def test_no_lead_over_noise_fails_whatever_the_contrast(self):
        found, matched = self.judge(0.2, -0.1)
        assert found.verdict == matched.verdict == "fail"

    def test_maps_that_are_the_same_for_both_models_fail(self):
        scores = contrasts(np.zeros(64), {"noise": np.zeros(64)})
        found = contrast_matched_noise(scores, {}, ENTRY, FAST, 0)
        assert (found.verdict, found.reason) == ("fail", "The other model's map is just as high there.")

    def test_few_samples_and_flat_maps(self):
        scores = contrasts(0.2 + self.SPREAD[:19], {"noise": 0.2 + self.SPREAD[:19]})
        assert contrast_matched_noise(scores, {}, ENTRY, FAST, 0).verdict == "inconclusive"
        flat = np.arange(64) < 7
        assert self.judge(0.3, 0.4, flat=flat)[0].verdict == "inconclusive"
        assert self.judge(0.3, 0.4, flat=~flat & False)[0].verdict == "pass"
        assert self.judge(0.3, 0.4, flat=flat | True)[0].verdict == "fail"


def test_messages(tiny):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, method="vanilla_gradients", siblings=siblings_of(tiny.model))
    assert str(caught.value) == (
        "model_contrast_score needs ground-truth masks; the data has none; give masks= or a masks/ folder"
    )
    with pytest.raises(CardgenError, match=r"^model_contrast_score with 0 draws of noise; "):
        found(tiny, noise_draws=0)
    with pytest.raises(CardgenError, match=r"^needs the sibling model scene; "):
        found(tiny, siblings={"seed-1": tiny.model})


def test_any_batch_and_order():
    small = small_subject(tiny_subject().model, 12, 10)
    every_batch_and_order(lambda rows, batch: found(small.take(rows), batch=batch).values)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    others = siblings_of(tiny.model)
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.masks), untouched(others["scene"]):
        found(tiny, siblings=others)
