"""The rule of "vs the baseline": maps of two models that should agree must be more alike than maps that have less in common."""

from typing import NamedTuple

import numpy as np

from cardgen import intervals
from cardgen.decisions import Controls, Decision, enough, few
from cardgen.leads import Lead, advised
from cardgen.records import MetricEntry, Value, VerdictName
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds

THOSE = "baseline"
"""Reported under this name: what the maps of the baseline are, in words."""


def vs_baseline(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """Similarity to the maps of other models, against a baseline of the same samples.

    Parts: `similarity` [models, n] and `baseline` [draws, n]. Per sample d = mean similarity − mean baseline, 0 where the method's map
    is flat, and e = mean(d) / sd(d). Bootstrap over models, draws and samples, the former two stretched, since they are few; one alone
    does not vary, and the interval then tells nothing of other models. pass: the 95 % interval of mean(d) lies above 0, e ≥ `effect`,
    and mean(d) ≥ `correlation`; no more than the share `flat` of maps is flat. fail: the one-sided upper bound of e at 97.5 % lies
    below `effect`. p is one-sided, for mean(d) above 0. Noise keeps its maps whatever the model, and so passes where the baseline is of
    other images: a pass says something only beside a pass of what the metric requires.

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
    found = _found(scores, bars.resamples, seed)
    verdict, reason, advice = _judged(found, n, int(scores.flat[scores.valid].sum()), bars)
    return Decision(
        verdict,
        reason,
        n,
        thresholds,
        found.similarity.estimate,
        found.similarity.interval(),
        found.lead.effect,
        found.lead.p,
        advice,
        {"baseline": found.lead.comparison("prior")},
    )


class _Found(NamedTuple):
    similarity: intervals.Bootstrap
    lead: Lead


def _found(scores: Scores, resamples: int, seed: int) -> _Found:
    similarity, baseline = (scores.parts[name][:, scores.valid] for name in ("similarity", "baseline"))
    n = similarity.shape[1]
    over_samples = intervals.weights(seed, n, resamples)
    over_models, over_draws = (
        intervals.stretched(intervals.weights(seed + i, len(table), resamples))
        for i, table in enumerate((similarity, baseline), start=1)
    )
    # each model against each draw; a flat map has no lead over anything
    d = np.where(scores.flat[scores.valid], 0.0, similarity[:, None] - baseline)
    d = intervals.settled(d.ravel(), 1.0).reshape(-1, n)
    over = (over_models[:, :, None] * over_draws[:, None]).reshape(resamples, -1)
    varies = np.ptp(intervals.settled(d.mean(0), 1.0)) > 0
    lead = Lead(
        str(scores.reported.get(THOSE, "their baseline")),
        float(baseline.mean()),
        intervals.two_way_mean(d, over, over_samples),
        intervals.two_way_standardised(d, over, over_samples) if varies else None,
    )
    return _Found(intervals.two_way_mean(similarity, over_models, over_samples), lead)


def _judged(found: _Found, n: int, flat: int, bars: Thresholds) -> tuple[VerdictName, str, str]:
    """Verdict, reason and advice."""
    lead, sizes = found.lead, f"{found.similarity.estimate:z.2f} against {found.lead.estimate:z.2f}"
    more = f"more like the original ones than {lead.name}"
    if n < bars.samples:
        return "inconclusive", few(n, bars), enough(bars)
    if lead.upper(1) < bars.effect:
        return "fail", f"Maps are {'hardly' if lead.interval[0] > 0 else 'no'} {more}: {sizes}.", ""
    if lead.interval[0] <= 0 or lead.rank < bars.effect:
        return "inconclusive", f"{n} samples leave open whether maps are {more}: {sizes}.", advised(lead.rank, n, bars)
    if lead.difference < bars.correlation:
        return "inconclusive", f"Maps are {more}, but by less than {bars.correlation:g}: {sizes}.", ""
    if flat > bars.flat * n:
        return "inconclusive", f"Maps are {more}, but {flat} of {n} are flat.", ""
    return "pass", f"Maps are {more}: {sizes}.", ""
