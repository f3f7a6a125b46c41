"""The rule of "vs the baseline": maps of two models that should agree must be more alike than maps that have less in common."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from cardgen import intervals
from cardgen.decisions import Controls, Decision, about, enough, few
from cardgen.records import Comparison, MetricEntry, Value, VerdictName
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds

THOSE = "baseline"
"""Reported under this name: what the maps of the baseline are, in words."""


def vs_baseline(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """Similarity to the maps of other models, against a baseline of the same samples.

    Parts: `similarity` [models, n] and `baseline` [draws, n]. Per sample d = mean similarity − mean baseline, 0 where the method's map
    is flat, and e = mean(d) / sd(d). Bootstrap over models, draws and samples, the former stretched, since they are few; one alone
    does not vary, and the interval then tells nothing of other models. pass: the 95 % interval of mean(d) lies above 0, e ≥ `effect`,
    and mean(d) ≥ `correlation`; no more than the share `flat` of maps is flat. fail: the one-sided upper bound of e at 97.5 % lies
    below `effect`. p is one-sided, for mean(d) above 0. Noise keeps its maps whatever the model, and so passes: a pass says something
    only beside a pass of what the metric requires.

    The estimate is the mean similarity; the baseline's mean, and d, stand among the record's controls.
    """
    thresholds: dict[str, Value] = {
        "effect": bars.effect,
        "correlation": bars.correlation,
        "samples": bars.samples,
        "flat": bars.flat,
    }
    n = int(scores.valid.sum())
    if n < 2:
        return Decision("inconclusive", few(n, bars), n, thresholds, advice=enough(bars))
    lead = _lead(scores, bars.resamples, seed)
    verdict, reason, advice = _judged(lead, str(scores.reported.get(THOSE, "their baseline")), bars)
    return Decision(
        verdict,
        reason,
        n,
        thresholds,
        lead.similarity,
        intervals.percentile(lead.similarities),
        lead.effect,
        float((np.sum(lead.means <= 0) + 1) / (len(lead.means) + 1)),
        advice,
        {
            "baseline": Comparison(
                kind="prior",
                estimate=lead.baseline,
                difference=lead.difference,
                interval=lead.interval,
                effect=lead.effect,
            )
        },
    )


@dataclass(frozen=True, eq=False)
class _Lead:
    """By how much maps are more alike than the baseline: the estimates, and similarity, mean(d) and e of each resample."""

    n: int
    flat: int
    similarity: float
    baseline: float
    d: Float[np.ndarray, " n"]
    similarities: Float[np.ndarray, " b"]
    means: Float[np.ndarray, " b"]
    effects: Float[np.ndarray, " b"] | None

    @property
    def difference(self) -> float:
        return float(self.d.mean())

    @cached_property
    def interval(self) -> tuple[float, float]:
        return intervals.percentile(self.means)

    @property
    def effect(self) -> float | None:
        return self.difference / float(self.d.std(ddof=1)) if self.effects is not None else None

    @property
    def rank(self) -> float:
        """The effect; without spread the mean's sign is all there is."""
        if self.effect is not None:
            return self.effect
        return np.inf if self.difference > 0 else -np.inf

    @property
    def upper(self) -> float:
        """One-sided upper bound of the effect."""
        return float(np.quantile(self.effects, (1 + intervals.LEVEL) / 2)) if self.effects is not None else self.rank


def _lead(scores: Scores, resamples: int, seed: int) -> _Lead:
    kept = scores.valid
    similarity, baseline = (scores.parts[name][:, kept] for name in ("similarity", "baseline"))
    flat = scores.flat[kept]
    (models, n), draws = similarity.shape, len(baseline)
    over_samples = intervals.weights(seed, n, resamples)
    over_models = intervals.stretched(intervals.weights(seed + 1, models, resamples))
    over_draws = intervals.stretched(intervals.weights(seed + 2, draws, resamples))
    alike = over_models @ similarity
    # a flat map has no lead over anything
    leads = np.where(flat, 0.0, alike - over_draws @ baseline)
    d = intervals.settled(np.where(flat, 0.0, similarity.mean(0) - baseline.mean(0)), 1.0)
    return _Lead(
        n,
        int(flat.sum()),
        float(similarity.mean()),
        float(baseline.mean()),
        d,
        (alike * over_samples).sum(1),
        intervals.settled((leads * over_samples).sum(1), 1.0) + 0.0,
        intervals.two_way_effects(leads, over_samples, d) if np.ptp(d) > 0 else None,
    )


def _judged(lead: _Lead, those: str, bars: Thresholds) -> tuple[VerdictName, str, str]:
    """Verdict, reason and advice."""
    found = f"{lead.similarity:z.2f} against {lead.baseline:z.2f}"
    clear = lead.interval[0] > 0 and lead.rank >= bars.effect
    if lead.n < bars.samples:
        return "inconclusive", few(lead.n, bars), enough(bars)
    if lead.upper < bars.effect:
        how = "hardly" if lead.interval[0] > 0 else "no"
        return "fail", f"Maps are {how} more like the original ones than {those}: {found}.", ""
    if not clear:
        reason = f"{lead.n} samples leave open whether maps are more like the original ones than {those}: {found}."
        return "inconclusive", reason, _advised(lead.rank, lead.n, bars)
    if lead.difference < bars.correlation:
        return (
            "inconclusive",
            f"Maps are more like the original ones than {those}, but by less than {bars.correlation:g}: {found}.",
            "",
        )
    if lead.flat > bars.flat * lead.n:
        return (
            "inconclusive",
            f"Maps are more like the original ones than {those}, but {lead.flat} of {lead.n} are flat.",
            "",
        )
    return "pass", f"Maps are more like the original ones than {those}: {found}.", ""


def _advised(effect: float, n: int, bars: Thresholds) -> str:
    """Samples that would decide, were the models the same: METRICS' formulas, with one baseline in the place of a family."""
    beyond = effect - bars.effect
    if beyond == 0 or np.isinf(effect):
        return about(np.inf, n, bars)
    return about(max((2.8 / effect) ** 2, (0.84 / beyond) ** 2) if beyond > 0 else (2.8 / beyond) ** 2, n, bars)
