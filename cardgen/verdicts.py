"""Decision rules: from scores and controls to a verdict that can be defended.

Each rule gives an estimate with its interval, the size of the effect, what the controls did on the same samples, and one sentence.
`RULES` maps the names that metrics state in their decorators to functions.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cardgen import intervals
from cardgen.axioms import axiom
from cardgen.baseline import vs_baseline
from cardgen.decisions import Control, Controls, Decision, Rule, about, enough, few
from cardgen.leads import OverSamples, advised, against
from cardgen.matched import MATCHED
from cardgen.methods import METHODS
from cardgen.over_seeds import vs_noise_over_seeds
from cardgen.records import MetricEntry, Value, VerdictName
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds
from cardgen.unchanged import unchanged

__all__ = ["RULES", "Control", "Controls", "Decision", "Rule", "advised"]

LEAST = ("probability", "correlation")
"""Units in which a difference can be too small to count, however sure it is; thresholds of these names say how small."""
RATED = "rated/"
"""Begins the names of the parts of scores that hold people's ratings of noise, [1, n]; the control's key follows."""


def descriptive(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """Measured, and neither pass nor fail is claimed: the mean with its interval."""
    values = scores.values[scores.valid]
    if not len(values):
        return Decision("descriptive", scores.reason or f"{entry.title} does not exist for any of these maps.", 0, {})
    boot = intervals.mean(values, intervals.weights(seed, len(values), bars.resamples))
    reason = scores.reason or f"{entry.quantity[0].upper()}{entry.quantity[1:]}: described, not judged."
    return Decision("descriptive", reason, len(values), {}, boot.estimate, boot.interval())


def vs_noise(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """Every member of the noise family must be beaten; the one that is beaten least decides.

    Per sample d = score − mean score of the member's draws, oriented so that larger is better, and e = mean(d) / sd(d). pass: for
    every member the 95 % interval of mean(d) lies above 0 and e ≥ `effect` (and mean(d) ≥ `probability` for probabilities, ≥ `correlation`
    for correlations: a map of ones with one corner at 0 hardly varies, so that a lead of .02 is a large effect). fail: for some member
    the one-sided upper bound of e at 1 − 0.025 / members lies below `effect`. Where every member has the method's own score on every
    sample, and maps are not flat, the evaluation tells nothing apart: inconclusive. p is the largest over members.
    """
    # a sample counts unless the quantity does not exist for it whatever the map
    family = [control.valid.any(0) for control in controls.values() if control.kind == "noise"]
    exists = np.any(family, axis=0) if family else scores.valid
    return against(
        scores,
        controls,
        exists,
        entry.unit if entry.unit in LEAST else None,
        entry,
        bars,
        OverSamples(seed, bars.resamples),
    )


def randomisation(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """Maps of another model must differ, and by more than the method differs from itself.

    Two-way bootstrap over re-initialisations and samples, stretched over the former, which are few. pass: the interval of the
    similarity lies below `similar`, and that of (similarity to itself − similarity) above `gap`. fail: the latter below `gap`, or
    the former above `same`.
    """
    thresholds: dict[str, Value] = {
        "similar": bars.similar,
        "same": bars.same,
        "gap": bars.gap,
        "samples": bars.samples,
        "flat": bars.flat,
    }
    similarity, own = scores.parts["similarity"][:, scores.valid], scores.parts["self"][scores.valid]
    draws, n = similarity.shape
    if n == 0 and scores.reason:
        return Decision("inconclusive", scores.reason, n, thresholds)
    if n < 2:
        return Decision("inconclusive", few(n, bars), n, thresholds, advice=enough(bars))
    over_samples = intervals.weights(seed, n, bars.resamples)
    over_draws = intervals.stretched(intervals.weights(seed + 1, draws, bars.resamples))
    resampled = intervals.two_way(similarity, over_draws, over_samples)
    gaps = over_samples @ own - resampled
    estimate, gap = float(similarity.mean()), float(own.mean() - similarity.mean())
    low, high = intervals.percentile(resampled)
    gap_low, gap_high = intervals.percentile(gaps)
    alike = f"the method agrees with itself to {own.mean():z.2f}"
    verdict: VerdictName = "inconclusive"
    advice = ""
    if low > bars.same:
        verdict, reason = "fail", f"Maps stay the same; {alike}."
    elif gap_high < bars.gap:
        verdict, reason = "fail", f"Maps differ hardly more than when nothing is changed; {alike}."
    elif high < bars.similar and gap_low > bars.gap:
        verdict, reason = "pass", f"Maps differ as they should; {alike}."
    else:
        reason = f"Maps differ in part; {alike}."
        advice = _narrower(n, (estimate, (high - low) / 2), (gap, (gap_high - gap_low) / 2), bars)
    flat = int(scores.flat[scores.valid].sum())
    refused = int(scores.parts.get("refused", np.zeros(len(scores.valid)))[scores.valid].sum())
    if n < bars.samples:
        verdict, reason, advice = "inconclusive", few(n, bars), enough(bars)
    elif verdict == "pass" and flat > bars.flat * n:
        verdict, reason = "inconclusive", f"Maps differ as they should, but {flat} of {n} are flat."
    elif verdict == "pass" and refused > bars.flat * n:
        verdict = "inconclusive"
        reason = f"Maps differ as they should, but jittered weights change {refused} of {n} predictions, so self-similarity is not known."
    p = float((max(np.sum(resampled >= bars.similar), np.sum(gaps <= bars.gap)) + 1) / (len(resampled) + 1))
    return Decision(verdict, reason, n, thresholds, estimate, (low, high), gap, p, advice)


def _narrower(n: int, similarity: tuple[float, float], gap: tuple[float, float], bars: Thresholds) -> str:
    """Samples at which intervals that shrink with √n would end at the bars that the estimates point to; empty where none would decide."""

    def needed(found: tuple[float, float], bar: float) -> float:
        estimate, half = found
        return float(n * (half / max(abs(estimate - bar), 1e-9)) ** 2)

    failing = [needed(gap, bars.gap)] if gap[0] < bars.gap else []
    failing += [needed(similarity, bars.same)] if similarity[0] > bars.same else []
    if failing:
        return about(min(failing), n, bars)
    if similarity[0] >= bars.similar:
        return ""
    return about(max(needed(similarity, bars.similar), needed(gap, bars.gap)), n, bars)


def vs_matched_noise(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """As `vs_noise`, against value-matched noise, for metrics that read a map's values and not only their order.

    A member of the noise family lends the order, the method's own values fill it. The metric measures these maps itself, and gives
    their scores as parts `matched/<control>`; other controls have no say. A flat map for which the metric has no score counts as no
    lead over any member.

    Such scores are fractions of 1, so a pass takes a mean lead of `probability` whatever their unit. Without it a map of ones but for
    one corner "passes" plausibility: objects keep away from that pixel, and a lead of 0.00002 is steady enough for an effect of 0.3.
    """
    opponents = _noise_of(scores, MATCHED)
    if opponents and not scores.valid.any() and scores.flat.any():
        return _all_flat(int(scores.flat.sum()), bars)
    found = against(
        scores, opponents, scores.valid | scores.flat, "probability", entry, bars, OverSamples(seed, bars.resamples)
    )
    if found.n < bars.samples:
        return found
    return replace(
        found, reason=f"Against its own values in the order of noise: {found.reason[0].lower()}{found.reason[1:]}"
    )


def matched_noise(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """As `vs_matched_noise`, but descriptive: for metrics of which calibration has not shown that noise does not pass."""
    found = vs_matched_noise(scores, controls, entry, bars, seed)
    return replace(found, verdict="descriptive", reason=_matched(found, _noise_of(scores, MATCHED)), p=None, advice="")


def contrast_matched_noise(
    scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int
) -> Decision:
    """As `vs_matched_noise`, for a difference between two models, which must also be one: its 95 % interval must lie above 0.

    An interval below 0 fails, and so does no difference on any sample; one that holds 0 passes nothing. p is the larger of the two.
    """
    found = vs_matched_noise(scores, controls, entry, bars, seed)
    own = scores.values[scores.valid]
    if found.n < bars.samples or len(own) < 2:
        return found
    boot = intervals.mean(own, intervals.weights(seed, len(own), bars.resamples))
    low, high = boot.interval()
    found = replace(found, p=max(found.p or 0.0, boot.p_above(0.0)))
    if not own.any():
        return replace(found, verdict="fail", reason="The other model's map is just as high there.", advice="")
    if high < 0:
        return replace(
            found,
            verdict="fail",
            reason="The other model's map is the higher one where this one's should be.",
            advice="",
        )
    if found.verdict == "pass" and low <= 0:
        needed = len(own) * ((high - low) / 2 / max(abs(boot.estimate), 1e-9)) ** 2
        reason = f"{found.reason.removesuffix('.')}, but whether there is a difference is left open."
        return replace(found, verdict="inconclusive", reason=reason, advice=about(needed, len(own), bars))
    return found


def _all_flat(n: int, bars: Thresholds) -> Decision:
    """Where no map has a score, since all are flat."""
    thresholds: dict[str, Value] = {
        "effect": bars.effect,
        "samples": bars.samples,
        "flat": bars.flat,
        "probability": bars.probability,
    }
    if n < bars.samples:
        return Decision("inconclusive", few(n, bars), n, thresholds, advice=enough(bars))
    return Decision("fail", "Every map is flat, so none has a lead over noise.", n, thresholds, p=1.0)


def _noise_of(scores: Scores, prefix: str) -> dict[str, Control]:
    """Controls whose scores are parts of the method's own, valid where those are."""
    found = {}
    for part, values in scores.parts.items():
        if part.startswith(prefix):
            key = part.removeprefix(prefix)
            title = METHODS[key].entry.title if key in METHODS else key.replace("_", " ")
            found[key] = Control(title, "noise", values, np.broadcast_to(scores.valid, values.shape))
    return found


def _matched(found: Decision, matched: Controls) -> str:
    """By how much the method beats the member that it beats least."""
    described = "described, not judged"
    if found.p is not None and not found.controls:
        return f"Every map is flat, so none has a lead over its own values in the order of noise: {described}."
    if not found.controls:
        return (
            f"Measured on {found.n} samples, too few to compare with its own values in the order of noise: {described}."
        )
    closest, lead = min(found.controls.items(), key=lambda item: item[1].rank)
    low, high = lead.interval
    beats = "Beats" if low > 0 else "Does worse than" if high < 0 else "Cannot be told from"
    size = f" by {abs(lead.effect):.2f} standard deviations" if lead.effect is not None and not low <= 0 <= high else ""
    own = "own values in the order of " if closest in METHODS else ""
    return f"{beats} its {own}{matched[closest].name}{size}: {described}."


def ratings(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """As `vs_noise`, people's ratings of the method's maps against their ratings of noise, which are parts `rated/<control>`.

    Below a Krippendorff's α (reported `alpha`) of `reliability` raters measure nothing, and there is no verdict; a pass takes ratings of
    all members of the noise family. Without any, or without ratings at all, the scores are described; what is no rating is no estimate.
    """
    rated, alpha = _noise_of(scores, RATED), scores.reported.get("alpha")
    if not isinstance(alpha, float) or not rated:
        told = descriptive(scores, controls, entry, bars, seed)
        return told if isinstance(alpha, float) else replace(told, estimate=None, interval=None)
    found = vs_noise(scores, rated, entry, bars, seed)
    found = replace(found, thresholds={**found.thresholds, "reliability": bars.reliability})
    missing = [
        METHODS[key].entry.title for key in METHODS if METHODS[key].entry.control == "noise" and key not in rated
    ]
    if found.verdict in ("pass", "fail") and alpha < bars.reliability:
        reason = f"Raters agree too little to judge: Krippendorff's α is {alpha:z.2f}, at least {bars.reliability:g} is needed."
        return replace(found, verdict="inconclusive", reason=reason)
    if found.verdict == "pass" and missing:
        reason = f"Beats every noise control that was rated, but nobody rated {', '.join(missing)}."
        return replace(found, verdict="inconclusive", reason=reason)
    return found


RULES: Mapping[str, Rule] = {
    "descriptive": descriptive,
    "vs_noise": vs_noise,
    "vs_noise_over_seeds": vs_noise_over_seeds,
    "vs_matched_noise": vs_matched_noise,
    "matched_noise": matched_noise,
    "randomisation": randomisation,
    "axiom": axiom,
    "unchanged": unchanged,
    "vs_baseline": vs_baseline,
    "contrast_matched_noise": contrast_matched_noise,
    "ratings": ratings,
}
