"""The rule of "vs the baseline": by hand, and against the slow reference."""

import numpy as np
import pytest

from cardgen.baseline import THOSE, vs_baseline
from cardgen.intervals import weights
from cardgen.records import MetricEntry, Source
from cardgen.scores import Scores
from cardgen.thresholds import DEFAULTS, Thresholds
from tests.reference import verdicts as reference

SEED = 5
FAST = Thresholds(resamples=1000)
ENTRY = MetricEntry(
    key="metric",
    title="Metric",
    attribute="model_sensitivity",
    question="?",
    quantity="similarity",
    direction="higher",
    source=Source(paper="", url=""),
    rule="vs_baseline",
)


def exact(n, effect, sd=1.0):
    """n numbers spread like a normal distribution, with exactly this standard deviation and this standardised effect."""
    grid = np.array([reference.normal_quantile((i + 0.5) / n) for i in range(n)])
    return sd * (grid / grid.std(ddof=1) + effect)


def scores(similarity, baseline, flat=None, valid=None, those=None):
    similarity, baseline = np.atleast_2d(similarity).astype(float), np.atleast_2d(baseline).astype(float)
    n = similarity.shape[1]
    flat = np.zeros(n, bool) if flat is None else flat
    valid = np.ones(n, bool) if valid is None else valid
    return Scores(
        similarity.mean(0),
        valid,
        flat,
        {"similarity": similarity, "baseline": baseline},
        {THOSE: those} if those else {},
    )


def judged(similarity, baseline, bars=FAST, **options):
    return vs_baseline(scores(similarity, baseline, **options), {}, ENTRY, bars, SEED)


def ahead(effect, n=64, sd=0.1, bars=FAST, **options):
    """The verdict on maps of one other model that lead by this effect over a baseline of 0.2."""
    return judged(0.2 + exact(n, effect, sd), np.full(n, 0.2), bars, **options)


def test_pass():
    found = ahead(2.0, bars=DEFAULTS, those="maps of different images")
    assert (found.verdict, found.n, found.advice) == ("pass", 64, "")
    assert found.reason == "Maps are more like the original ones than maps of different images: 0.40 against 0.20."
    assert found.estimate == pytest.approx(0.4)
    assert found.effect == pytest.approx(2.0)
    assert found.p == 1 / 10_001
    assert found.thresholds == {"effect": 0.2, "correlation": 0.05, "samples": 20, "flat": 0.1}
    half = 1.96 * 0.1 / 8
    assert found.interval == pytest.approx((0.4 - half, 0.4 + half), abs=2e-3)


def test_the_baseline_stands_among_the_controls():
    beside = ahead(2.0, bars=DEFAULTS).controls["baseline"]
    half = 1.96 * 0.1 / 8
    assert (beside.kind, beside.estimate) == ("prior", pytest.approx(0.2))
    assert beside.difference == pytest.approx(0.2)
    assert beside.effect == pytest.approx(2.0)
    assert beside.interval == pytest.approx((0.2 - half, 0.2 + half), abs=2e-3)


@pytest.mark.parametrize(
    ("effect", "verdict", "how"), [(-2.0, "fail", "no"), (-0.1, "fail", "no"), (0.0, "inconclusive", "leave open")]
)
def test_fail(effect, verdict, how):
    # at n = 64 the upper bound of e is e + 1.96 / 8
    found = ahead(effect)
    assert found.verdict == verdict
    assert how in found.reason
    assert found.p > 0.3


def test_a_lead_that_is_there_and_too_small():
    # e = 0.12 of 400: between 0.02 and 0.22; of 900 between 0.055 and 0.185
    found = ahead(0.12, n=900)
    assert found.verdict == "fail"
    assert found.reason == "Maps are hardly more like the original ones than their baseline: 0.21 against 0.20."


def test_what_is_left_open_says_how_many_samples_would_decide():
    found = ahead(0.22)
    assert (found.verdict, found.reason) == (
        "inconclusive",
        "64 samples leave open whether maps are more like the original ones than their baseline: 0.22 against 0.20.",
    )
    assert found.advice == "about 1770 samples"  # (0.84 / 0.02)²
    assert ahead(0.23, n=64).advice == "about 790 samples"  # (0.84 / 0.03)² = 784
    assert ahead(0.05, n=64).advice == "about 500 samples"  # (3.34 / 0.15)²
    assert ahead(0.2, n=64).advice == "more than 10 000 samples"


def test_a_steady_lead_of_less_than_the_bar_for_correlations_is_none():
    found = ahead(2.0, sd=0.02)
    assert (found.verdict, found.advice) == ("inconclusive", "")
    assert (
        found.reason
        == "Maps are more like the original ones than their baseline, but by less than 0.05: 0.24 against 0.20."
    )
    assert ahead(2.0, sd=0.02, bars=Thresholds(correlation=0.03, resamples=1000)).verdict == "pass"


@pytest.mark.parametrize("n", [2, 19])
@pytest.mark.parametrize("effect", [-3.0, 3.0])
def test_fewer_than_20_decide_nothing(n, effect):
    found = ahead(effect, n=n)
    assert (found.verdict, found.advice) == ("inconclusive", "at least 20 samples")
    assert found.reason == f"Too few samples to judge: {n}, at least 20 are needed."
    assert ahead(3.0, n=20).verdict == "pass"


@pytest.mark.parametrize("n", [0, 1])
def test_one_or_none(n):
    found = judged(np.ones((1, n)), np.zeros((1, n)))
    assert (found.verdict, found.n, found.estimate, found.p) == ("inconclusive", n, None, None)


class TestFlatMaps:
    @pytest.mark.parametrize(("flat", "verdict"), [(6, "pass"), (7, "inconclusive")])
    def test_more_than_a_tenth_and_nothing_passes(self, flat, verdict):
        found = ahead(4.0, flat=np.arange(64) < flat)
        assert found.verdict == verdict
        if flat == 7:
            assert found.reason == "Maps are more like the original ones than their baseline, but 7 of 64 are flat."

    def test_have_no_lead_whatever_their_similarity(self):
        flat = np.arange(64) < 6
        one, other = (
            judged(np.where(flat, s, 0.5 + exact(64, 0, 0.1)), np.full(64, 0.2), flat=flat) for s in (0.0, 1.0)
        )
        assert one.effect == pytest.approx(other.effect)
        assert one.controls["baseline"].difference == pytest.approx(other.controls["baseline"].difference)

    def test_all_flat_fails(self):
        found = judged(np.ones(64), np.zeros(64), flat=np.ones(64, bool))
        assert (found.verdict, found.effect, found.p) == ("fail", None, 1.0)


class TestWithoutSpread:
    @pytest.mark.parametrize(("lead", "verdict"), [(0.3, "pass"), (0.0, "fail"), (-0.3, "fail"), (1e-17, "fail")])
    def test_the_mean_decides(self, lead, verdict):
        found = judged(np.full(64, 0.2) + lead, np.full(64, 0.2))
        assert (found.verdict, found.effect) == (verdict, None)

    def test_a_noise_map_that_never_changes_is_as_alike_as_its_baseline_of_other_weights(self):
        assert judged(np.ones((2, 64)), np.ones((5, 64))).verdict == "fail"


class TestSeveralModels:
    def test_one_that_disagrees_is_known_to_the_interval(self):
        # two of three siblings agree to 0.9, one to 0.1: mean 0.63, whatever the sample; a baseline of 0.2
        table = np.repeat([[0.9], [0.9], [0.1]], 64, axis=1) + exact(64, 0, 0.01)
        found = judged(table, np.full(64, 0.2))
        assert found.verdict == "inconclusive"
        assert found.interval[0] < 0.2 < 0.6 < found.interval[1]
        alone = judged(table.mean(0), np.full(64, 0.2))
        assert alone.verdict == "pass"
        assert found.estimate == pytest.approx(alone.estimate)

    def test_draws_of_the_baseline_vary_too(self):
        table = np.repeat([[0.0], [0.0], [0.8]], 64, axis=1) + exact(64, 0, 0.01)
        assert judged(np.full(64, 0.5), table).verdict == "inconclusive"
        assert judged(np.full(64, 0.5), table.mean(0)).verdict == "pass"


def test_samples_that_do_not_count_are_dropped():
    valid = np.arange(100) >= 40
    similarity, baseline = np.where(valid, 0.2 + exact(100, 2.0, 0.1), -9), np.where(valid, 0.2, 9)
    found = judged(similarity, baseline, valid=valid, flat=~valid)
    assert (found.verdict, found.n) == ("pass", 60)


def counts(seed, n):
    return np.rint(weights(seed, n, FAST.resamples) * n).astype(int).tolist()


@pytest.mark.parametrize("case", range(16))
def test_agrees_with_the_reference(case):
    rng = np.random.default_rng(case)
    n, models, draws = int(rng.integers(18, 30)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    level = rng.choice([-0.05, 0.05, 0.15, 0.4])
    similarity = 0.3 + level + 0.05 * rng.normal(size=(models, 1)) + 0.2 * rng.normal(size=(models, n))
    baseline = 0.3 + 0.05 * rng.normal(size=(draws, 1)) + 0.1 * rng.normal(size=(draws, n))
    flat = rng.random(n) < rng.choice([0, 0.08, 0.2])
    found = judged(similarity, baseline, flat=flat)
    verdict, difference, effect, interval = reference.vs_baseline(
        similarity.tolist(),
        baseline.tolist(),
        flat.tolist(),
        counts(SEED + 1, models),
        counts(SEED + 2, draws),
        counts(SEED, n),
    )
    assert found.verdict == verdict
    assert found.effect == pytest.approx(effect, rel=1e-9)
    assert found.estimate == pytest.approx(similarity.mean())
    beside = found.controls["baseline"]
    assert (beside.difference, *beside.interval) == pytest.approx((difference, *interval), rel=5e-3, abs=1e-4)


def test_every_verdict_is_among_the_cases():
    seen = set()
    for effect in (-1.0, 0.1, 1.0):
        seen.add(ahead(effect).verdict)
    assert seen == {"pass", "fail", "inconclusive"}


def test_no_more_than_the_baseline_passes_seldom():
    """Similarities like their baseline, over several models: the interval is two-sided, so 2.5 % at most."""
    rng, passes = np.random.default_rng(3), 0
    for _ in range(200):
        sample, model = 0.1 * rng.normal(size=40), 0.03 * rng.normal(size=(3, 1))
        similarity = 0.3 + sample + model + 0.1 * rng.normal(size=(3, 40))
        baseline = 0.3 + sample + 0.1 * rng.normal(size=40)
        passes += judged(similarity, baseline).verdict == "pass"
    assert passes / 200 <= 0.025
