"""Decision rules: every branch by hand, against the slow reference, and their error rates on simulated scores."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cardgen.axioms import axiom
from cardgen.baseline import vs_baseline
from cardgen.errors import CardgenError
from cardgen.intervals import weights
from cardgen.over_seeds import vs_noise_over_seeds
from cardgen.records import MetricEntry, Source
from cardgen.scores import Scores
from cardgen.thresholds import DEFAULTS, Thresholds
from cardgen.unchanged import unchanged
from cardgen.verdicts import (
    RULES,
    Control,
    advised,
    contrast_matched_noise,
    descriptive,
    matched_noise,
    randomisation,
    ratings,
    vs_matched_noise,
    vs_noise,
)
from tests.reference import verdicts as reference

SEED = 5
DIGITS = 5e-3  # records carry three significant digits of a control
FAST = Thresholds(resamples=1000)
NAMES = {
    "noise": "Uniform noise",
    "noise_4": "Smooth noise 4×4",
    "noise_7": "Smooth noise 7×7",
    "noise_14": "Smooth noise 14×14",
}


def entry(rule="vs_noise", direction="higher", unit=""):
    return MetricEntry(
        key="metric",
        title="Metric",
        attribute="input_sensitivity",
        question="?",
        quantity="share of hits",
        unit=unit,
        direction=direction,
        source=Source(paper="", url=""),
        rule=rule,
    )


def exact(n, effect, sd=1.0):
    """n numbers spread like a normal distribution, with exactly this standard deviation and this standardised effect."""
    grid = np.array([reference.normal_quantile((i + 0.5) / n) for i in range(n)])
    return sd * (grid / grid.std(ddof=1) + effect)


def scores(values, valid=None, flat=None, parts=None):
    n = len(values)
    valid = np.ones(n, bool) if valid is None else np.asarray(valid)
    flat = np.zeros(n, bool) if flat is None else np.asarray(flat)
    return Scores(np.asarray(values, dtype=float), valid, flat, parts or {})


def control(draws, title="Uniform noise", kind="noise", valid=None):
    draws = np.atleast_2d(np.asarray(draws, dtype=float))
    return Control(title, kind, draws, np.ones(draws.shape, bool) if valid is None else np.asarray(valid))


def family(*leads, own=None):
    """The method's scores and members that it beats by exactly these differences a sample."""
    own = np.linspace(3, 4, len(leads[0])) if own is None else own
    members = zip(NAMES.items(), leads, strict=False)
    return scores(own), {key: control(own - lead, title) for (key, title), lead in members}


def judge(*leads, direction="higher", unit="", bars=FAST, own=None):
    found, controls = family(*leads, own=own)
    return vs_noise(found, controls, entry(direction=direction, unit=unit), bars, SEED)


class TestPass:
    def test_an_effect_of_05_at_64_samples(self):
        # standard error 1/8: interval 0.5 ± 1.96/8
        found = judge(exact(64, 0.5), bars=DEFAULTS)
        assert found.verdict == "pass"
        assert found.reason == "Beats every noise control; uniform noise comes closest."
        assert found.advice == ""
        assert found.n == 64
        assert found.effect == pytest.approx(0.5)
        assert found.controls["noise"].difference == pytest.approx(0.5)
        assert found.controls["noise"].interval == pytest.approx((0.255, 0.745), abs=0.02)
        assert found.controls["noise"].estimate == pytest.approx(3.0)
        assert found.estimate == pytest.approx(3.5)
        assert found.interval == pytest.approx((3.5 - 0.0725, 3.5 + 0.0725), abs=0.005)
        assert found.p == 1 / 10_001
        assert found.thresholds == {"effect": 0.2, "samples": 20, "flat": 0.1}

    def test_the_interval_is_two_sided(self):
        # 1.7 standard errors: above 0 for a one-sided interval, not for a two-sided one; p = Φ(−1.7) = 0.045
        found = judge(exact(36, 1.7 / 6), bars=DEFAULTS)
        assert found.verdict == "inconclusive"
        assert found.controls["noise"].interval[0] < 0
        assert found.p == pytest.approx(0.045, abs=0.015)
        assert judge(exact(36, 2.3 / 6)).verdict == "pass"

    def test_the_member_beaten_least_decides(self):
        found = judge(exact(64, 2.0), exact(64, 0.5), exact(64, 1.0), exact(64, 1.5))
        assert found.verdict == "pass"
        assert found.reason == "Beats every noise control; smooth noise 4×4 comes closest."
        assert found.effect == pytest.approx(0.5)
        assert {key: c.effect for key, c in found.controls.items()} == pytest.approx(
            {"noise": 2.0, "noise_4": 0.5, "noise_7": 1.0, "noise_14": 1.5}
        )

    def test_the_scale_does_not_matter(self):
        for sd in (1e-6, 1e3):
            assert judge(exact(64, 0.5, sd=sd), own=sd * np.linspace(3, 4, 64)).verdict == "pass"

    def test_a_baseline_is_the_mean_of_the_draws(self):
        own, lead = np.linspace(3, 4, 64), exact(64, 0.5)
        draws = [own - lead - 5, own - lead + 5, own - lead]
        found = vs_noise(scores(own), {"noise": control(draws)}, entry(), FAST, SEED)
        assert found.effect == pytest.approx(0.5)


class TestFail:
    def test_no_effect_at_all(self):
        # upper bound at 0.975 with one member: −0.1 + 1.96/8 = 0.145 < 0.2
        found = judge(exact(64, -0.1))
        assert found.verdict == "fail"
        assert found.reason == "No better than uniform noise."
        assert found.advice == ""
        assert found.effect == pytest.approx(-0.1)
        assert found.p == pytest.approx(0.79, abs=0.04)

    def test_the_bound_is_shared_among_the_members(self):
        # with four members at 0.99375: −0.1 + 2.498/8 = 0.212 > 0.2, −0.15 + 2.498/8 = 0.162 < 0.2
        good = exact(64, 2.0)
        assert judge(good, good, good, exact(64, -0.1)).verdict == "inconclusive"
        found = judge(good, good, good, exact(64, -0.15))
        assert found.verdict == "fail"
        assert found.reason == "No better than smooth noise 14×14."

    @pytest.mark.parametrize("place", range(4))
    def test_one_member_is_enough_wherever_it_stands(self, place):
        leads = [exact(64, 1.0)] * 4
        leads[place] = exact(64, -1.0)
        found = judge(*leads)
        assert found.verdict == "fail"
        assert found.effect == pytest.approx(-1.0)
        assert found.p == 1.0

    def test_several_members_are_listed(self):
        bad, good = exact(64, -0.3), exact(64, 1.0)
        assert judge(bad, good, bad, good).reason == "No better than uniform noise and smooth noise 7×7."
        assert judge(bad, bad, good, bad).reason == (
            "No better than uniform noise, smooth noise 4×4 and smooth noise 14×14."
        )
        assert judge(bad, bad, bad, bad).reason == "No better than any noise control."

    def test_a_real_but_small_lead_is_not_called_no_better(self):
        # 0.1 ± 1.96/√1600: above 0, and below 0.2
        found = judge(exact(1600, 0.1))
        assert found.verdict == "fail"
        assert found.controls["noise"].interval[0] > 0
        assert found.reason == "Beats uniform noise by less than 0.2 standard deviations."


class TestInconclusive:
    @pytest.mark.parametrize(
        ("effect", "samples"),
        [
            (0.22, "about 1770 samples"),  # (0.84/0.02)² = 1764; (2.8/0.22)² = 162
            (0.0, "about 280 samples"),  # (3.34/0.2)² = 278.9
            (0.15, "about 4470 samples"),  # (3.34/0.05)² = 4462.2
            (0.19, "more than 10 000 samples"),  # (3.34/0.01)² = 111 556
        ],
    )
    def test_says_how_many_samples_would_decide(self, effect, samples):
        found = judge(exact(64, effect))
        assert found.verdict == "inconclusive"
        assert found.reason == "64 samples leave open whether it beats uniform noise."
        assert found.advice == samples

    def test_one_member_not_beaten_while_all_others_are(self):
        found = judge(exact(64, 1.0), exact(64, 1.0), exact(64, 0.15), exact(64, 1.0))
        assert found.verdict == "inconclusive"
        assert found.reason == "64 samples leave open whether it beats smooth noise 7×7."
        assert found.advice == "about 4470 samples"
        assert found.p == max(judge(exact(64, effect)).p for effect in (1.0, 0.15))

    def test_an_effect_below_the_bar_is_no_pass_however_clear(self):
        # 0.19 ± 1.96/√400: above 0, and its upper bound above 0.2
        found = judge(exact(400, 0.19))
        assert found.controls["noise"].interval[0] > 0
        assert found.verdict == "inconclusive"

    @pytest.mark.parametrize(
        ("effect", "n", "samples"),
        [
            (0.3, 40, "about 90 samples"),  # (2.8/0.3)² = 87.1 beats (0.84/0.1)² = 70.6
            (1.0, 20, "about 30 samples"),  # 7.8 would do, so the next ten
            (-1.0, 20, "about 30 samples"),
            (0.2, 40, "more than 10 000 samples"),
            (-0.2, 40, "about 70 samples"),  # (3.34/0.4)² = 69.7
        ],
    )
    def test_advice_by_hand(self, effect, n, samples):
        assert advised(effect, n, DEFAULTS) == samples

    def test_advice_is_never_less_than_any_verdict_takes(self):
        assert advised(3.0, 5, DEFAULTS) == "about 20 samples"


class TestFewSamples:
    @pytest.mark.parametrize("effect", [3.0, 0.2, -3.0])
    @pytest.mark.parametrize("n", [2, 3, 19])
    def test_fewer_than_20_decide_nothing(self, n, effect):
        found = judge(exact(n, effect))
        assert found.verdict == "inconclusive"
        assert found.reason == f"Too few samples to judge: {n}, at least 20 are needed."
        assert found.advice == "at least 20 samples"
        assert found.estimate == pytest.approx(3.5)
        assert found.effect == pytest.approx(effect)

    def test_20_do(self):
        assert judge(exact(20, 3.0)).verdict == "pass"
        assert judge(exact(20, -3.0)).verdict == "fail"

    @pytest.mark.parametrize("n", [0, 1])
    def test_one_or_none(self, n):
        found = judge(np.ones(n))
        assert (found.verdict, found.n, found.estimate, found.p) == ("inconclusive", n, None, None)
        assert found.reason == f"Too few samples to judge: {n}, at least 20 are needed."

    def test_no_family_is_an_error(self):
        with pytest.raises(CardgenError, match="metric: expected noise controls to compare with, got none"):
            vs_noise(scores(exact(64, 1.0)), {"edges": control(np.zeros(64), kind="prior")}, entry(), FAST, SEED)


class TestWithoutSpread:
    @pytest.mark.parametrize(
        ("lead", "verdict", "p"), [(0.3, "pass", 1 / 1001), (-0.3, "fail", 1), (0.0, "inconclusive", 1)]
    )
    def test_the_mean_decides(self, lead, verdict, p):
        found = judge(np.full(64, lead))
        assert found.verdict == verdict
        assert found.effect is None
        assert found.p == p
        assert found.controls["noise"].effect is None
        assert found.controls["noise"].interval == pytest.approx((lead, lead))

    @pytest.mark.parametrize("lead", [0.0, -0.3])
    @pytest.mark.parametrize("place", [0, 1])
    def test_a_member_never_beaten_is_the_closest(self, lead, place):
        leads = [exact(64, 1.0)] * 2
        leads[place] = np.full(64, lead)
        found = judge(*leads)
        assert found.verdict == "fail"
        assert found.effect is None
        assert found.reason == f"No better than {['uniform noise', 'smooth noise 4×4'][place]}."

    def test_a_member_always_beaten_is_the_last(self):
        found = judge(np.full(64, 0.3), exact(64, 1.0))
        assert found.verdict == "pass"
        assert found.effect == pytest.approx(1.0)

    @pytest.mark.parametrize("direction", ["higher", "lower"])
    @pytest.mark.parametrize("score", [0.1, 0.7, 1 / 3, 1e6 / 7])
    def test_the_same_score_as_noise_is_no_lead(self, score, direction):
        # the mean of three draws of 0.1 is 0.10000000000000002
        for draws in (3, 5, 7):
            controls = {"noise": control(np.full((draws, 64), score))}
            found = vs_noise(scores(np.full(64, score)), controls, entry(direction=direction), FAST, SEED)
            assert found.verdict == "inconclusive"
            assert found.controls["noise"].difference == 0

    @pytest.mark.parametrize("rest", [0.1, 0.0, -0.1, 1 / 3])
    @pytest.mark.parametrize("other", [0.4, -0.9])
    def test_all_alike_but_one(self, rest, other):
        # the one left out, the others have no spread: no crash, no warning, and the sign of the rest decides in the end
        with np.errstate(all="raise"):
            found = judge(np.r_[np.full(63, rest), other])
        if rest > 0:
            assert found.verdict == "pass"
        elif rest < 0:
            assert found.verdict == "fail"
        else:
            assert found.verdict != "pass"
        assert np.isfinite(found.effect)


class TestDirection:
    def test_lower_is_better_turns_the_lead_around(self):
        assert judge(exact(64, 0.5), direction="lower").verdict == "fail"
        found = judge(-exact(64, 0.5), direction="lower")
        assert found.verdict == "pass"
        assert found.effect == pytest.approx(0.5)
        assert found.controls["noise"].difference == pytest.approx(0.5)
        assert found.controls["noise"].estimate == pytest.approx(4.0)
        assert found.estimate == pytest.approx(3.5)


class TestProbability:
    def test_a_lead_of_less_than_001_is_not_enough(self):
        found = judge(exact(64, 1.0, sd=0.009), unit="probability")
        assert found.verdict == "inconclusive"
        assert found.reason == "Beats every noise control, but uniform noise by less than 0.01."
        assert found.advice == ""
        assert found.thresholds["probability"] == 0.01
        assert judge(exact(64, 1.0, sd=0.011), unit="probability").verdict == "pass"
        assert judge(exact(64, 1.0, sd=0.009)).verdict == "pass"

    def test_any_member_counts_not_only_the_one_with_the_least_effect(self):
        found = judge(exact(64, 0.5, sd=0.1), exact(64, 2.0, sd=0.004), unit="probability")
        assert found.verdict == "inconclusive"
        assert found.reason == "Beats every noise control, but smooth noise 4×4 by less than 0.01."

    def test_no_spread(self):
        assert judge(np.full(64, 0.005), unit="probability").verdict == "inconclusive"
        assert judge(np.full(64, 0.02), unit="probability").verdict == "pass"

    def test_never_saves_from_a_fail(self):
        assert judge(exact(64, -0.5, sd=0.001), unit="probability").verdict == "fail"


class TestCorrelation:
    def test_a_lead_of_less_than_005_is_not_enough(self):
        found = judge(exact(64, 1.0, sd=0.045), unit="correlation")
        assert found.verdict == "inconclusive"
        assert found.reason == "Beats every noise control, but uniform noise by less than 0.05."
        assert found.thresholds["correlation"] == 0.05
        assert "probability" not in found.thresholds
        assert judge(exact(64, 1.0, sd=0.055), unit="correlation").verdict == "pass"


class TestPriors:
    @pytest.mark.parametrize("lead", [-2.0, 0.0, 2.0])
    @pytest.mark.parametrize("noise", [0.5, -0.5, 0.15])
    def test_never_decide(self, noise, lead):
        found, controls = family(exact(64, noise))
        alone = vs_noise(found, controls, entry(), FAST, SEED)
        controls["edges"] = control(found.values - exact(64, lead), "Edge detector", "prior")
        beside = vs_noise(found, controls, entry(), FAST, SEED)
        same = ("verdict", "reason", "advice", "effect", "p", "n")
        assert [getattr(alone, name) for name in same] == [getattr(beside, name) for name in same]
        assert beside.controls["edges"].kind == "prior"
        assert beside.controls["edges"].effect == pytest.approx(lead, abs=1e-9)

    def test_a_prior_without_scores_for_some_samples_has_no_part_in_them(self):
        found, controls = family(exact(64, 0.5))
        known = np.arange(64) < 48
        drawn = np.where(known, found.values - 1.0, np.nan)
        controls["edges"] = control(drawn, "Edge detector", "prior", known[None])
        controls["centre"] = control(np.full(64, np.nan), "Centre", "prior", np.zeros((1, 64), bool))
        judged = vs_noise(found, controls, entry(), FAST, SEED)
        assert (judged.verdict, judged.n) == ("pass", 64)
        assert judged.controls["edges"].estimate == pytest.approx(found.values[:48].mean() - 1, rel=DIGITS)
        assert judged.controls["edges"].difference == pytest.approx(0.75)
        assert "centre" not in judged.controls


class TestInvalidSamples:
    def test_are_dropped(self):
        lead, own = exact(64, 0.5), np.linspace(3, 4, 64)
        valid = np.r_[np.ones(64, bool), np.zeros(30, bool)]
        all_scores = scores(np.r_[own, np.full(30, -99.0)], valid)
        found = vs_noise(all_scores, {"noise": control(np.r_[own - lead, np.zeros(30)])}, entry(), FAST, SEED)
        assert (found.verdict, found.n) == ("pass", 64)
        assert found.effect == pytest.approx(0.5)
        assert found.estimate == pytest.approx(3.5)

    def test_a_sample_on_which_no_noise_has_a_score_is_dropped(self):
        lead, own = exact(64, 0.5), np.linspace(3, 4, 64)
        valid = np.tile(np.r_[np.ones(64, bool), np.zeros(30, bool)], (3, 1))
        draws = np.tile(np.r_[own - lead, np.full(30, 99.0)], (3, 1))
        found = vs_noise(scores(np.r_[own, np.zeros(30)]), {"noise": control(draws, valid=valid)}, entry(), FAST, SEED)
        assert (found.verdict, found.n) == ("pass", 64)
        assert found.effect == pytest.approx(0.5)

    def test_a_missing_draw_leaves_the_mean_to_the_others(self):
        lead, own = exact(64, 0.5), np.linspace(3, 4, 64)
        draws, valid = np.tile(own - lead, (3, 1)), np.ones((3, 64), bool)
        for i in range(64):
            draws[i % 3, i], valid[i % 3, i] = 99.0, False
        found = vs_noise(scores(own), {"noise": control(draws, valid=valid)}, entry(), FAST, SEED)
        assert (found.verdict, found.n) == ("pass", 64)
        assert found.effect == pytest.approx(0.5)


class TestSameScoresEverywhere:
    """Where noise has the method's own score on every sample, the evaluation tells nothing apart."""

    SAID = "Noise gets the very same score on every sample, so nothing can be told apart."

    @pytest.mark.parametrize("own", [np.zeros(64), np.linspace(3, 4, 64)], ids=["zeros", "any"])
    def test_is_no_fail(self, own):
        found = judge(np.zeros(64), np.zeros(64), own=own, unit="share")
        assert (found.verdict, found.reason, found.advice) == ("inconclusive", self.SAID, "")
        parts = {f"matched/{key}": own[None] for key in NAMES}
        assert vs_matched_noise(scores(own, parts=parts), {}, entry(), FAST, SEED).verdict == "inconclusive"
        seeds = {"seeds": np.stack([own, own])}
        noise = replace(control(own), parts={"seeds": np.stack([own, own])[None]})
        found = vs_noise_over_seeds(scores(own, parts=seeds), {"noise": noise}, entry(direction="lower"), FAST, SEED)
        assert (found.verdict, found.reason) == ("inconclusive", self.SAID)

    def test_one_that_scores_otherwise_tells(self):
        assert judge(np.zeros(64), np.where(np.arange(64) == 5, -1.0, 0.0)).verdict == "fail"
        assert judge(np.zeros(64), np.full(64, -0.1)).verdict == "fail"

    def test_flat_maps_still_fail(self):
        def verdict(flats):
            flat = np.arange(64) < flats
            return vs_noise(
                scores(np.zeros(64), ~flat, flat), {"noise": control(np.zeros(64))}, entry(), FAST, SEED
            ).verdict

        assert (verdict(6), verdict(7)) == ("inconclusive", "fail")


class TestFlatMaps:
    def flat(self, share, n=100, effect=1.0):
        """Scores without a value for the first maps, which are flat."""
        flat = np.arange(n) < share * n
        own = np.linspace(3, 4, n)
        found = scores(np.where(flat, -99.0, own), ~flat, flat)
        return vs_noise(found, {"noise": control(own - exact(n, effect))}, entry(), FAST, SEED)

    def test_count_as_no_lead(self):
        n, flat = 100, np.arange(100) < 10
        d = np.where(flat, 0.0, exact(100, 1.0))
        found = self.flat(0.1)
        assert found.n == n
        assert found.verdict == "pass"
        assert found.effect == pytest.approx(d.mean() / d.std(ddof=1))
        assert found.controls["noise"].difference == pytest.approx(d.mean(), rel=DIGITS)
        assert found.estimate == pytest.approx(np.linspace(3, 4, n)[~flat].mean())

    def test_more_than_a_tenth_and_nothing_passes(self):
        found = self.flat(0.11)
        assert found.verdict == "inconclusive"
        assert found.reason == "Beats every noise control, but 11 of 100 maps are flat."
        assert found.advice == ""

    def test_they_do_not_save_from_a_fail(self):
        assert self.flat(0.5, effect=-1.0).verdict == "fail"

    def test_flat_maps_alone_fail(self):
        found = self.flat(1.0)
        assert (found.verdict, found.effect, found.estimate, found.interval) == ("fail", None, None, None)
        assert found.reason == "No better than uniform noise."

    def test_with_a_score_of_their_own_they_keep_it(self):
        found, controls = family(exact(64, 0.5))
        flat = scores(found.values, flat=np.arange(64) < 6)
        assert vs_noise(flat, controls, entry(), FAST, SEED).effect == pytest.approx(0.5)
        flat = scores(found.values, flat=np.arange(64) < 7)
        assert vs_noise(flat, controls, entry(), FAST, SEED).verdict == "inconclusive"


def similar(similarity, own, n=64, draws=5, spread=0.05, flat=None, valid=None):
    """Scores whose similarities to re-initialised models and to themselves have exactly these means."""
    noise = np.stack([np.roll(exact(n, 0.0, sd=spread), 7 * k) for k in range(draws)])
    parts = {"similarity": similarity + noise, "self": own + exact(n, 0.0, sd=spread)}
    return scores(parts["similarity"].mean(0), valid, flat, parts)


def randomised(*arguments, bars=FAST, **keywords):
    return randomisation(similar(*arguments, **keywords), {}, entry("randomisation", "lower"), bars, SEED)


class TestRandomisation:
    @pytest.mark.parametrize(("refused", "verdict"), [(6, "pass"), (7, "inconclusive")])
    def test_a_jitter_that_moves_predictions_leaves_self_similarity_unknown(self, refused, verdict):
        found = similar(0.05, 0.99, n=64)
        parts = {**found.parts, "refused": (np.arange(64) < refused).astype(float)}
        judged = randomisation(replace(found, parts=parts), {}, entry("randomisation", "lower"), FAST, SEED)
        assert judged.verdict == verdict
        assert ("jittered weights change" in judged.reason) == (verdict == "inconclusive")

    def test_pass(self):
        found = randomised(0.05, 0.99, bars=DEFAULTS)
        assert found.verdict == "pass"
        assert found.reason == "Maps differ as they should; the method agrees with itself to 0.99."
        assert found.advice == ""
        assert found.estimate == pytest.approx(0.05)
        assert found.effect == pytest.approx(0.94)
        assert found.interval[0] < 0.05 < found.interval[1]
        assert found.n == 64
        assert found.p == 1 / 10_001
        assert found.thresholds == {"similar": 0.3, "same": 0.5, "gap": 0.2, "samples": 20, "flat": 0.1}

    def test_maps_that_stay(self):
        found = randomised(0.7, 0.99)
        assert found.verdict == "fail"
        assert found.reason == "Maps stay the same; the method agrees with itself to 0.99."
        assert found.p == 1

    @pytest.mark.parametrize(("similarity", "own"), [(0.0, 0.0), (0.25, 0.3), (0.2, 0.35)])
    def test_maps_that_differ_anyway(self, similarity, own):
        found = randomised(similarity, own)
        assert found.verdict == "fail"
        assert (
            found.reason
            == f"Maps differ hardly more than when nothing is changed; the method agrees with itself to {own:.2f}."
        )
        assert found.p == 1

    @pytest.mark.parametrize("level", [0.0, 1.0])
    def test_noise_fails_either_way(self, level):
        # keyed by the weights it is unlike itself (0 and 0), keyed by the sample it never changes (1 and 1)
        assert randomised(level, level, spread=0.0).verdict == "fail"
        assert randomised(level, level).verdict == "fail"

    def test_a_pass_needs_both(self):
        assert randomised(0.29, 0.99, spread=0.2).verdict == "inconclusive"
        assert randomised(0.05, 0.27, spread=0.2).verdict == "inconclusive"

    def test_between_the_bars_no_number_of_samples_decides(self):
        found = randomised(0.4, 0.99)
        assert found.verdict == "inconclusive"
        assert found.reason == "Maps differ in part; the method agrees with itself to 0.99."
        assert found.advice == ""

    @pytest.mark.parametrize(("similarity", "own"), [(0.29, 0.99), (0.05, 0.26), (0.05, 0.24), (0.51, 0.99)])
    def test_advice_is_where_the_interval_would_end_at_its_bar(self, similarity, own):
        found = randomised(similarity, own, spread=0.2)
        assert found.verdict == "inconclusive"
        low, high = found.interval
        if similarity in (0.29, 0.51):
            expected = 64 * ((high - low) / 2 / 0.01) ** 2
        else:
            # self varies alone here: roughly 1.96 · √(0.2² · (1 + 1/5) / 64) to either side
            expected = 64 * (1.96 * np.sqrt(0.2**2 * 1.2 / 64) / abs(own - similarity - 0.2)) ** 2
        number = int(found.advice.removeprefix("about ").removesuffix(" samples"))
        assert number > 64
        assert number == pytest.approx(expected, rel=0.02 if similarity > 0.2 else 0.5)

    def test_advice_names_the_nearer_of_two_ways_to_fail(self):
        # similarity just above `same`, which 1500 samples would show; a gap below 0.2 by three times as much, which takes a few hundred
        found = randomised(0.51, 0.68, spread=0.2)
        assert found.verdict == "inconclusive"
        assert 64 < int(found.advice.removeprefix("about ").removesuffix(" samples")) < 500

    @pytest.mark.parametrize(("similarity", "own"), [(0.05, 0.99), (0.7, 0.99), (0.0, 0.0), (0.4, 0.99)])
    @pytest.mark.parametrize("n", [2, 19])
    def test_fewer_than_20_decide_nothing(self, n, similarity, own):
        found = randomised(similarity, own, n=n)
        assert found.verdict == "inconclusive"
        assert found.reason == f"Too few samples to judge: {n}, at least 20 are needed."
        assert found.advice == "at least 20 samples"
        assert randomised(0.05, 0.99, n=20).verdict == "pass"

    def test_one_sample(self):
        found = randomisation(
            scores([0.1], parts={"similarity": np.full((5, 1), 0.1), "self": np.ones(1)}), {}, entry(), FAST, SEED
        )
        assert (found.verdict, found.n, found.estimate) == ("inconclusive", 1, None)

    def test_flat_maps(self):
        assert randomised(0.05, 0.99, flat=np.arange(64) < 6).verdict == "pass"
        found = randomised(0.05, 0.99, flat=np.arange(64) < 7)
        assert found.verdict == "inconclusive"
        assert found.reason == "Maps differ as they should, but 7 of 64 are flat."
        assert randomised(0.7, 0.99, flat=np.arange(64) < 60).verdict == "fail"

    def test_invalid_samples_are_dropped(self):
        found = similar(0.05, 0.99, n=100)
        valid = np.arange(100) >= 40
        parts = {"similarity": np.where(valid, found.parts["similarity"], 9.0), "self": found.parts["self"] * valid}
        judged = randomisation(scores(found.values, valid, None, parts), {}, entry(), FAST, SEED)
        assert (judged.verdict, judged.n) == ("pass", 60)
        assert judged.estimate < 0.3

    def test_resamples_models_and_samples(self):
        # one of five models gives other maps: the interval must know, though every sample agrees
        table = np.repeat([[0.0], [0.0], [0.0], [0.0], [1.0]], 64, axis=1)
        found = randomisation(
            scores(table.mean(0), parts={"similarity": table, "self": np.ones(64)}), {}, entry(), FAST, 1
        )
        assert found.verdict == "inconclusive"
        # the plain bootstrap's 0.0 and 0.6, √(5/4) times as far from the mean of 0.2
        assert found.interval == pytest.approx((0.2 - 0.2 * 1.25**0.5, 0.2 + 0.4 * 1.25**0.5), abs=0.01)
        # one sample in five: the same spread of cells, and a far narrower interval
        turned = np.tile(np.arange(65) % 5 == 4, (5, 1)).astype(float)
        found = randomisation(
            scores(turned.mean(0), parts={"similarity": turned, "self": np.ones(65)}), {}, entry(), FAST, 1
        )
        assert found.interval == pytest.approx(
            (0.2 - 1.96 * 0.4 / np.sqrt(65), 0.2 + 1.96 * 0.4 / np.sqrt(65)), abs=0.02
        )


class TestDescriptive:
    def test_mean_and_interval_of_what_exists(self):
        found = descriptive(scores([1.0, 2.0, 3.0, 99.0], [True, True, True, False]), {}, entry(), FAST, SEED)
        assert (found.verdict, found.n, found.estimate) == ("descriptive", 3, pytest.approx(2.0))
        assert 1 <= found.interval[0] < 2 < found.interval[1] <= 3
        assert found.reason == "Share of hits: described, not judged."
        assert found.controls == {}

    def test_the_metric_may_say_it_better(self):
        given = Scores(np.ones(3), np.ones(3, bool), np.zeros(3, bool), reason="All runs agree.")
        assert descriptive(given, {}, entry(), FAST, SEED).reason == "All runs agree."

    def test_nothing_exists(self):
        found = descriptive(scores([1.0], [False]), {}, entry(), FAST, SEED)
        assert (found.verdict, found.n, found.estimate) == ("descriptive", 0, None)
        assert found.reason == "Metric does not exist for any of these maps."


def counts(seed, n):
    return np.rint(weights(seed, n, FAST.resamples) * n).astype(int).tolist()


class TestReference:
    @pytest.mark.parametrize("case", range(24))
    def test_vs_noise(self, case):
        """Skewed, tied and flat scores, some to the advantage of the method, some not, near the bars."""
        rng = np.random.default_rng(case)
        n, members = int(rng.integers(18, 60)), int(rng.integers(1, 4))
        flat, valid = rng.random(n) < rng.choice([0, 0.1, 0.2]), rng.random(n) < 0.9
        lead = rng.choice([-0.5, 0.1, 0.5, 0.8, 1.2])
        own = rng.gamma(2, size=n) + lead
        draws = {f"noise_{m}": rng.gamma(2, size=(3, n)) for m in range(members)}
        if case % 4 == 0:
            own, draws = np.round(own), {key: np.round(values) for key, values in draws.items()}
        direction, unit = ("lower", "probability") if case % 2 else ("higher", "")
        sign = -1 if direction == "lower" else 1
        controls = {key: control(sign * values, key) for key, values in draws.items()}
        found = vs_noise(scores(sign * own, valid, flat), controls, entry(direction=direction, unit=unit), FAST, SEED)
        expected = reference.vs_noise(
            (sign * own).tolist(),
            valid.tolist(),
            flat.tolist(),
            {key: (sign * values).tolist() for key, values in draws.items()},
            counts(SEED, int((valid | flat).sum())),
            direction,
            unit == "probability",
        )
        assert found.verdict == expected

    def test_vs_noise_numbers(self):
        rng = np.random.default_rng(7)
        own, draws = rng.gamma(2, size=40) + 0.6, rng.gamma(2, size=(3, 40))
        found = vs_noise(scores(own), {"noise": control(draws)}, entry(), FAST, SEED).controls["noise"]
        d = reference.leads(own.tolist(), [True] * 40, [False] * 40, draws.tolist(), "higher")
        bounds = [reference.bca(d, reference.mean, counts(SEED, 40), share) for share in (0.025, 0.975)]
        expected = (reference.mean(d), reference.effect(d), *bounds)
        assert (found.difference, found.effect, *found.interval) == pytest.approx(expected, rel=DIGITS)

    @pytest.mark.parametrize("case", range(16))
    def test_randomisation(self, case):
        rng = np.random.default_rng(case)
        n, level = int(rng.integers(18, 26)), rng.choice([0.1, 0.25, 0.45, 0.6])
        own = np.clip(level + rng.choice([0.0, 0.15, 0.25, 0.4]) + 0.2 * rng.normal(size=n), -1, 1)
        table = level + 0.1 * rng.normal(size=(3, 1)) + 0.2 * rng.normal(size=(3, n))
        flat = rng.random(n) < 0.08
        given = scores(table.mean(0), flat=flat, parts={"similarity": table, "self": own})
        found = randomisation(given, {}, entry(), FAST, SEED)
        expected = reference.randomisation(
            table.tolist(), own.tolist(), int(flat.sum()), counts(SEED + 1, 3), counts(SEED, n)
        )
        assert found.verdict == expected


REPETITIONS = 200


def simulated(n, effect, members, draw=np.random.Generator.normal):
    """How often each verdict falls, for leads with this effect over each member and a correlation of ½ between members."""
    rng, found = np.random.default_rng(11), Counter()
    for _ in range(REPETITIONS):
        own = draw(rng, size=n) * np.sqrt(0.5)
        leads = [own + draw(rng, size=n) * np.sqrt(0.5) + effect for _ in range(members)]
        found[judge(*leads, own=own).verdict] += 1
    return {verdict: found[verdict] / REPETITIONS for verdict in ("pass", "fail", "inconclusive")}


def near(share):
    """Within four standard errors of a share over the repetitions."""
    return pytest.approx(share, abs=4 * np.sqrt(max(share * (1 - share), 0.01) / REPETITIONS))


class TestErrorRates:
    """Normal leads; expected shares from e ~ N(effect, 1/n) and the rule's bounds, and METRICS' for the family of four."""

    @pytest.mark.parametrize(
        ("n", "effect", "passes", "fails"),
        [
            (64, 0.0, 0.025, 0.36),  # fail: Φ(8 · (0.2 − 1.96/8))
            (64, 0.3, 0.67, 0.0),  # pass: Φ(8 · (0.3 − 1.96/8))
            (64, 0.5, 0.975, 0.0),
            (128, 0.3, 0.87, 0.0),  # pass: Φ(11.31 · (0.3 − 0.2))
        ],
    )
    def test_one_member(self, n, effect, passes, fails):
        found = simulated(n, effect, 1)
        assert found["pass"] == near(passes)
        assert found["fail"] == near(fails)

    @pytest.mark.parametrize(
        ("n", "effect", "passes", "fails"),
        [(64, 0.0, 0.0, 0.4), (64, 0.3, 0.34, 0.0), (64, 0.5, 0.94, 0.0), (128, 0.3, 0.66, 0.0), (128, 0.0, 0.0, 0.73)],
    )
    def test_a_family_of_four(self, n, effect, passes, fails):
        found = simulated(n, effect, 4)
        assert found["pass"] == near(passes)
        assert found["fail"] == near(fails)

    @pytest.mark.parametrize("tail", ["normal", "exponential", "counts"])
    def test_noise_passes_in_no_more_than_25_percent(self, tail):
        """Another noise map against the family: scores and draws alike, three draws a member."""
        draw = {
            "normal": lambda rng, size: rng.normal(size=size),
            "exponential": lambda rng, size: rng.exponential(size=size),
            "counts": lambda rng, size: (rng.random(size) < 0.3).astype(float),
        }[tail]
        rng, passes = np.random.default_rng(3), 0
        for _ in range(REPETITIONS):
            controls = {key: control(draw(rng, (3, 40)), title) for key, title in NAMES.items()}
            passes += vs_noise(scores(draw(rng, 40)), controls, entry(), FAST, SEED).verdict == "pass"
        assert passes / REPETITIONS <= 0.025


def test_rules_by_name():
    assert dict(RULES) == {
        "descriptive": descriptive,
        "vs_noise": vs_noise,
        "vs_matched_noise": vs_matched_noise,
        "matched_noise": matched_noise,
        "randomisation": randomisation,
        "axiom": axiom,
        "unchanged": unchanged,
        "vs_baseline": vs_baseline,
        "contrast_matched_noise": contrast_matched_noise,
        "vs_noise_over_seeds": vs_noise_over_seeds,
        "ratings": ratings,
    }


def test_bars_can_be_moved():
    assert judge(exact(64, 0.5), bars=Thresholds(effect=0.6, resamples=1000)).verdict == "inconclusive"
    assert judge(exact(64, 0.5), bars=Thresholds(samples=65, resamples=1000)).verdict == "inconclusive"
    assert judge(exact(64, 0.5, 0.1), unit="probability", bars=Thresholds(probability=0.06)).verdict == "inconclusive"
    assert randomised(0.05, 0.99, bars=Thresholds(similar=0.04)).verdict == "inconclusive"
    assert randomised(0.05, 0.99, bars=Thresholds(gap=0.97, resamples=1000)).verdict == "fail"
    assert randomised(0.05, 0.99, bars=Thresholds(same=0.01, resamples=1000)).verdict == "fail"


def test_a_share_of_hits_alone_has_wilson_s_interval():
    found = scores(np.ones(200))
    controls = {
        "noise": Control(
            "Uniform noise", "noise", np.tile(np.arange(200) % 5 == 0, (3, 1)) * 1.0, np.ones((3, 200), dtype=bool)
        )
    }
    shares = entry().model_copy(update={"unit": "share"})
    assert vs_noise(found, controls, shares, FAST, SEED).interval == pytest.approx(
        (0.98116, 1.0), abs=1e-4
    )  # 200/(200 + 1.96²)
