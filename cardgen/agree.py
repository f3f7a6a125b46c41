"""Measured verdicts against published ones: how far they agree, and each that does not, with both sources. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cardgen.aggregator import rows, verdicts
from cardgen.errors import CardgenError
from cardgen.evidence import Evidence, load_all
from cardgen.kappa import Kappa, kappa
from cardgen.literature import PublishedVerdict
from cardgen.records import Record, VerdictName

DECIDED: tuple[VerdictName, ...] = ("pass", "fail")
COMPARED: tuple[VerdictName, ...] = (*DECIDED, "inconclusive")
ELSE = ("descriptive", "skipped", "error", "untested")
"""What else may have become of an evaluation that others gave a verdict on, the nearest to a verdict first."""
THREE, TWO = "pass, fail or inconclusive", "pass or fail, where both decide"


@dataclass(frozen=True)
class Pair:
    """One record's final verdict beside what was published on the same method and metric."""

    record: Record
    measured: str
    why: str
    published: str
    sources: tuple[PublishedVerdict, ...]

    @property
    def place(self) -> tuple[str, str]:
        """What the published verdict speaks of."""
        return self.record.method, self.record.metric

    @property
    def agree(self) -> bool:
        return self.measured == self.published

    @property
    def opposite(self) -> bool:
        """Whether one side says pass and the other fail."""
        return not self.agree and "inconclusive" not in (self.measured, self.published)


@dataclass(frozen=True)
class Scope:
    """The pairs of one subject, or of all (`subject` empty), by the verdicts that are compared."""

    subject: str
    compared: str
    kappa: Kappa


@dataclass(frozen=True)
class Agreement:
    """Everything that `cardgen agree` says; `published` counts method × metric cells, `unpaired` what became of those without a pair."""

    evidence: Evidence
    subjects: tuple[str, ...]
    scopes: tuple[Scope, ...]
    pairs: tuple[Pair, ...]
    published: int
    unpaired: dict[str, int]

    @property
    def disagreements(self) -> tuple[Pair, ...]:
        """Pass against fail first."""
        return tuple(sorted((pair for pair in self.pairs if not pair.agree), key=lambda pair: not pair.opposite))

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """(measured, published) → pairs."""
        return dict(Counter((pair.measured, pair.published) for pair in self.pairs))


def agree(evaluations: Path, subject: str | None = None) -> Agreement:
    """Compare final measured verdicts with those of `evaluations/literature`, over pairs (method, metric, subject) that have both.

    Two comparisons. **Three-way** takes verdicts as they stand, pass, fail or inconclusive: does cardgen say the same as others, open
    results included? **Two-way** keeps the pairs in which both sides decide: a published "inconclusive" means mixed results, a measured
    one too few samples, so the two need not mean the same, and only pass against fail contradicts. Cohen's κ is unweighted in
    both, as is usual for categories: that inconclusive lies halfway between pass and fail holds for neither meaning. Verdicts that are
    descriptive, skipped or errors claim nothing and pair with nothing.

    Several publications on one method and metric are one verdict: theirs if all say the same, else inconclusive, as the cards that they
    come from mark mixed results. Pairs on several subjects share it, so κ's interval leaves all of them out together.

    The measured subject is not the one that was published on. What is counted here is how far verdicts carry over, no accuracy of either
    side, and no threshold is chosen by it.

    Args:
        evaluations: the records, with `literature/` among them; the shipped literature where it is not.
        subject: this one alone.

    Raises:
        CardgenError: no such subject, or malformed records.
    """
    evidence = load_all(evaluations)
    if subject is not None and subject not in evidence.subjects:
        raise CardgenError(f"subject: got {subject!r}; expected one of {', '.join(evidence.subjects)}; choose one")
    subjects = tuple(evidence.subjects) if subject is None else (subject,)
    cells = _published(evidence)
    pairs, states = [], dict.fromkeys(cells, "untested")
    for record, row in zip(evidence.records, rows(verdicts(evidence.records)), strict=True):
        cell = (record.method, record.metric)
        if cell not in cells or record.subject not in subjects:
            continue
        if row.final in COMPARED:
            pairs.append(Pair(record, str(row.final), str(row.why), _one(cells[cell]), cells[cell]))
        else:
            states[cell] = min(states[cell], str(row.final), key=ELSE.index)
    for pair in pairs:
        states.pop(pair.place, None)
    return Agreement(
        evidence=evidence,
        subjects=subjects,
        scopes=tuple(_scopes(pairs, subjects)),
        pairs=tuple(pairs),
        published=len(cells),
        unpaired={state: count for state in ELSE if (count := list(states.values()).count(state))},
    )


def _published(evidence: Evidence) -> dict[tuple[str, str], tuple[PublishedVerdict, ...]]:
    """(method, metric) → its published verdicts."""
    found: dict[tuple[str, str], tuple[PublishedVerdict, ...]] = {}
    for method, literature in evidence.literature.items():
        for verdict in literature.verdicts:
            found[method, verdict.metric] = (*found.get((method, verdict.metric), ()), verdict)
    return found


def _one(published: Sequence[PublishedVerdict]) -> str:
    said = {verdict.verdict for verdict in published}
    return said.pop() if len(said) == 1 else "inconclusive"


def _scopes(pairs: Sequence[Pair], subjects: Sequence[str]) -> list[Scope]:
    """All subjects together, then, where there are several, each alone."""
    found = []
    for subject in ["", *(subjects if len(subjects) > 1 else ())]:
        mine = [pair for pair in pairs if subject in ("", pair.record.subject)]
        for compared, marks in ((THREE, COMPARED), (TWO, DECIDED)):
            kept = [pair for pair in mine if pair.measured in marks and pair.published in marks]
            said = [(pair.measured, pair.published) for pair in kept]
            told = kappa(said, [pair.place for pair in kept], ("the measured verdict", "the published one"))
            found.append(Scope(subject, compared, told))
    return found
