"""The rule of axioms: a property that holds or does not, sample by sample."""

import math

import numpy as np
from jaxtyping import Bool

from cardgen.decisions import Controls, Decision, about, enough, few
from cardgen.intervals import LEVEL, NORMAL, wilson
from cardgen.records import MetricEntry, Value, VerdictName
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds


def axiom(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """The share of samples whose relative error, the score, is at most `tolerance`, with Wilson's interval.

    pass: the whole interval is at least `share`; fail: all of it lies below; else inconclusive, with the n that would decide. At the
    default share of 0.9 a pass takes 35 samples, if it holds for all of them. An attribution that is zero everywhere satisfies no
    axiom: metrics give it as flat and not valid, and it counts as a miss. Samples that are neither valid nor flat do not count.

    The estimate is that share, not the mean error. p is one-sided, for a share of no more than `share`, from the score test that Wilson's
    interval inverts:
    1 − Φ((found − share) / √(share (1 − share) / n)), so that p ≤ 0.025 where the interval says pass.
    """
    thresholds: dict[str, Value] = {
        "tolerance": bars.tolerance,
        "share": bars.share,
        "samples": bars.samples,
        "flat": bars.flat,
    }
    exists = scores.valid | scores.flat
    holds: Bool[np.ndarray, " n"] = scores.valid & (scores.values <= bars.tolerance)
    n, hits, flat = int(exists.sum()), int(holds.sum()), int(scores.flat.sum())
    if n == 0:
        return Decision("inconclusive", few(n, bars), n, thresholds, advice=enough(bars))
    low, high = wilson(hits, n)
    held = f"within {bars.tolerance:.3g} on {hits} of {n} samples"
    verdict: VerdictName = "inconclusive"
    advice = ""
    if n < bars.samples:
        reason, advice = few(n, bars), enough(bars)
    elif high < bars.share:
        verdict, reason = "fail", f"Does not hold: {held}."
    elif low < bars.share:
        reason, advice = f"Left open: {held}, {bars.share:.3g} of them are needed.", _deciding(hits / n, n, bars)
    elif flat > bars.flat * n:
        reason = f"Holds {held}, but {flat} maps are flat."
    else:
        verdict, reason = "pass", f"Holds: {held}."
    reason = f"{reason} {scores.reason}".strip()
    return Decision(verdict, reason, n, thresholds, hits / n, (low, high), None, _p(hits / n, n, bars), advice)


def _p(found: float, n: int, bars: Thresholds) -> float:
    return 1 - NORMAL.cdf((found - bars.share) / math.sqrt(bars.share * (1 - bars.share) / n))


def _deciding(found: float, n: int, bars: Thresholds) -> str:
    """Samples at which Wilson's interval around the same share would end at the bar: z² share (1 − share) / (found − share)²."""
    if found == bars.share:
        return about(math.inf, n, bars)
    z = NORMAL.inv_cdf((1 + LEVEL) / 2)
    return about(z**2 * bars.share * (1 - bars.share) / (found - bars.share) ** 2, n, bars)
