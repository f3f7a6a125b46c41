"""How far a verdict can be trusted, in one clause: what a calibration found of its metric on the same subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cardgen.evidence import Evidence
from cardgen.findings import control_words
from cardgen.records import Calibration, Record, Share
from cardgen.words import listing, plural

GOAL = 0.05
"""The largest share of repetitions in which what holds no information, or must fail, may pass."""
TRUTH = 0.9
"""The smallest share in which what must pass does."""
UNTOLD = ("skipped", "error")
DECIDED = ("pass", "fail", "inconclusive")


@dataclass(frozen=True)
class Missed:
    """A goal that was missed, and by how much."""

    text: str
    by: float


def calibration_of(record: Record, evidence: Evidence) -> Calibration | None:
    """The calibration of a record's metric on its subject; None without one, or of other weights, version or thresholds.

    These show in `key_parts`, under `weights`, `metric_version` and `bar_<threshold>`, where it has them.
    """
    found = evidence.calibrations.get((record.subject, record.metric))
    if found is None or record.verdict in UNTOLD:
        return None
    mine = {"weights": record.key_parts.get("weights"), "metric_version": record.versions.get("metric")}
    mine |= {f"bar_{name}": value for name, value in record.rule.thresholds.items()}
    told = ((found.key_parts.get(name), value) for name, value in mine.items())
    return found if all(theirs is None or ours is None or theirs == ours for theirs, ours in told) else None


def missed(found: Calibration, evidence: Evidence) -> list[Missed]:
    """The goals for noise, held-out controls and the positive control that the counts miss, the worst first."""
    over = [
        Missed(
            f"{control_words(key, evidence)} passes {percent(share)} (goal: at most {100 * GOAL:.0f} %)",
            share.estimate - GOAL,
        )
        for key, share in [*found.noise.items(), *found.held_out.items()]
    ]
    if found.truth and found.truth_should == "pass":
        said = f"the positive control passes only {percent(found.truth)} (goal: at least {100 * TRUTH:.0f} %)"
        over.append(Missed(said, TRUTH - found.truth.estimate))
    return sorted((one for one in over if one.by > 0), key=lambda one: -one.by)


def caution(found: Calibration, evidence: Evidence) -> str:
    """What is missed, the worst by name; empty where every goal is met, or where repetitions are too few to judge."""
    wrong = missed(found, evidence) if found.met is not None else []
    if wrong:
        more = f"; {plural(len(wrong) - 1, 'more goal is', 'more goals are')} missed" if len(wrong) > 1 else ""
        return f"in {_repetitions(found)} {wrong[0].text}{more}"
    return f"in {_repetitions(found)} not every goal was met" if found.met is False else ""


def trust(found: Calibration, evidence: Evidence) -> str:
    """How often noise, held-out controls and the positive control pass, the worst of each; empty where a caution stands instead."""
    if caution(found, evidence):
        return ""
    parts = []
    if found.noise:
        parts.append(f"noise passes at most {percent(worst(found.noise)[1])}")
    if found.held_out:
        key, share = worst(found.held_out)
        who = f" ({control_words(key, evidence)})" if share.estimate else ""
        parts.append(f"other maps without information at most {percent(share)}{who}")
    if found.truth and found.truth_should == "pass":
        parts.append(f"the positive control {percent(found.truth)}")
    few = "; too few to judge by" if found.met is None else ""
    return f"in {_repetitions(found)} {listing(parts)}{few}" if parts else ""


def percent(share: Share) -> str:
    """0.4 %, 12 %; what is not quite none, or all, is never said to be."""
    value = 100 * share.estimate
    if 0 < value < 0.05:
        return "less than 0.1 %"
    if 99.95 <= value < 100:
        return "more than 99.9 %"
    return f"{value:.1f}".removesuffix(".0") + " %"


def calibrated(records: list[Record], evidence: Evidence) -> str:
    """One line on how many of the evaluations that gave a verdict are calibrated, and which miss a goal; empty where none gave one."""
    judged = [record for record in records if record.verdict in DECIDED]
    found = [(record.catalogue.title, one) for record in judged if (one := calibration_of(record, evidence))]
    if not judged:
        return ""
    total = plural(len(judged), "evaluation with a verdict", "evaluations with a verdict")
    if not found:
        return f"none of {total}; how often noise passes here was not measured"
    wrong = list(dict.fromkeys(title for title, one in found if caution(one, evidence)))
    said = f"{listing(wrong)} {'misses' if len(wrong) == 1 else 'miss'} a goal" if wrong else "none misses a goal"
    return f"{len(found)} of {total}; {said}"


def worst(shares: Mapping[str, Share]) -> tuple[str, Share]:
    """The control that passes most often, and how often."""
    return max(shares.items(), key=lambda item: item[1].estimate)


def _repetitions(found: Calibration) -> str:
    return f"{plural(found.repetitions, 'repetition')} with {plural(found.n, 'image')} each"
