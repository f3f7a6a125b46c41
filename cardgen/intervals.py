"""Intervals: bootstrap over samples, over seeds and samples; pure numpy. Wilson's for shares is that of cardgen.shares."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from cardgen.shares import LEVEL as LEVEL
from cardgen.shares import NORMAL as NORMAL
from cardgen.shares import wilson as wilson


@lru_cache(maxsize=2)
def weights(seed: int, n: int, resamples: int) -> Float[np.ndarray, "b n"]:
    """How often each of n samples is drawn in each resample, over n: one matrix serves all comparisons of a record."""
    drawn = np.random.Generator(np.random.PCG64(seed)).multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.asarray(drawn / n, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic's estimate, its values over resamples, and BCa's two corrections."""

    estimate: float
    resampled: Float[np.ndarray, " b"]
    jackknife: Float[np.ndarray, " n"]

    def quantile(self, share: float) -> float:
        """The bias-corrected and accelerated bound below which `share` lies; the plain percentile where BCa degenerates."""
        below = float(np.mean(self.resampled < self.estimate) + np.mean(self.resampled == self.estimate) / 2)
        deviation = self.jackknife.mean() - self.jackknife
        largest = np.abs(deviation).max()
        if not 0 < below < 1 or np.ptp(self.jackknife) == 0:
            return float(np.quantile(self.resampled, share))
        cubes, squares = ((deviation / largest) ** 3).sum(), ((deviation / largest) ** 2).sum()
        acceleration = float(cubes / (6 * squares**1.5))
        bias = NORMAL.inv_cdf(below)
        z = bias + NORMAL.inv_cdf(share)
        corrected = NORMAL.cdf(bias + z / (1 - acceleration * z)) if acceleration * z < 1 else share
        return float(np.quantile(self.resampled, corrected))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Two-sided interval at `level`."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def p_above(self, bound: float) -> float:
        """One-sided p for "the statistic is above the bound": the share of resamples that are not, never 0."""
        return float((np.sum(self.resampled <= bound) + 1) / (len(self.resampled) + 1))


def settled(values: Float[np.ndarray, " n"], scale: float) -> Float[np.ndarray, " n"]:
    """Values rounded to about 1e-12 of `scale`: what is equal, or 0, but for the order of additions becomes so exactly.

    Scores that are counts tie often; bounds and shares must not depend on how a tie's last bit fell.
    """
    grid = float(np.spacing(max(scale, np.finfo(np.float64).tiny))) * 2**12
    found: Float[np.ndarray, " n"] = np.round(values / grid) * grid
    return found


def mean(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, "b n"]) -> Bootstrap:
    """The mean over samples."""
    n, scale = len(values), float(np.abs(values).max())
    jackknife = (values.sum() - values) / max(n - 1, 1)
    estimate = settled(values.mean(keepdims=True), scale)
    return Bootstrap(float(estimate[0]), settled(weights @ values, scale), settled(jackknife, scale))


def standardised(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, "b n"]) -> Bootstrap:
    """e = mean / standard deviation (n − 1 in the denominator), the standardised effect of paired differences.

    Values must vary. Where e is infinite or undefined, since all values drawn are equal, their spread counts as a millionth of the whole's.
    """
    values = values / np.abs(values).max()
    n, average, whole = len(values), float(values.mean()), float(values.std(ddof=1))
    centred = values - average
    squared = centred**2
    estimate = _effects(centred.mean(keepdims=True), squared.mean(keepdims=True), n, average, whole)
    resampled = _effects(weights @ centred, weights @ squared, n, average, whole)
    left = (centred.sum() - centred) / (n - 1), (squared.sum() - squared) / (n - 1)
    return Bootstrap(float(estimate[0]), resampled, _effects(*left, n - 1, average, whole))


def _effects(
    means: Float[np.ndarray, " k"], squares: Float[np.ndarray, " k"], drawn: int, average: float, whole: float
) -> Float[np.ndarray, " k"]:
    """Effects of samples of `drawn` values, from the means of value − average and of its square."""
    spread = np.sqrt(np.maximum(squares - means**2, 0) * drawn / max(drawn - 1, 1))
    effects = settled(means + average, 1.0) / np.maximum(spread, 1e-6 * whole)
    return settled(effects, max(1.0, abs(average) / whole))


def stretched(over_draws: Float[np.ndarray, "b draws"]) -> Float[np.ndarray, "b draws"]:
    """Resampling weights of a few draws, √(k/(k − 1)) times as far from 1/k.

    A plain bootstrap of k values shows only (k − 1)/k of the variance of their mean.
    """
    k = over_draws.shape[1]
    found: Float[np.ndarray, "b draws"] = 1 / k + (over_draws - 1 / k) * np.sqrt(k / max(k - 1, 1))
    return found


def two_way(
    values: Float[np.ndarray, "draws n"],
    over_draws: Float[np.ndarray, "b draws"],
    over_samples: Float[np.ndarray, "b n"],
) -> Float[np.ndarray, " b"]:
    """Means over resampled draws crossed with resampled samples."""
    found: Float[np.ndarray, " b"] = ((over_draws @ values) * over_samples).sum(1)
    return found


def percentile(resampled: Float[np.ndarray, " b"], level: float = LEVEL) -> tuple[float, float]:
    """Plain percentile interval."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_way_mean(
    values: Float[np.ndarray, "draws n"],
    over_draws: Float[np.ndarray, "b draws"],
    over_samples: Float[np.ndarray, "b n"],
) -> Bootstrap:
    """The mean over draws and samples, both drawn again; bounds are plain percentiles."""
    scale = float(np.abs(values).max())
    estimate = settled(values.mean(keepdims=True).ravel(), scale)
    moments = over_samples @ values.T
    return Bootstrap(float(estimate[0]), settled((over_draws * moments).sum(1), scale), np.zeros(1))


def two_way_standardised(
    values: Float[np.ndarray, "draws n"],
    over_draws: Float[np.ndarray, "b draws"],
    over_samples: Float[np.ndarray, "b n"],
) -> Bootstrap:
    """`standardised` of each sample's mean over draws, with draws and samples drawn again; bounds are plain percentiles."""
    values = values / np.abs(values).max()
    means = values.mean(0)
    n, average, whole = len(means), float(means.mean()), float(means.std(ddof=1))
    centred = values - average
    first = (over_draws * (over_samples @ centred.T)).sum(1)
    # Σ over two draws of the product of their weights, times the mean of the product of their values
    second = np.zeros(len(over_draws))
    for a, row in enumerate(centred):
        for b, other in enumerate(centred):
            second += over_draws[:, a] * over_draws[:, b] * (over_samples @ (row * other))
    whole_first, whole_second = (means - average).mean(keepdims=True), ((means - average) ** 2).mean(keepdims=True)
    estimate = _effects(whole_first, whole_second, n, average, whole)
    return Bootstrap(float(estimate[0]), _effects(first, second, n, average, whole), np.zeros(1))
