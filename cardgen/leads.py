"""By how much a method beats controls on the same samples, and what follows: what all rules that compare with noise share."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from cardgen import intervals
from cardgen.decisions import Control, Controls, Decision, about, enough, few
from cardgen.errors import CardgenError
from cardgen.records import Comparison, MetricEntry, Value, VerdictName
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds


@runtime_checkable
class Resampling(Protocol):
    """What is drawn again for intervals: samples, or what the scores rest on beside them as well."""

    def lead(self, scores: Scores, control: Control, entry: MetricEntry, kept: Bool[np.ndarray, " n"]) -> "Lead":
        """The lead over one control on the samples that are kept."""

    def own(
        self, scores: Scores, entry: MetricEntry, kept: Bool[np.ndarray, " n"]
    ) -> tuple[float, tuple[float, float]]:
        """The mean score on these samples, of which there is one at least, with its interval."""


@dataclass(frozen=True)
class OverSamples:
    """The bootstrap over samples."""

    seed: int
    resamples: int

    def lead(self, scores: Scores, control: Control, entry: MetricEntry, kept: Bool[np.ndarray, " n"]) -> "Lead":
        """By BCa, of d = score − mean score of the control's draws, oriented so that larger is better."""
        draws = control.valid.sum(0)
        baseline = np.where(control.valid, control.values, 0.0).sum(0) / np.maximum(draws, 1)
        # where the method or the control has no score, there is no lead either
        d = np.where(scores.valid & (draws > 0), sign(entry) * (scores.values - baseline), 0.0)[kept]
        size = max(np.abs(baseline).max(), np.abs(scores.values[scores.valid]).max(initial=0.0))
        d, weights = intervals.settled(d, float(size)), self._weights(len(d))
        boot = intervals.mean(d, weights)
        estimate = float(baseline[kept & (draws > 0)].mean())
        return Lead(control.name, estimate, boot, intervals.standardised(d, weights) if np.ptp(d) > 0 else None)

    def own(
        self, scores: Scores, entry: MetricEntry, kept: Bool[np.ndarray, " n"]
    ) -> tuple[float, tuple[float, float]]:
        """By BCa; Wilson's where every sample is a hit or a miss, since a bootstrap of hits alone has no width."""
        own = scores.values[kept]
        boot = intervals.mean(own, self._weights(len(own)))
        if entry.unit == "share" and bool(np.isin(own, (0, 1)).all()):
            return boot.estimate, intervals.wilson(int(own.sum()), len(own))
        return boot.estimate, boot.interval()

    def _weights(self, n: int) -> Float[np.ndarray, "b {n}"]:
        return intervals.weights(self.seed, n, self.resamples)


def sign(entry: MetricEntry) -> float:
    """What turns a score so that larger is better."""
    return -1.0 if entry.direction == "lower" else 1.0


def against(
    scores: Scores,
    controls: Controls,
    exists: Bool[np.ndarray, " n"],
    least: str | None,
    entry: MetricEntry,
    bars: Thresholds,
    how: "Resampling",
) -> Decision:
    """`vs_noise` on the samples for which the quantity exists.

    Args:
        scores: the method's.
        controls: the noise family and the priors.
        exists: samples that count, unless the method has neither a score nor a flat map.
        least: names the bar, if any, of the difference that a pass takes.
        entry: the metric's.
        bars: of the rule.
        how: what is drawn again for intervals.
    """
    thresholds: dict[str, Value] = {"effect": bars.effect, "samples": bars.samples, "flat": bars.flat}
    bar = None if least is None else getattr(bars, least)
    if least is not None:
        thresholds[least] = bar
    if all(control.kind != "noise" for control in controls.values()):
        raise CardgenError(
            f"{entry.key}: expected noise controls to compare with, got none; run the noise family as well"
        )
    # a flat map stays in, with no lead over anything
    kept = exists & (scores.valid | scores.flat)
    n, flat = int(kept.sum()), int(scores.flat[kept].sum())
    if n < 2:
        return Decision("inconclusive", few(n, bars), n, thresholds, advice=enough(bars))
    leads = {
        key: how.lead(scores, control, entry, kept) for key, control in controls.items() if control.valid[:, kept].any()
    }
    noise = {key: lead for key, lead in leads.items() if controls[key].kind == "noise"}
    verdict, reason, advice = _judged(list(noise.values()), n, bars, bar)
    if n < bars.samples:
        verdict, reason, advice = "inconclusive", few(n, bars), enough(bars)
    elif verdict == "pass" and flat > bars.flat * n:
        verdict, reason = "inconclusive", f"Beats every noise control, but {flat} of {n} maps are flat."
    elif flat <= bars.flat * n and all(lead.level for lead in noise.values()):
        verdict = "inconclusive"
        reason = "Noise gets the very same score on every sample, so nothing can be told apart."
    scored = kept & scores.valid
    estimate, interval = how.own(scores, entry, scored) if scored.any() else (None, None)
    return Decision(
        verdict,
        reason,
        n,
        thresholds,
        estimate,
        interval,
        min(noise.values(), key=lambda lead: lead.rank).effect,
        max(lead.p for lead in noise.values()),
        advice,
        {key: lead.comparison(controls[key].kind) for key, lead in leads.items()},
    )


def _judged(noise: "list[Lead]", n: int, bars: Thresholds, least: float | None) -> tuple[VerdictName, str, str]:
    """Verdict, reason and advice from the leads over the members of the noise family."""
    clear = all(lead.interval[0] > 0 and lead.rank >= bars.effect for lead in noise)
    thin = [lead for lead in noise if least is not None and lead.difference < least]
    failing = [lead for lead in noise if lead.upper(len(noise)) < bars.effect]
    worse = [lead for lead in failing if lead.interval[0] <= 0]
    closest = min(noise, key=lambda lead: lead.rank)
    if clear and not thin:
        return "pass", f"Beats every noise control; {closest.name} comes closest.", ""
    if len(worse) == len(noise) > 1:
        return "fail", "No better than any noise control.", ""
    if worse:
        return "fail", f"No better than {_listed(worse)}.", ""
    if failing:
        return "fail", f"Beats {_listed(failing)} by less than {bars.effect:g} standard deviations.", ""
    if clear:
        return "inconclusive", f"Beats every noise control, but {_listed(thin)} by less than {least:g}.", ""
    return "inconclusive", f"{n} samples leave open whether it beats {closest.name}.", advised(closest.rank, n, bars)


@dataclass(frozen=True, eq=False)
class Lead:
    """By how much the method beats one control."""

    name: str
    estimate: float
    boot: intervals.Bootstrap
    standard: intervals.Bootstrap | None

    @property
    def difference(self) -> float:
        return self.boot.estimate

    @cached_property
    def interval(self) -> tuple[float, float]:
        return self.boot.interval() if self.standard else (self.difference, self.difference)

    @property
    def effect(self) -> float | None:
        return self.standard.estimate if self.standard else None

    @property
    def level(self) -> bool:
        """Whether the two have the same score on every sample."""
        return self.standard is None and self.difference == 0

    @property
    def rank(self) -> float:
        """The effect; without spread the mean's sign is all there is."""
        if self.effect is not None:
            return self.effect
        return np.inf if self.difference > 0 else -np.inf

    @property
    def p(self) -> float:
        return self.boot.p_above(0.0)

    def upper(self, members: int) -> float:
        """One-sided upper bound of the effect, at 1 − 0.025 / members."""
        return self.standard.quantile(1 - 0.025 / members) if self.standard else self.rank

    def comparison(self, kind: str) -> Comparison:
        return Comparison(
            kind="noise" if kind == "noise" else "prior",
            estimate=self.estimate,
            difference=self.difference,
            interval=self.interval,
            effect=self.effect,
        )


def advised(effect: float, n: int, bars: Thresholds) -> str:
    """How many samples would decide, from the effect seen: METRICS' formulas, in words."""
    beyond = effect - bars.effect
    if beyond == 0:
        return about(np.inf, n, bars)
    return about(max((2.8 / effect) ** 2, (0.84 / beyond) ** 2) if beyond > 0 else (3.34 / beyond) ** 2, n, bars)


def _listed(leads: list[Lead]) -> str:
    names = [lead.name for lead in leads]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
