"""Repeated verdicts: on scores of which it is known how often they must pass."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from cardgen import calibration
from cardgen.calibration import Bank, agreement, final, met, reliability, share, verdicts
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.records import Share
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds

BARS = Thresholds(resamples=300)
FAMILY = [key for key in METHODS if METHODS[key].entry.control == "noise"]
IMAGES = 120


def drawn(mean, count=1, images=IMAGES, seed=0):
    """Scores of `count` independent draws, normal around a mean with deviation 0.1."""
    rng = np.random.default_rng(seed)
    whole, none = np.ones(images, bool), np.zeros(images, bool)
    return [Scores(mean + 0.1 * rng.standard_normal(images), whole, none) for _ in range(count)]


def bank(extra, metric="deletion", mean=0.5, images=IMAGES):
    noise = {key: drawn(mean, 12, images, seed=k) for k, key in enumerate(FAMILY)}
    return Bank(METRICS[metric].entry, {**noise, **extra}, draws=3)


def passes(found):
    return {key: sum(verdict == "pass" for verdict in given) / len(given) for key, given in found.items()}


def test_noise_hardly_passes_and_truth_does():
    found = passes(
        verdicts(bank({"heavy_noise": drawn(0.5, 4, seed=9), "planted_truth": drawn(0.2, seed=10)}), 40, 60, BARS, 0)
    )
    assert all(found[key] <= 0.05 for key in [*FAMILY, "heavy_noise"])
    assert found["planted_truth"] == 1


def test_a_map_that_is_a_little_better_passes_now_and_then():
    found = passes(verdicts(bank({"edges": drawn(0.455, seed=11)}), 40, 60, BARS, 0))
    assert 0.05 < found["edges"] < 0.95


def test_a_lower_score_is_better_only_where_the_metric_says_so():
    assert passes(verdicts(bank({"edges": drawn(0.8)}, "insertion"), 40, 5, BARS, 0))["edges"] == 1
    assert passes(verdicts(bank({"edges": drawn(0.8)}), 40, 5, BARS, 0))["edges"] == 0


def test_what_is_judged_is_never_among_its_controls(monkeypatch):
    """Each draw is marked by its value, which the rule then finds in the controls or not."""
    seen = []

    def rule(scores, controls, entry, bars, seed):
        mine = scores.values[0]
        seen.append((mine, [control.values[:, 0].tolist() for control in controls.values()]))
        return type("Found", (), {"verdict": "fail"})

    monkeypatch.setitem(calibration.RULES, "vs_noise", rule)
    whole, none = np.ones(30, bool), np.zeros(30, bool)
    scores = {
        key: [Scores(np.full(30, 100.0 * k + draw), whole, none) for draw in range(12)] for k, key in enumerate(FAMILY)
    }
    verdicts(Bank(METRICS["deletion"].entry, scores, draws=3), 20, 120, BARS, 0)
    assert len(seen) == 5 * 120
    for mine, controls in seen:
        assert [len(values) for values in controls] == [3] * 5
        assert all(len(set(values)) == 3 for values in controls)
        assert mine not in [value for values in controls for value in values]
    assert {mine for mine, _ in seen} == {100.0 * k + draw for k in range(5) for draw in range(12)}
    assert {value for _, controls in seen for value in controls[0]} == set(range(12))


def test_draws_that_the_metric_took_as_its_own_opponents_are_not_judged(monkeypatch):
    seen = []
    monkeypatch.setitem(
        calibration.RULES,
        "vs_matched_noise",
        lambda scores, *rest: seen.append(scores.values[0]) or type("Found", (), {"verdict": "fail"}),
    )
    whole, none = np.ones(30, bool), np.zeros(30, bool)
    scores = {"noise": [Scores(np.full(30, float(draw)), whole, none) for draw in range(12)]}
    verdicts(Bank(METRICS["plausibility"].entry, scores, draws=3), 20, 60, BARS, 0)
    assert set(seen) == set(map(float, range(3, 12)))


def test_images_are_drawn_without_replacement_and_anew_each_time(monkeypatch):
    seen = []
    monkeypatch.setitem(
        calibration.RULES,
        "vs_noise",
        lambda scores, *rest: seen.append(tuple(scores.values)) or type("Found", (), {"verdict": "fail"}),
    )
    scores = {"edges": [Scores(np.arange(50.0), np.ones(50, bool), np.zeros(50, bool))]}
    verdicts(Bank(METRICS["deletion"].entry, scores, draws=0), 20, 40, BARS, 0)
    assert all(len(set(rows)) == 20 for rows in seen)
    assert len(set(seen)) == 40
    assert {value for rows in seen for value in rows} == set(range(50))


def test_the_same_seed_the_same_verdicts_and_metrics_see_the_same_images():
    one, other = bank({"edges": drawn(0.455, seed=11)}), bank({"edges": drawn(0.455, seed=11)})
    assert verdicts(one, 40, 8, BARS, 0) == verdicts(other, 40, 8, BARS, 0)
    assert verdicts(one, 40, 30, BARS, 0) != verdicts(one, 40, 30, BARS, 1)


def test_a_pass_stands_only_beside_a_pass_of_what_it_requires():
    own = {"a": ["pass", "pass", "fail", "inconclusive"], "b": ["pass"]}
    assert final(own, []) == {"a": [True, True, False, False], "b": [True]}
    assert final(own, [{"a": ["pass", "fail", "pass", "pass"], "b": ["pass"]}]) == {
        "a": [True, False, False, False],
        "b": [True],
    }
    assert final(own, [{"a": ["pass"] * 4}])["b"] == [False], "what was not tested was not passed"
    both = [{"a": ["pass"] * 4, "b": ["inconclusive"]}, {"a": ["fail", "pass", "pass", "pass"]}]
    assert final(own, both) == {"a": [False, True, False, False], "b": [False]}


def test_shares():
    assert share([True, False, True]) == Share(passes=2, of=3)


@pytest.mark.parametrize(
    ("wrong", "truth", "of", "images", "expected"),
    [
        ([10, 0], 180, 200, 400, True),
        ([11, 0], 180, 200, 400, False),
        ([10, 0], 179, 200, 400, False),
        ([10], None, 200, 400, True),
        ([0], 199, 199, 400, None),
        ([10, 0], 180, 200, 256, True),
        ([10, 0], 180, 200, 255, None),
    ],
)
def test_goals(wrong, truth, of, images, expected):
    shares = [Share(passes=k, of=of) for k in wrong]
    right = None if truth is None else Share(passes=truth, of=of)
    assert met(shares, right, images=images, n=64) is expected


class TestAgreement:
    def test_clear_cases_always_agree(self):
        assert agreement(bank({"edges": drawn(0.2)}), 50, 10, BARS, 0) == Share(passes=10, of=10)

    def test_close_cases_do_not(self):
        found = agreement(bank({"edges": drawn(0.455, seed=11)}), 50, 40, BARS, 0)
        assert 0.2 < found.estimate < 0.95

    def test_there_must_be_two_samples_and_something_to_judge(self):
        assert agreement(bank({"edges": drawn(0.2)}), 61, 10, BARS, 0) is None
        assert agreement(bank({}), 50, 10, BARS, 0) is None


class TestReliability:
    METHODS = ("grad_cam", "occlusion", "vanilla_gradients")

    def of(self, rows, metric="insertion"):
        n = len(rows[0])
        whole, none = np.ones(n, bool), np.zeros(n, bool)
        scores = {
            key: [Scores(np.asarray(row, float), whole, none)] for key, row in zip(self.METHODS, rows, strict=False)
        }
        return Bank(METRICS[metric].entry, scores, draws=3)

    def test_images_that_rank_methods_alike(self):
        easy = np.linspace(0, 1, 30)
        found = reliability(self.of([easy, easy + 2, easy + 4]), [])
        assert found == {"inter_rater": pytest.approx(1), "inter_method": pytest.approx(1)}

    def test_images_that_rank_methods_at_random(self):
        rows = np.random.default_rng(0).standard_normal((3, 400))
        found = reliability(self.of(rows), [])
        assert abs(found["inter_rater"]) < 0.05
        expected = np.mean([spearmanr(rows[i], rows[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))])
        assert found["inter_method"] == pytest.approx(expected)

    def test_consistency_reads_both_metrics_as_larger_is_better(self):
        rows = np.random.default_rng(0).standard_normal((2, 50))
        lower, same, turned = self.of(rows, "deletion"), self.of(-rows), self.of(rows)
        assert reliability(lower, [same])["internal_consistency"] == pytest.approx(1)
        assert reliability(lower, [turned])["internal_consistency"] == pytest.approx(-1)
        assert reliability(lower, [same, turned])["internal_consistency"] == pytest.approx(0)

    def test_one_method_tells_nothing(self):
        assert reliability(self.of([np.arange(5)]), []) == {}
