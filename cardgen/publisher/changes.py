"""What moved between two sets of records, and why: the parts of the keys, compared one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cardgen.aggregator import rows, verdicts
from cardgen.evidence import Evidence
from cardgen.records import Record, dumps

UNTESTED = "untested"
NOISE = "noise"
MEASURED = ("estimate", "interval", "effect", "p", "n", "flat", "controls", "reported", "curve")
"""The numbers of a record: with the same key, thresholds and machine they are the same."""
PARTS = {
    "weights": "weights",
    "data": "data",
    "masks": "data",
    "target": "target",
    "layer": "layer",
    "code": "code",
    "dtype": "number format",
    "seed": "seed",
    "controls": "controls",
}
"""Parts of a key that say one thing each, in words."""
VERSIONS = {"method": "method version", "metric": "metric version", "engine": "engine"}
STATES = {"skipped": "skipped", "error": "an error"}
Place = tuple[str, str, str]


@dataclass(frozen=True)
class Change:
    """One metric × method × subject whose final verdict or score is another than it was, and why."""

    subject: str
    method: str
    metric: str
    title: str
    before: Record | None
    after: Record | None
    final_before: str
    final_after: str
    why: tuple[str, ...]

    @property
    def verdict_moved(self) -> bool:
        """Whether the final verdict, which the card shows, is another one."""
        return self.final_before != self.final_after

    @property
    def place(self) -> str:
        """`<subject>/<method>/<metric>`, as the record lies in the evaluations."""
        return f"{self.subject}/{self.method}/{self.metric}"


def changes(before: Evidence | Iterable[Record], after: Evidence | Iterable[Record]) -> list[Change]:
    """Every verdict or score that is another one after than before, by subject, method and metric.

    The final verdicts are the aggregator's, so one record's change can move the verdict of another ("other evaluations").
    """
    old, new = _found(before), _found(after)
    found = []
    for place in sorted(old.keys() | new.keys()):
        (a, final_a), (b, final_b) = old.get(place, (None, UNTESTED)), new.get(place, (None, UNTESTED))
        if a is None or b is None or final_a != final_b or _numbers(a) != _numbers(b) or a.verdict != b.verdict:
            title = next(record.catalogue.title for record in (b, a) if record)
            found.append(Change(*place, title, a, b, final_a, final_b, why(a, b)))
    return found


def why(before: Record | None, after: Record | None) -> tuple[str, ...]:
    """What moved between two records of one place, in words.

    With the same key it can be thresholds, a reason to skip, an error, or, where nothing else differs, noise: one of the two
    was measured by force or on another machine. Records that say the same moved only through others of their method.
    """
    if before is None or after is None:
        return ("added",) if before is None else ("removed",)
    if before.key != after.key:
        return (*_moved_parts(before, after), *_moved_rule(before, after))
    states = [f"no longer {STATES[before.verdict]}"] if before.verdict in STATES else []
    states += [f"now {STATES[after.verdict]}"] if after.verdict in STATES else []
    if states and before.verdict != after.verdict:
        return tuple(states)
    rule = _moved_rule(before, after)
    if rule:
        return rule
    same = before.verdict == after.verdict and _numbers(before) == _numbers(after)
    return ("other evaluations",) if same else (NOISE,)


def hold_back(
    changes: Iterable[Change], pending: Mapping[str, Mapping[str, str]]
) -> tuple[list[Change], dict[str, dict[str, str]]]:
    """Noise to keep out of what is published, and the flips that wait for a second run that agrees.

    A change with the same key is held: the base's record stays. Its flip of the final verdict is let through when it is pending
    already, with the same key and verdict, from another run; the same record published twice is one run. Two runs that agreed
    stay on the list until the base says the same, or the next run would hold them back again. Scores that moved by noise alone
    are never let through. Whoever holds records back compares anew afterwards, since verdicts hang together.

    Args:
        changes: of this run against the base.
        pending: what the last run left: place → key, verdict and the digest of the record that was seen.

    Returns:
        The changes held, and what is pending now.
    """
    held: list[Change] = []
    waiting: dict[str, dict[str, str]] = {}
    for change in changes:
        if change.after is None or change.why != (NOISE,):
            continue
        now, last = _seen(change, change.after), pending.get(change.place, {})
        agrees = all(last.get(name) == now[name] for name in ("key", "verdict"))
        if change.verdict_moved and agrees and ("agreed" in last or last.get("seen") != now["seen"]):
            waiting[change.place] = {**now, "agreed": "yes"}
            continue
        held.append(change)
        if change.verdict_moved:
            waiting[change.place] = now
    return held, waiting


def _seen(change: Change, record: Record) -> dict[str, str]:
    seen = hashlib.sha256(dumps(record).encode()).hexdigest()[:32]
    return {"key": record.key, "verdict": change.final_after, "seen": seen}


def _found(side: Evidence | Iterable[Record]) -> dict[Place, tuple[Record, str]]:
    """Place → record and final verdict."""
    records = list(side.records if isinstance(side, Evidence) else side)
    finals = [str(row.final) for row in rows(verdicts(records))]
    return {(r.subject, r.method, r.metric): (r, final) for r, final in zip(records, finals, strict=True)}


def _numbers(record: Record) -> list[Any]:
    return [getattr(record, name) for name in MEASURED]


def _moved_parts(before: Record, after: Record) -> tuple[str, ...]:
    """Which parts of the key moved. The data's part covers the samples measured, so with another n it says nothing of the data."""
    old, new = before.key_parts, after.key_parts
    resized = old.get("n") != new.get("n")
    names = [*PARTS, *sorted((old.keys() | new.keys()) - {*PARTS, "n"})]
    told = [name for name in names if old.get(name) != new.get(name) and not (resized and name == "data")]
    words = [PARTS.get(name, name.replace("_", " ")) for name in told]
    words += [word for name, word in VERSIONS.items() if before.versions.get(name, 1) != after.versions.get(name, 1)]
    words += ["parameters"] if before.parameters != after.parameters else []
    words += ["sample size"] if resized else []
    words += ["budget"] if before.budget != after.budget else []
    return tuple(dict.fromkeys(words)) or ("parameters",)  # stored with four digits, so a move can lie below them


def _moved_rule(before: Record, after: Record) -> tuple[str, ...]:
    """What moved in the rule; a record holds only the thresholds that it was decided by, so those of both are compared."""
    old, new = before.rule.thresholds, after.rule.thresholds
    words = ["decision rule"] if before.rule.name != after.rule.name else []
    words += ["thresholds"] if any(old[name] != new[name] for name in old.keys() & new.keys()) else []
    words += ["requirements"] if before.requires != after.requires else []
    return tuple(words)
