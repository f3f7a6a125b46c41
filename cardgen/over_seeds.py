"""The rule of scores that rest on models trained from several seeds: as against noise, with seeds drawn again beside samples."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cardgen import intervals
from cardgen.decisions import Control, Controls, Decision
from cardgen.leads import Lead, against, sign
from cardgen.records import MetricEntry
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds

SEEDS = "seeds"
"""The part of scores that holds them seed by seed, [seeds, n]; their mean over seeds is the score."""


def vs_noise_over_seeds(
    scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int
) -> Decision:
    """As `vs_noise`, for scores that rest on models trained from several seeds, which are shares.

    Seeds are paired: under one seed the models of the method and of a control began with the same weights and saw the images in the same
    order, so d = score − control's score is taken seed by seed. e = mean(d) / sd(d) over samples, d there the mean over seeds. Intervals
    come from a two-way bootstrap over seeds and samples, stretched over the former, which are few; bounds are percentiles. A pass
    takes a mean lead of `probability` as well. Scores of which none exists give their own reason in place of a verdict.
    """
    how = OverSeeds(seed, bars.resamples)
    if not scores.valid.any() and scores.reason:
        bare = {"effect": bars.effect, "samples": bars.samples, "flat": bars.flat, "probability": bars.probability}
        return Decision("inconclusive", scores.reason, 0, bare)
    return against(scores, controls, scores.valid, "probability", entry, bars, how)


@dataclass(frozen=True)
class OverSeeds:
    """The bootstrap over seeds, crossed with samples."""

    seed: int
    resamples: int

    def lead(self, scores: Scores, control: Control, entry: MetricEntry, kept: Bool[np.ndarray, " n"]) -> Lead:
        """Of d seed by seed; the control's draws, if there are several, are averaged first."""
        theirs = control.parts[SEEDS].mean(0)[:, kept]
        own = scores.parts[SEEDS][:, kept]
        size = max(np.abs(theirs).max(), np.abs(own).max())
        d = np.stack([intervals.settled(row, float(size)) for row in sign(entry) * (own - theirs)])
        over = self._weights(d)
        spread = np.ptp(intervals.settled(d.mean(0), float(size))) > 0
        standard = intervals.two_way_standardised(d, *over) if spread else None
        return Lead(control.name, float(theirs.mean()), intervals.two_way_mean(d, *over), standard)

    def own(
        self, scores: Scores, entry: MetricEntry, kept: Bool[np.ndarray, " n"]
    ) -> tuple[float, tuple[float, float]]:
        """The mean score over seeds and samples."""
        own = scores.parts[SEEDS][:, kept]
        boot = intervals.two_way_mean(own, *self._weights(own))
        return boot.estimate, boot.interval()

    def _weights(
        self, values: Float[np.ndarray, "seeds n"]
    ) -> tuple[Float[np.ndarray, "b seeds"], Float[np.ndarray, "b n"]]:
        seeds, n = values.shape
        over_seeds = intervals.stretched(intervals.weights(self.seed + 1, seeds, self.resamples))
        return over_seeds, intervals.weights(self.seed, n, self.resamples)
