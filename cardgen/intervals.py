"""Intervals: bootstrap over samples, over seeds and samples, and Wilson's for shares. Pure numpy."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

LEVEL = 0.95


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
        bias = norm.ppf(below)
        z = bias + norm.ppf(share)
        corrected = norm.cdf(bias + z / (1 - acceleration * z)) if acceleration * z < 1 else share
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
    n, scale, average = len(values), float(np.abs(values).max()), values.mean()
    centred, whole = values - average, float(values.std(ddof=1))
    estimate = float(average) / whole

    def effects(
        means: Float[np.ndarray, " k"], squares: Float[np.ndarray, " k"], drawn: int
    ) -> Float[np.ndarray, " k"]:
        spread = np.sqrt(np.maximum(squares - means**2, 0) * drawn / max(drawn - 1, 1))
        found = settled(means + average, scale) / np.maximum(spread, 1e-6 * whole)
        return settled(found, max(1.0, abs(estimate)))

    return Bootstrap(
        float(settled(np.array([estimate]), max(1.0, abs(estimate)))[0]),
        effects(weights @ centred, weights @ centred**2, n),
        effects((centred.sum() - centred) / (n - 1), ((centred**2).sum() - centred**2) / (n - 1), n - 1),
    )


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


def wilson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    if n == 0:
        return 0.0, 1.0
    z = float(norm.ppf((1 + level) / 2))
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
