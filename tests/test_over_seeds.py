"""The rule of scores that rest on networks from several seeds: by hand, against the slow reference, and its error rates."""

from collections import Counter

import numpy as np
import pytest

from cardgen.errors import CardgenError
from cardgen.intervals import stretched, two_way, two_way_mean, two_way_standardised, weights
from cardgen.over_seeds import SEEDS, vs_noise_over_seeds
from cardgen.records import MetricEntry, Source
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds
from cardgen.verdicts import RULES, Control, vs_noise
from tests.reference import verdicts as reference

SEED = 5
FAST = Thresholds(resamples=1000)
NAMES = {"noise": "Uniform noise", "noise_4": "Smooth noise 4×4", "noise_7": "Smooth noise 7×7"}


def entry(direction="lower", rule="vs_noise_over_seeds"):
    return MetricEntry(
        key="metric",
        title="Metric",
        attribute="input_sensitivity",
        question="?",
        quantity="share of networks",
        unit="share",
        direction=direction,
        source=Source(paper="", url=""),
        rule=rule,
    )


def exact(n, effect, sd=1.0):
    """n numbers spread like a normal distribution, with exactly this standard deviation and this standardised effect."""
    grid = np.array([reference.normal_quantile((i + 0.5) / n) for i in range(n)])
    return sd * (grid / grid.std(ddof=1) + effect)


def table(rows, offsets=(0.1, 0.0, -0.1)):
    """[seeds, n] of scores whose seeds differ by an offset."""
    return np.stack([np.asarray(rows, dtype=float) + offset for offset in offsets])


def scores(values, valid=True, flat=None, reason=""):
    n = values.shape[1]
    flat = np.zeros(n, bool) if flat is None else flat
    return Scores(values.mean(0), np.full(n, valid), flat, {SEEDS: values}, reason=reason)


def control(values, title="Uniform noise", kind="noise"):
    values = values[None] if values.ndim == 2 else values
    return Control(title, kind, values.mean(1), np.ones((len(values), values.shape[2]), bool), {SEEDS: values})


def judge(*leads, own=None, direction="lower", bars=FAST):
    """The method beats members by these differences, [n] or [seeds, n]."""
    n = np.shape(leads[0])[-1]
    own = table(np.linspace(0.2, 0.6, n)) if own is None else own
    sign = 1 if direction == "lower" else -1
    members = zip(NAMES.items(), leads, strict=False)
    controls = {key: control(own + sign * lead, title) for (key, title), lead in members}
    return vs_noise_over_seeds(scores(own), controls, entry(direction), bars, SEED)


def drawn(seed, n, resamples):
    return np.rint(weights(seed, n, resamples) * n).astype(int).tolist()


class TestIntervals:
    @pytest.mark.parametrize("seeds", [2, 3, 5])
    def test_equal_the_reference_on_the_same_resamples(self, seeds):
        values = np.random.default_rng(seeds).normal(0.3, 1, (seeds, 17))
        over_seeds, over_samples = stretched(weights(1, seeds, 60)), weights(2, 17, 60)
        counts = drawn(1, seeds, 60), drawn(2, 17, 60)
        mean, effect = (f(values, over_seeds, over_samples) for f in (two_way_mean, two_way_standardised))
        np.testing.assert_allclose(mean.resampled, reference.stretched_two_way(values.tolist(), *counts), rtol=1e-9)
        np.testing.assert_allclose(mean.resampled, two_way(values, over_seeds, over_samples), rtol=1e-9)
        slow = reference.stretched_two_way_effect(values.tolist(), *counts)
        np.testing.assert_allclose(effect.resampled, slow, rtol=1e-9)
        assert mean.estimate == pytest.approx(values.mean())
        assert effect.estimate == pytest.approx(reference.effect(values.mean(0).tolist()))

    def test_bounds_are_percentiles(self):
        values = np.random.default_rng(0).exponential(size=(3, 30))
        boot = two_way_mean(values, stretched(weights(1, 3, 500)), weights(2, 30, 500))
        assert boot.interval() == pytest.approx(tuple(np.quantile(boot.resampled, [0.025, 0.975])))

    def test_seeds_alone_give_width(self):
        offsets = np.array([[0.2], [0.0], [-0.2]]) + np.linspace(0, 1, 50)
        over_seeds, over_samples = stretched(weights(1, 3, 4000)), weights(2, 50, 4000)
        boot = two_way_mean(offsets, over_seeds, over_samples)
        # variance of a mean of 50 samples, and of one of three seeds with 0.2² (n − 1 in the denominator)
        expected = np.var(np.linspace(0, 1, 50)) / 50 + 0.04 / 3
        assert boot.resampled.var() == pytest.approx(expected, rel=0.06)


class TestByHand:
    def test_a_clear_lead_passes(self):
        found = judge(exact(64, 1.0, 0.1), exact(64, 0.8, 0.1))
        assert found.verdict == "pass"
        assert found.reason == "Beats every noise control; smooth noise 4×4 comes closest."
        assert found.effect == pytest.approx(0.8)
        assert found.controls["noise"].difference == pytest.approx(0.1, rel=5e-3)
        assert found.controls["noise"].estimate == pytest.approx(0.5, rel=5e-3)
        assert found.estimate == pytest.approx(0.4)
        assert found.n == 64
        assert found.thresholds == {"effect": 0.2, "samples": 20, "flat": 0.1, "probability": 0.01}
        assert found.p == pytest.approx(1 / 1001)

    def test_the_member_beaten_least_decides(self):
        assert judge(exact(64, 1.0, 0.1), exact(64, -0.5, 0.1)).reason == "No better than smooth noise 4×4."
        assert judge(exact(64, -1.0, 0.1), exact(64, -0.5, 0.1)).reason == "No better than any noise control."

    def test_too_few_samples(self):
        found = judge(exact(19, 2.0, 0.1))
        assert (found.verdict, found.reason) == (
            "inconclusive",
            "Too few samples to judge: 19, at least 20 are needed.",
        )
        assert judge(exact(20, 2.0, 0.1)).verdict == "pass"

    def test_a_lead_of_less_than_001_is_not_enough(self):
        found = judge(exact(64, 1.0, 0.009))
        assert found.verdict == "inconclusive"
        assert found.reason == "Beats every noise control, but uniform noise by less than 0.01."
        assert judge(exact(64, 1.0, 0.011)).verdict == "pass"

    def test_higher_may_be_better(self):
        assert judge(exact(64, 1.0, 0.1), direction="higher").verdict == "pass"
        assert judge(exact(64, -1.0, 0.1), direction="higher").verdict == "fail"

    def test_no_spread_over_samples(self):
        assert judge(np.full(64, 0.1)).verdict == "pass"
        assert judge(np.full(64, 0.0)).verdict == "inconclusive"
        assert judge(np.full(64, -0.1)).effect is None

    def test_flat_maps_stay_in_and_more_than_a_tenth_do_not_pass(self):
        own = table(np.linspace(0.2, 0.6, 64))
        flat = np.arange(64) < 7
        noise = {"noise": control(own + exact(64, 1.0, 0.1))}
        found = vs_noise_over_seeds(scores(own, flat=flat), noise, entry(), FAST, SEED)
        assert (found.verdict, found.reason) == (
            "inconclusive",
            "Beats every noise control, but 7 of 64 maps are flat.",
        )

    def test_a_reason_in_place_of_scores(self):
        own = table(np.zeros(64))
        found = vs_noise_over_seeds(scores(own, valid=False, reason="Nothing."), {}, entry(), FAST, SEED)
        assert (found.verdict, found.reason, found.n) == ("inconclusive", "Nothing.", 0)
        assert (found.estimate, found.effect, found.p) == (None, None, None)

    def test_priors_never_decide(self):
        own = table(np.linspace(0.2, 0.6, 64))
        controls = {"noise": control(own + exact(64, 1.0, 0.1))}
        alone = vs_noise_over_seeds(scores(own), controls, entry(), FAST, SEED)
        controls["edges"] = control(own + exact(64, -1.0, 0.1), "Edges", "prior")
        beside = vs_noise_over_seeds(scores(own), controls, entry(), FAST, SEED)
        assert (alone.verdict, alone.reason, alone.p) == (beside.verdict, beside.reason, beside.p)
        assert beside.controls["edges"].effect == pytest.approx(-1.0)

    def test_without_noise_nothing_is_judged(self):
        own = table(np.linspace(0.2, 0.6, 64))
        with pytest.raises(CardgenError, match="expected noise controls to compare with, got none"):
            vs_noise_over_seeds(scores(own), {}, entry(), FAST, SEED)

    def test_draws_of_a_control_are_averaged(self):
        own, lead = table(np.linspace(0.2, 0.6, 64)), exact(64, 0.5, 0.1)
        one = {"noise": control(own + lead)}
        two = {"noise": control(np.stack([own + lead - 0.1, own + lead + 0.1]))}
        found = [vs_noise_over_seeds(scores(own), controls, entry(), FAST, SEED) for controls in (one, two)]
        assert found[0] == found[1]

    def test_it_is_a_rule(self):
        assert RULES["vs_noise_over_seeds"] is vs_noise_over_seeds


class TestSeeds:
    def test_what_both_have_in_common_under_a_seed_takes_no_part(self):
        lead = exact(64, 0.5, 0.1)
        alike = judge(lead, own=table(np.linspace(0.2, 0.6, 64), (0.0, 0.0, 0.0)))
        apart = judge(lead, own=table(np.linspace(0.2, 0.6, 64), (0.5, 0.0, -0.5)))
        assert alike.controls == apart.controls
        assert (alike.verdict, apart.verdict) == ("pass", "pass")
        assert np.ptp(apart.interval) > 2 * np.ptp(alike.interval)

    def test_a_lead_that_comes_and_goes_with_the_seed_does_not_pass(self):
        lead = exact(64, 0.5, 0.1)
        wavering = np.stack([lead + 0.15, lead, lead - 0.15])
        assert judge(lead).verdict == "pass"
        assert judge(wavering).verdict == "inconclusive"
        own = table(np.linspace(0.2, 0.6, 64))
        controls = {"noise": control(own + wavering)}
        assert vs_noise(scores(own), controls, entry(rule="vs_noise"), FAST, SEED).verdict == "pass"  # samples alone

    def test_seeds_that_are_not_paired_would_be_seen(self):
        own = table(np.linspace(0.2, 0.6, 64), (0.3, 0.0, -0.3))
        theirs = own + exact(64, 0.5, 0.1)
        verdicts = [
            vs_noise_over_seeds(scores(own), {"noise": control(other)}, entry(), FAST, SEED).verdict
            for other in (theirs, theirs[[1, 2, 0]])
        ]
        assert verdicts == ["pass", "inconclusive"]


@pytest.mark.parametrize("case", range(12))
def test_agrees_with_the_reference(case):
    draws = np.random.default_rng(case)
    n, seeds, members = int(draws.integers(18, 40)), int(draws.integers(2, 4)), int(draws.integers(1, 4))
    own = draws.random((seeds, n))
    lead = draws.normal(draws.choice([0.0, 0.2, 0.6]), 1, (members, 1, n)) * 0.2
    theirs = own + lead + draws.normal(0, 0.03, (members, seeds, 1))
    bars = Thresholds(resamples=200)
    controls = {key: control(values, NAMES[key]) for key, values in zip(NAMES, theirs, strict=False)}
    found = vs_noise_over_seeds(scores(own), controls, entry(), bars, SEED)
    counts = drawn(SEED + 1, seeds, 200), drawn(SEED, n, 200)
    family = dict(enumerate(theirs.tolist()))
    assert found.verdict == reference.vs_noise_over_seeds(own.tolist(), 0, family, *counts)


def simulated(effect, seed_sd, repetitions=120, n=100):
    """Verdicts of a method that beats three members by this effect; training adds a lead a seed, `seed_sd` standard deviations of d."""
    draws, found = np.random.default_rng(7), Counter()
    for _ in range(repetitions):
        own = draws.normal(0.5, 0.1, (3, n))
        d = 0.1 * (effect + draws.normal(0, 1, (3, 1, n)) + draws.normal(0, seed_sd, (3, 3, 1)))
        controls = {key: control(own + values, NAMES[key]) for key, values in zip(NAMES, d, strict=True)}
        found[vs_noise_over_seeds(scores(own), controls, entry(), Thresholds(resamples=300), SEED).verdict] += 1
    return {verdict: count / repetitions for verdict, count in found.items()}


class TestErrorRates:
    @pytest.mark.parametrize("seed_sd", [0.0, 0.2, 0.5])
    def test_no_lead_hardly_ever_passes(self, seed_sd):
        assert simulated(0.0, seed_sd).get("pass", 0) <= 0.05

    def test_a_large_lead_passes(self):
        assert simulated(0.8, 0.1)["pass"] >= 0.95
        assert simulated(0.8, 0.2).get("fail", 0) <= 0.02
