"""The rules of axioms, of "unchanged is good", and of value-matched noise: by hand, against slow references, and in a run."""

import math

import numpy as np
import pytest
from small_runs import loaded, made_metric, only, run, scores_of, store

from cardgen.axioms import axiom
from cardgen.budgets import BUDGETS
from cardgen.config import RunConfig
from cardgen.decisions import Control
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.plan import make_plan
from cardgen.records import MetricEntry, Source
from cardgen.scores import Scores
from cardgen.thresholds import DEFAULTS, Thresholds
from cardgen.unchanged import LEAST, unchanged
from cardgen.verdicts import RULES, matched_noise, vs_matched_noise, vs_noise
from tests.reference import verdicts as reference

FAST = Thresholds(resamples=1000)


def entry(rule, direction="lower"):
    return MetricEntry(
        key="metric",
        title="Metric",
        attribute="input_sensitivity",
        question="?",
        quantity="error",
        direction=direction,
        source=Source(paper="", url=""),
        rule=rule,
    )


def scores(values, valid=None, flat=None, parts=None):
    n = len(values)
    valid = np.ones(n, bool) if valid is None else np.asarray(valid)
    flat = np.zeros(n, bool) if flat is None else np.asarray(flat)
    return Scores(np.asarray(values, dtype=float), valid, flat, parts or {})


def held(hits, n, bars=DEFAULTS, flat=None):
    """The verdict where an axiom holds to 5 % for `hits` of n samples, and is missed by 6 % by the others."""
    return axiom(scores([0.05] * hits + [0.06] * (n - hits), flat=flat), {}, entry("axiom"), bars, 0)


class TestAxiom:
    def test_pass(self):
        found = held(200, 200)
        assert (found.verdict, found.n, found.estimate, found.effect) == ("pass", 200, 1.0, None)
        assert found.reason == "Holds: within 0.05 on 200 of 200 samples."
        # (1 + 0/400 …): Wilson at p̂ = 1 is n / (n + z²)
        assert found.interval == pytest.approx((200 / (200 + 1.959964**2), 1.0))
        # (1 − 0.9) / √(0.09 / 200) = 4.714
        assert found.p == pytest.approx(1 - reference.normal_share(4.714045), rel=1e-5)
        assert found.thresholds == {"tolerance": 0.05, "share": 0.9, "samples": 20, "flat": 0.1}
        assert (found.advice, dict(found.controls)) == ("", {})

    @pytest.mark.parametrize(("n", "verdict"), [(35, "pass"), (34, "inconclusive")])
    def test_a_pass_takes_35_samples(self, n, verdict):
        assert held(n, n).verdict == verdict

    def test_fail(self):
        found = held(80, 100)
        assert found.verdict == "fail"
        assert found.reason == "Does not hold: within 0.05 on 80 of 100 samples."
        assert found.p > 0.99
        assert held(0, 20).verdict == "fail"

    @pytest.mark.parametrize(
        ("hits", "n", "advice"),
        [
            (30, 30, "about 40 samples"),  # z² · 0.09 / 0.1² = 34.6
            (95, 100, "about 140 samples"),  # / 0.05² = 138.3
            (90, 100, "more than 10 000 samples"),
            (85, 100, "about 140 samples"),
            (92, 100, "about 870 samples"),  # / 0.02² = 864.3
        ],
    )
    def test_open_says_what_would_decide(self, hits, n, advice):
        found = held(hits, n)
        assert found.verdict == "inconclusive"
        assert found.reason == f"Left open: within 0.05 on {hits} of {n} samples, 0.9 of them are needed."
        assert found.advice == advice

    @pytest.mark.parametrize(("hits", "n"), [(40, 40), (95, 100), (85, 100), (97, 120)])
    def test_the_advised_number_decides(self, hits, n):
        needed = math.ceil(1.959964**2 * 0.09 / (hits / n - 0.9) ** 2)
        low, high = held(round(hits / n * needed * 100), needed * 100).interval
        assert held(round(hits / n * 1000) * needed, 1000 * needed).verdict in ("pass", "fail")
        assert low > 0.9 or high < 0.9

    @pytest.mark.parametrize("hits", [0, 19])
    def test_fewer_than_20_decide_nothing(self, hits):
        found = held(hits, 19)
        assert (found.verdict, found.advice) == ("inconclusive", "at least 20 samples")
        assert found.reason == "Too few samples to judge: 19, at least 20 are needed."
        assert found.estimate == hits / 19

    def test_none(self):
        found = axiom(scores([0.0], [False]), {}, entry("axiom"), DEFAULTS, 0)
        assert (found.verdict, found.n, found.estimate, found.p) == ("inconclusive", 0, None, None)

    def test_a_zero_attribution_never_satisfies(self):
        zero = np.arange(100) < 30
        found = axiom(scores(np.zeros(100), ~zero, zero), {}, entry("axiom"), DEFAULTS, 0)
        assert (found.verdict, found.n, found.estimate) == ("fail", 100, 0.7)
        all_zero = axiom(scores(np.zeros(50), np.zeros(50, bool), np.ones(50, bool)), {}, entry("axiom"), DEFAULTS, 0)
        assert (all_zero.verdict, all_zero.estimate) == ("fail", 0.0)

    def test_samples_without_an_error_do_not_count(self):
        valid = np.arange(100) < 60
        found = axiom(scores(np.where(valid, 0.0, 9.0), valid), {}, entry("axiom"), DEFAULTS, 0)
        assert (found.verdict, found.n) == ("pass", 60)

    @pytest.mark.parametrize(("flat", "verdict"), [(20, "pass"), (21, "inconclusive")])
    def test_more_than_a_tenth_flat_and_nothing_passes(self, flat, verdict):
        found = held(200, 200, flat=np.arange(200) < flat)
        assert found.verdict == verdict
        if flat == 21:
            assert found.reason == "Holds within 0.05 on 200 of 200 samples, but 21 maps are flat."
        assert held(0, 200, flat=np.ones(200, bool)).verdict == "fail"

    def test_bars_can_be_moved(self):
        assert held(100, 200, Thresholds(tolerance=0.06)).verdict == "pass"
        assert held(200, 200, Thresholds(tolerance=0.04)).verdict == "fail"
        assert held(80, 100, Thresholds(share=0.7)).verdict == "pass"
        assert held(200, 200, Thresholds(samples=201)).verdict == "inconclusive"

    @pytest.mark.parametrize("n", [20, 35, 64, 100, 500])
    def test_agrees_with_the_reference_and_p_with_the_interval(self, n):
        seen = set()
        for hits in range(n + 1):
            found = held(hits, n)
            low, high = reference.wilson(hits, n)
            assert found.interval == pytest.approx((low, high), abs=1e-9)
            assert found.verdict == ("pass" if low >= 0.9 else "fail" if high < 0.9 else "inconclusive")
            assert (found.p <= 0.025) == (found.verdict == "pass")
            seen.add(found.verdict)
        assert seen == ({"pass", "fail", "inconclusive"} if n >= 35 else {"fail", "inconclusive"})


def yardstick(values, valid=None):
    values = np.atleast_2d(np.asarray(values, dtype=float))
    return Control("Input magnitude", "prior", values, np.ones(values.shape, bool) if valid is None else valid)


def edges(values):
    return Control("Edge detector", "prior", np.atleast_2d(values), np.ones((1, len(values)), bool))


IMAGE = np.linspace(0.02, 0.08, 50)
SPREAD = np.exp(np.tile([-0.5, 0.5], 25))


def changed(factor, bars=FAST, flat=None, n=50):
    """The verdict where maps change `factor` times as much as the image in the geometric mean, give or take e^0.5."""
    controls = {"input_magnitude": yardstick(IMAGE[:n]), "edges": edges(1.3 * IMAGE[:n])}
    return unchanged(scores((factor * IMAGE * SPREAD)[:n], flat=flat), controls, entry("unchanged"), bars, 3)


class TestUnchanged:
    def test_described_until_there_is_a_margin(self):
        found = changed(8.2)
        assert found.verdict == "descriptive"
        assert found.reason == "Changes 8.2 times as much as the image itself; edge detector: 1.3 times."
        assert found.estimate == pytest.approx((8.2 * IMAGE * SPREAD).mean())
        assert found.interval[0] < found.estimate < found.interval[1]
        assert found.effect == pytest.approx(-math.log(8.2))
        assert (found.p, found.advice, found.n) == (None, "", 50)
        assert found.thresholds == {"margin": None, "samples": 20, "flat": 0.1}

    def test_what_the_controls_do_stands_beside_it(self):
        found = changed(8.2).controls
        image, edge = found["input_magnitude"], found["edges"]
        assert (image.kind, image.effect) == ("prior", None)
        assert image.estimate == pytest.approx(0.05)
        assert image.difference == pytest.approx(-math.log(8.2), rel=5e-3)
        half = 1.96 * 0.5 / 50**0.5
        assert image.interval == pytest.approx((-math.log(8.2) - half, -math.log(8.2) + half), abs=0.03)
        assert edge.difference == pytest.approx(-math.log(8.2 / 1.3), rel=5e-3)

    @pytest.mark.parametrize(("factor", "said"), [(130.0, "130 times"), (0.04, "0.04 times"), (1.0, "1 times")])
    def test_factors_are_words_of_two_digits(self, factor, said):
        assert f"Changes {said} as much" in changed(factor).reason

    def test_the_factor_is_the_geometric_mean_of_the_samples_own(self):
        # half of the samples twice as much, half of them half as much: neither more nor less
        values = IMAGE * np.tile([2.0, 0.5], 25)
        found = unchanged(scores(values), {"input_magnitude": yardstick(IMAGE)}, entry("unchanged"), FAST, 3)
        assert found.reason == "Changes 1 times as much as the image itself."
        assert found.effect == pytest.approx(0, abs=1e-9)

    def test_what_never_changes(self):
        found = unchanged(scores(np.zeros(50)), {"input_magnitude": yardstick(IMAGE)}, entry("unchanged"), FAST, 3)
        assert found.verdict == "descriptive"
        assert found.reason == "Does not change at all when the image does."
        assert found.effect == pytest.approx(np.log(IMAGE / LEAST).mean())

    @pytest.mark.parametrize(
        ("factor", "verdict"),
        [(0.5, "pass"), (1.7, "pass"), (1.95, "inconclusive"), (2.05, "inconclusive"), (4.0, "fail")],
    )
    def test_with_a_margin(self, factor, verdict):
        # log 2 ± 1.96 · 0.5 / √50: between 1.74 and 2.30 times nothing is decided
        found = changed(factor, Thresholds(margin=2, resamples=1000))
        assert found.verdict == verdict
        assert bool(found.advice) == (verdict == "inconclusive")
        assert (found.p < 0.025) == (verdict == "pass")
        assert found.thresholds["margin"] == 2

    def test_advice_is_where_the_interval_would_end_at_the_margin(self):
        # (1.96 · 0.5 / log(2 / 1.9))² = 365
        number = changed(1.9, Thresholds(margin=2)).advice.removeprefix("about ").removesuffix(" samples")
        assert int(number) == pytest.approx(365, rel=0.05)

    def test_few_samples_and_flat_maps_do_not_pass(self):
        bars = Thresholds(margin=2, resamples=1000)
        few = changed(0.5, bars, n=19)
        assert (few.verdict, few.advice) == ("inconclusive", "at least 20 samples")
        assert few.reason == "Too few samples to judge: 19, at least 20 are needed."
        assert changed(0.5, bars, flat=np.arange(50) < 5).verdict == "pass"
        flat = changed(0.5, bars, flat=np.arange(50) < 6)
        assert (flat.verdict, flat.advice) == ("inconclusive", "")
        assert flat.reason == (
            "Changes 0.5 times as much as the image itself; edge detector: 1.3 times, but 6 maps are flat."
        )
        assert changed(4.0, bars, flat=np.ones(50, bool)).verdict == "fail"

    @pytest.mark.parametrize(("zeros", "verdict"), [(5, "pass"), (6, "inconclusive")])
    def test_maps_of_zeros_have_no_change_and_are_flat_all_the_same(self, zeros, verdict):
        zero = np.arange(50) < zeros
        found = unchanged(
            scores(0.5 * IMAGE, ~zero, zero),
            {"input_magnitude": yardstick(IMAGE)},
            entry("unchanged"),
            Thresholds(margin=2, resamples=1000),
            3,
        )
        assert (found.verdict, found.n) == (verdict, 50 - zeros)

    def test_samples_without_a_change_of_either_do_not_count(self):
        valid, known = np.arange(50) >= 5, np.atleast_2d(np.arange(50) < 40)
        values = np.where(valid, 3 * IMAGE, 99)
        controls = {"input_magnitude": yardstick(np.where(known, IMAGE, 77), known)}
        found = unchanged(scores(values, valid), controls, entry("unchanged"), FAST, 3)
        assert (found.n, found.effect) == (35, pytest.approx(-math.log(3)))

    @pytest.mark.parametrize("n", [0, 1])
    def test_one_or_none(self, n):
        found = unchanged(
            scores(np.ones(n)), {"input_magnitude": yardstick(np.ones((1, n)))}, entry("unchanged"), FAST, 3
        )
        assert (found.verdict, found.n, found.estimate) == ("inconclusive", n, None)

    def test_without_the_image_there_is_nothing_to_compare_with(self):
        with pytest.raises(CardgenError) as caught:
            unchanged(scores(np.ones(50)), {"edges": edges(IMAGE)}, entry("unchanged"), FAST, 3)
        assert str(caught.value) == (
            "metric: expected scores of input_magnitude to compare with, got none; run that control as well"
        )


def matched(leads, flat=None):
    """Scores with value-matched noise that the method beats by these differences a sample (lower is better)."""
    own = np.linspace(0.3, 0.5, len(next(iter(leads.values()))))
    parts = {f"matched/{key}": np.stack([own + lead, own + lead]) for key, lead in leads.items()}
    return scores(own, flat=flat, parts=parts | {"other": own})


def exact(n, effect):
    grid = np.array([reference.normal_quantile((i + 0.5) / n) for i in range(n)])
    return 0.1 * (grid / grid.std(ddof=1) + effect)


class TestMatchedNoise:
    def decide(self, leads, **options):
        return matched_noise(matched(leads, **options), {}, entry("matched_noise"), FAST, 3)

    def test_never_a_pass_however_clear(self):
        found = self.decide({"noise": exact(64, 3.0), "noise_4": exact(64, 1.5)})
        assert found.verdict == "descriptive"
        assert found.reason == (
            "Beats its own values in the order of smooth noise 4×4 by 1.50 standard deviations: described, not judged."
        )
        assert (found.n, found.p, found.advice) == (64, None, "")
        assert found.effect == pytest.approx(1.5)
        assert found.estimate == pytest.approx(0.4)
        assert set(found.controls) == {"noise", "noise_4"}
        assert {lead.kind for lead in found.controls.values()} == {"noise"}

    def test_as_vs_noise_on_the_same_numbers(self):
        leads = {"noise": exact(64, 0.4), "noise_7": exact(64, 0.1)}
        found = self.decide(leads)
        own = np.linspace(0.3, 0.5, 64)
        controls = {
            key: Control(METHODS[key].entry.title, "noise", (own + lead)[None], np.ones((1, 64), bool))
            for key, lead in leads.items()
        }
        judged = vs_noise(scores(own), controls, entry("vs_noise"), FAST, 3)
        assert found.controls == judged.controls
        assert (found.effect, found.interval) == (judged.effect, judged.interval)

    @pytest.mark.parametrize(
        ("lead", "said"),
        [
            (exact(64, 0.0), "Cannot be told from its own values in the order of uniform noise"),
            (
                exact(64, -0.8),
                "Does worse than its own values in the order of uniform noise by 0.80 standard deviations",
            ),
            (np.zeros(64), "Cannot be told from its own values in the order of uniform noise"),
            (np.full(64, 0.1), "Beats its own values in the order of uniform noise"),
        ],
    )
    def test_what_it_says(self, lead, said):
        assert self.decide({"noise": lead}).reason == f"{said}: described, not judged."

    def test_a_single_sample(self):
        found = self.decide({"noise": np.ones(1)})
        assert found.verdict == "descriptive"
        assert found.reason == (
            "Measured on 1 samples, too few to compare with its own values in the order of noise: described, not judged."
        )

    def test_scores_without_matched_noise_are_an_error(self):
        with pytest.raises(CardgenError, match="metric: expected noise controls to compare with, got none"):
            matched_noise(scores(np.ones(64)), {}, entry("matched_noise"), FAST, 3)


def untitled(leads):
    """The same opponents as controls of `vs_noise`."""
    own = np.linspace(0.3, 0.5, len(next(iter(leads.values()))))
    return {
        key: Control(
            METHODS[key].entry.title, "noise", np.stack([own + lead, own + lead]), np.ones((2, len(own)), bool)
        )
        for key, lead in leads.items()
    }


class TestVsMatchedNoise:
    def decide(self, leads, bars=FAST, **options):
        return vs_matched_noise(matched(leads, **options), {}, entry("vs_matched_noise"), bars, 3)

    @pytest.mark.parametrize(
        ("effects", "verdict", "reason"),
        [
            ((0.9, 0.7), "pass", "beats every noise control; smooth noise 7×7 comes closest."),
            ((0.7, -0.3), "fail", "no better than smooth noise 7×7."),
            ((-0.5, -0.6), "fail", "no better than any noise control."),
            ((0.7, 0.22), "inconclusive", "64 samples leave open whether it beats smooth noise 7×7."),
        ],
    )
    def test_judges_as_vs_noise_does(self, effects, verdict, reason):
        leads = {key: exact(64, effect) for key, effect in zip(("noise", "noise_7"), effects, strict=True)}
        found = self.decide(leads)
        assert (found.verdict, found.reason) == (verdict, f"Against its own values in the order of noise: {reason}")
        probability = entry("vs_noise").model_copy(update={"unit": "probability"})
        judged = vs_noise(scores(np.linspace(0.3, 0.5, 64)), untitled(leads), probability, FAST, 3)
        assert judged.reason[1:] == reason[1:]
        same = ("verdict", "n", "thresholds", "estimate", "interval", "effect", "p", "advice", "controls")
        assert all(getattr(found, name) == getattr(judged, name) for name in same)

    def test_too_few_decide_nothing(self):
        found = self.decide({"noise": exact(19, 3.0)})
        assert (found.verdict, found.advice) == ("inconclusive", "at least 20 samples")
        assert found.reason == "Too few samples to judge: 19, at least 20 are needed."

    @pytest.mark.parametrize(("scale", "verdict"), [(0.12, "pass"), (0.08, "inconclusive")])
    def test_a_steady_lead_over_next_to_nothing_is_no_pass(self, scale, verdict):
        found = self.decide({"noise": scale * exact(64, 0.9)})  # 0.0108 and 0.0072 on average
        assert (found.verdict, found.thresholds["probability"]) == (verdict, 0.01)
        assert ("but uniform noise by less than 0.01." in found.reason) == (verdict == "inconclusive")
        assert self.decide({"noise": scale * exact(64, 0.9)}, Thresholds(probability=0.02)).verdict == "inconclusive"

    def test_controls_that_the_metric_did_not_measure_have_no_say(self):
        leads = {"noise": exact(64, 0.9)}
        worse = {"noise_4": Control("Smooth noise 4×4", "noise", np.zeros((1, 64)), np.ones((1, 64), bool))}
        judged = vs_matched_noise(matched(leads), worse, entry("vs_matched_noise"), FAST, 3)
        assert judged == self.decide(leads)

    @pytest.mark.parametrize(("flat", "verdict"), [(10, "pass"), (11, "inconclusive")])
    def test_flat_maps_without_a_score_stay_in_as_no_lead(self, flat, verdict):
        of = matched({"noise": exact(100, 1.5)})
        without = np.arange(100) % 100 < flat
        values = np.where(without, 0.0, of.values)
        parts = {"matched/noise": np.where(without, 0.0, of.parts["matched/noise"])}
        found = vs_matched_noise(scores(values, ~without, without, parts), {}, entry("vs_matched_noise"), FAST, 3)
        assert (found.verdict, found.n) == (verdict, 100)
        lead = np.where(without, 0.0, (parts["matched/noise"].mean(0) - values))
        assert found.effect == pytest.approx(lead.mean() / lead.std(ddof=1))
        # the scores told are of maps that have one
        assert found.estimate == pytest.approx(values[~without].mean())
        assert found.controls["noise"].estimate == pytest.approx(parts["matched/noise"][:, ~without].mean(), rel=1e-3)

    def test_samples_without_a_score_for_any_map_drop_out(self):
        of = matched({"noise": exact(60, 1.5)})
        valid = np.arange(60) < 40
        found = vs_matched_noise(scores(of.values, valid, None, of.parts), {}, entry("vs_matched_noise"), FAST, 3)
        assert (found.verdict, found.n) == ("pass", 40)

    @pytest.mark.parametrize(("n", "verdict"), [(19, "inconclusive"), (20, "fail")])
    def test_flat_maps_alone_fail(self, n, verdict):
        flat = scores(np.zeros(n), np.zeros(n, bool), np.ones(n, bool), {"matched/noise": np.zeros((2, n))})
        found = vs_matched_noise(flat, {}, entry("vs_matched_noise"), FAST, 3)
        assert (found.verdict, found.n, found.estimate) == (verdict, n, None)
        if n == 20:
            assert found.reason == "Every map is flat, so none has a lead over noise."
            described = matched_noise(flat, {}, entry("matched_noise"), FAST, 3)
            assert (described.verdict, described.n, described.p) == ("descriptive", 20, None)
            assert described.reason == (
                "Every map is flat, so none has a lead over its own values in the order of noise: described, not judged."
            )

    def test_scores_without_matched_noise_are_an_error(self):
        with pytest.raises(CardgenError, match="metric: expected noise controls to compare with, got none"):
            vs_matched_noise(scores(np.ones(64)), {}, entry("vs_matched_noise"), FAST, 3)

    def test_controls_run_through_it_and_no_family_does(self, monkeypatch):
        only(
            monkeypatch,
            ["vanilla_gradients", "noise", "edges", "constant"],
            [made_metric("judged", of_values, rule="vs_matched_noise"), made_metric("told", rule="matched_noise")],
        )
        plan = make_plan(RunConfig(methods=("vanilla_gradients",)), loaded())
        assert plan.families == {}
        found = {(job.method.entry.key, job.metric.entry.key) for job in plan.jobs}
        assert found == {(key, "judged") for key in ("vanilla_gradients", "noise", "edges", "constant")} | {
            ("vanilla_gradients", "told")
        }
        draws = {job.method_parameters["draw"] for job in plan.jobs if job.method.entry.key == "noise"}
        assert draws == {BUDGETS["quick"].draws}, "a draw whose order is none of the opponents'"

    def test_the_key_names_the_draws(self, monkeypatch):
        only(monkeypatch, ["vanilla_gradients"], [made_metric("judged", of_values, rule="vs_matched_noise")])
        jobs = [make_plan(RunConfig(budget=budget), loaded()).jobs[0] for budget in ("quick", "standard")]
        assert [job.metric_parameters["noise_draws"] for job in jobs] == [3, 5]
        assert jobs[0].parts["metric_parameters"] != jobs[1].parts["metric_parameters"]
        assert {job.parts["controls"] for job in jobs} == {"none"}

    def test_opponents_are_as_many_as_a_budget_s_draws_of_noise(self):
        assert all(budget.metric["noise_draws"] == budget.draws for budget in BUDGETS.values())

    def test_in_a_run(self, monkeypatch, tmp_path):
        only(
            monkeypatch,
            ["vanilla_gradients", "noise"],
            [made_metric("judged", of_values, rule="vs_matched_noise", direction="lower")],
        )
        assert run(loaded(n=40), tmp_path).errors == []
        found = store(tmp_path).record(store(tmp_path).path(METHODS["vanilla_gradients"].entry, "judged"))
        assert (found.verdict, found.rule.name) == ("inconclusive", "vs_matched_noise")
        assert set(found.controls) == {"noise"}


def of_values(study, *, noise_draws=5):
    """The sum of each map's values, which no order changes."""
    values = study.maps().double().sum((1, 2)).numpy()
    parts = {"matched/noise": np.tile(values, (noise_draws, 1))}
    return Scores(values, study.flat() | True, study.flat(), parts)


class TestInARun:
    CONTROLS = ("noise", "edges", "input_magnitude", "constant")

    def metrics(self):
        def error(study):
            return scores_of(study, np.full(study.n, 0.01))

        def change(study):
            return scores_of(study, study.maps().double().mean((1, 2)).abs().numpy() + 0.01)

        return [made_metric("sum", error, rule="axiom"), made_metric("still", change, rule="unchanged")]

    def test_the_family_of_unchanged_is_the_priors(self, monkeypatch):
        only(monkeypatch, ["vanilla_gradients", *self.CONTROLS], self.metrics())
        plan = make_plan(RunConfig(methods=("vanilla_gradients",)), loaded())
        assert {key: [job.method.entry.key for job in jobs] for key, jobs in plan.families.items()} == {
            "still": ["edges", "input_magnitude"]
        }
        found = {(job.method.entry.key, job.metric.entry.key) for job in plan.jobs}
        assert found == {(key, metric) for key in ("vanilla_gradients", *self.CONTROLS) for metric in ("sum", "still")}

    def test_records_and_new_bars_without_measuring(self, monkeypatch, tmp_path):
        only(monkeypatch, ["vanilla_gradients", *self.CONTROLS], self.metrics())
        of = loaded(n=40)
        assert run(of, tmp_path).errors == []

        def record(metric):
            return store(tmp_path).record(store(tmp_path).path(METHODS["vanilla_gradients"].entry, metric))

        assert (record("sum").verdict, record("sum").estimate) == ("pass", 1.0)
        assert record("still").verdict == "descriptive"
        assert set(record("still").controls) == {"edges", "input_magnitude"}
        again = run(of, tmp_path, thresholds={"tolerance": 0.001, "margin": 1e6})
        assert (record("sum").verdict, record("still").verdict) == ("fail", "pass")
        assert record("still").rule.thresholds["margin"] == 1e6
        assert again.current == 0
        assert run(of, tmp_path, thresholds={"tolerance": 0.001, "margin": 1e6}).written == []


def test_every_rule_has_a_sentence_of_its_own():
    assert all(rule.__doc__ for rule in RULES.values())
