"""Intervals against scipy, against the slow reference, against figures worked out by hand, and where data degenerate."""

import numpy as np
import pytest
from scipy import stats

from cardgen import intervals
from cardgen.intervals import Bootstrap, mean, percentile, settled, standardised, two_way, weights, wilson
from tests.reference import verdicts as reference

RESAMPLES = 10_000
SKEWED = {
    "lognormal": np.random.default_rng(1).lognormal(sigma=1.0, size=40),
    "exponential": 1.0 - np.random.default_rng(2).exponential(size=60),
    "counts": np.random.default_rng(3).poisson(0.4, size=50).astype(float),
}
STATISTICS = {
    "mean": (mean, reference.mean, lambda x, axis: np.mean(x, axis=axis)),
    "effect": (standardised, reference.effect, lambda x, axis: np.mean(x, axis=axis) / np.std(x, axis=axis, ddof=1)),
}
both = pytest.mark.parametrize("statistic", STATISTICS)
skewed = pytest.mark.parametrize("data", SKEWED)


def drawn(seed, n, resamples):
    """The same resamples as whole numbers, for the reference."""
    counts = np.rint(weights(seed, n, resamples) * n).astype(int)
    assert (counts.sum(1) == n).all()
    return counts.tolist()


class TestWeights:
    def test_are_shares_of_n_draws(self):
        found = weights(3, 7, 500)
        assert found.shape == (500, 7)
        assert found.sum(1) == pytest.approx(1)
        assert found * 7 == pytest.approx(np.rint(found * 7))

    def test_every_sample_is_drawn_as_often_and_as_variably_as_with_replacement(self):
        counts = weights(3, 10, 20_000) * 10
        assert counts.mean(0) == pytest.approx(1, abs=4 * np.sqrt(0.9 / 20_000))
        assert counts.var(0) == pytest.approx(0.9, rel=0.06)

    def test_depend_on_the_seed_alone(self):
        before = np.random.get_state()[1].copy()
        first = weights(3, 7, 50).copy()
        weights.cache_clear()
        assert np.array_equal(weights(3, 7, 50), first)
        assert not np.array_equal(weights(4, 7, 50), first)
        assert np.array_equal(np.random.get_state()[1], before)


class TestBCa:
    @both
    @skewed
    @pytest.mark.parametrize("share", [0.025, 0.5, 0.975, 1 - 0.025 / 4])
    def test_equals_the_reference_on_the_same_resamples(self, statistic, data, share):
        ours, slow, _ = STATISTICS[statistic]
        values = SKEWED[data]
        found = ours(values, weights(5, len(values), 400)).quantile(share)
        expected = reference.bca(values.tolist(), slow, drawn(5, len(values), 400), share)
        assert found == pytest.approx(expected, abs=1e-9)

    @both
    @pytest.mark.parametrize("data", ["lognormal", "exponential"])
    def test_equals_scipy_within_monte_carlo_error(self, statistic, data):
        ours, _, numpys = STATISTICS[statistic]
        values = SKEWED[data]
        found = np.array([ours(values, weights(seed, len(values), RESAMPLES)).interval() for seed in range(8)])
        expected = stats.bootstrap(
            (values,), numpys, n_resamples=RESAMPLES, batch=1000, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        error = found.std(0, ddof=1) * np.sqrt(1 + 1 / len(found))
        assert (np.abs(found.mean(0) - expected) < 4 * error).all()
        # the tolerance is fine enough to tell BCa from the percentile interval
        plain = np.quantile(ours(values, weights(0, len(values), RESAMPLES)).resampled, [0.025, 0.975])
        assert (np.abs(plain - expected) > 4 * error).all()

    def test_without_bias_and_skewness_is_the_two_sided_percentile_interval(self):
        symmetric = Bootstrap(50.0, np.arange(101.0), np.array([-1.0, 0.0, 1.0]))
        assert symmetric.interval() == pytest.approx((2.5, 97.5))
        assert symmetric.interval(0.8) == pytest.approx((10, 90))
        assert symmetric.quantile(0.95) == pytest.approx(95)

    def test_bias_correction_by_hand(self):
        # 25 of 101 lie below 25 and one ties: z0 = Φ⁻¹(25.5/101) = −0.66672; Φ(2·z0 + 1.95996) = Φ(0.62652) = 0.73451
        assert Bootstrap(25.0, np.arange(101.0), np.array([-1.0, 0.0, 1.0])).quantile(0.975) == pytest.approx(
            73.451, abs=2e-3
        )

    def test_acceleration_by_hand(self):
        # jackknife 0, 0, 3: deviations 1, 1, −2, cubes −6, squares 6, a = −6 / (6·6^1.5) = −0.068041;
        # Φ(1.95996 / (1 + 0.068041·1.95996)) = Φ(1.72934) = 0.95813
        skew = Bootstrap(50.0, np.arange(101.0), np.array([0.0, 0.0, 3.0]))
        assert skew.quantile(0.975) == pytest.approx(95.813, abs=2e-3)

    @both
    def test_follows_a_change_of_unit(self, statistic):
        ours, values = STATISTICS[statistic][0], SKEWED["lognormal"]
        w = weights(5, len(values), 1000)
        low, high = ours(values, w).interval()
        scale = 7.0 if statistic == "mean" else 1.0
        assert ours(7.0 * values, w).interval() == pytest.approx((scale * low, scale * high))
        assert ours(-7.0 * values, w).interval() != pytest.approx((scale * low, scale * high))

    def test_covers_the_mean_of_skewed_data(self):
        rng, w = np.random.default_rng(0), weights(1, 40, 1000)
        repetitions = 400
        intervals_ = [mean(rng.exponential(size=40), w).interval() for _ in range(repetitions)]
        covered = np.mean([low < 1 < high for low, high in intervals_])
        # nominal 0.95; BCa of 40 exponential numbers is known to cover a little less
        assert 0.90 < covered < 0.98


class TestJackknife:
    @both
    @skewed
    def test_is_leave_one_out(self, statistic, data):
        ours, slow, _ = STATISTICS[statistic]
        values = SKEWED[data]
        expected = reference.leave_one_out(values.tolist(), slow)
        assert ours(values, weights(0, len(values), 10)).jackknife == pytest.approx(np.array(expected), rel=1e-9)

    @both
    @skewed
    def test_resamples_are_the_statistic_of_what_was_drawn(self, statistic, data):
        ours, slow, _ = STATISTICS[statistic]
        values = SKEWED[data]
        expected = reference.resampled(values.tolist(), slow, drawn(9, len(values), 200))
        boot = ours(values, weights(9, len(values), 200))
        assert boot.resampled == pytest.approx(np.array(expected), rel=1e-9, abs=1e-11)
        assert boot.estimate == pytest.approx(slow(values.tolist()))


class TestP:
    def test_counts_what_is_not_above_and_is_never_0(self):
        boot = Bootstrap(50.0, np.arange(1.0, 100.0), np.arange(3.0))
        assert boot.p_above(0.0) == pytest.approx(1 / 100)
        assert boot.p_above(4.0) == pytest.approx(5 / 100)
        assert boot.p_above(99.0) == 1

    def test_ties_count_as_not_above_however_their_last_bit_fell(self):
        rng = np.random.default_rng(3)
        thirds = 3 * rng.integers(0, 2, 60) - rng.binomial(3, 0.55, 60)
        counts = np.array(drawn(0, 60, RESAMPLES))
        exact = (np.sum(counts @ thirds <= 0) + 1) / (RESAMPLES + 1)
        assert np.mean(counts @ thirds == 0) > 0.01
        boot = mean(thirds / 3, weights(0, 60, RESAMPLES))
        assert boot.p_above(0.0) == exact
        assert np.mean(boot.resampled == boot.estimate) == np.mean(counts @ thirds == thirds.sum())


class TestDegenerate:
    """No warning, no crash, no infinity: whatever the scores, a record follows."""

    @pytest.fixture(autouse=True)
    def _strict(self):
        with np.errstate(all="raise"):
            yield

    @pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e-200, 1e200])
    @pytest.mark.parametrize("n", [1, 2, 30])
    def test_equal_values_have_an_interval_of_no_width(self, value, n):
        boot = mean(np.full(n, value), weights(0, n, 500))
        assert [*boot.interval(), boot.estimate] == pytest.approx([value] * 3, rel=1e-11)
        assert boot.p_above(0.0) == (1 / 501 if value > 0 else 1)

    @pytest.mark.parametrize(
        "values",
        [
            [1.0, 2.0],
            [0.0, 1.0],
            [-1.0, 1.0],
            [1.0, 2.0, 2.0],
            [0.0] * 30 + [1.0],
            [0.1] * 30 + [0.4],
            [0.1] * 29 + [0.4, 0.4],
            [1 / 3] * 30 + [0.0],
            [-1 / 3] * 30 + [1.0],
            [1e-170, 2e-170, 5e-170],
            [1e170, 2e170, 5e170],
            [1.0, 1.0 + 1e-9, 1.0 - 1e-9],
        ],
        ids=str,
    )
    def test_effects_stay_finite_and_in_order(self, values):
        values = np.array(values)
        boot = standardised(values, weights(0, len(values), 2000))
        assert np.isfinite(boot.resampled).all()
        assert np.isfinite(boot.jackknife).all()
        bounds = [boot.quantile(share) for share in (0.025, 0.5, 0.975, 0.99375)]
        assert np.isfinite(bounds).all()
        assert bounds == sorted(bounds)
        assert boot.estimate == pytest.approx(reference.effect((values / values.max()).tolist()))

    def test_a_resample_of_equal_values_lies_at_the_end_that_its_sign_says(self):
        # about a third of the resamples miss the one that differs: their effect is infinite, and larger than all others
        for sign in (1.0, -1.0):
            values = sign * np.array([0.1] * 30 + [0.4])
            w = weights(0, 31, 2000)
            missed = w[:, -1] == 0
            found = sign * standardised(values, w).resampled
            assert 0.3 < missed.mean() < 0.45
            assert found[missed].min() > found[~missed].max()
            assert found[missed] == pytest.approx(0.1 / (1e-6 * values.std(ddof=1)), rel=1e-6)
        zeros = standardised(np.array([0.0] * 30 + [0.4]), w).resampled
        assert (zeros[missed] == 0).all()

    def test_settled_keeps_what_differs_and_joins_what_does_not(self):
        near = np.array([0.1 + 0.2, 0.3, 0.3 + 1e-11, 1e-17, -1e-17])
        found = settled(near, 1.0)
        assert found[0] == found[1] != found[2]
        assert found[3] == found[4] == 0
        assert found == pytest.approx(near, abs=1e-12)


class TestTwoWay:
    def test_equals_the_reference(self):
        values = np.random.default_rng(0).beta(2, 5, size=(5, 12))
        over_draws, over_samples = weights(1, 5, 150), weights(2, 12, 150)
        expected = reference.two_way(values.tolist(), drawn(1, 5, 150), drawn(2, 12, 150))
        assert two_way(values, over_draws, over_samples) == pytest.approx(np.array(expected))

    def test_varies_with_either_way(self):
        over_draws, over_samples = weights(1, 5, 4000), weights(2, 12, 4000)
        # rows 0…4 alone have a mean with variance 2/5; columns 0…11 alone one with (144 − 1)/12/12
        rows = two_way(np.repeat(np.arange(5.0)[:, None], 12, 1), over_draws, over_samples)
        columns = two_way(np.repeat(np.arange(12.0)[None], 5, 0), over_draws, over_samples)
        assert rows.var() == pytest.approx(0.4, rel=0.1)
        assert columns.var() == pytest.approx(143 / 144, rel=0.1)

    def test_percentile_is_two_sided(self):
        assert percentile(np.arange(101.0)) == pytest.approx((2.5, 97.5))
        assert percentile(np.arange(101.0), 0.5) == pytest.approx((25, 75))


class TestWilson:
    def test_by_hand(self):
        # 8 of 10, z² = 3.84146: centre (0.8 + 0.192073) / 1.384146 = 0.716740,
        # half 1.959964 / 1.384146 · √(0.016 + 0.0096036) = 0.226576
        assert wilson(8, 10) == pytest.approx((0.490164, 0.943316), abs=2e-6)

    @pytest.mark.parametrize("n", [1, 10, 35, 1000])
    def test_ends(self, n):
        # no hit: from 0 to z² / (n + z²)
        low, high = wilson(0, n)
        assert (low, high) == pytest.approx((0, 3.841459 / (n + 3.841459)), abs=1e-6)
        assert wilson(n, n) == pytest.approx((1 - high, 1))
        assert 0 <= low < high <= 1

    def test_35_hits_of_35_are_the_first_to_lie_above_090(self):
        assert wilson(34, 34)[0] < 0.9 < wilson(35, 35)[0]

    def test_no_samples_say_nothing(self):
        assert wilson(0, 0) == (0.0, 1.0)

    @pytest.mark.parametrize(("hits", "n"), [(3, 20), (64, 200), (199, 200)])
    @pytest.mark.parametrize("level", [0.9, 0.95])
    def test_equals_scipy(self, hits, n, level):
        expected = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
        assert wilson(hits, n, level) == pytest.approx(tuple(expected))


def test_the_level_is_95_percent():
    assert intervals.LEVEL == 0.95
