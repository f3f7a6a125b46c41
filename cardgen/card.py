"""A card: plain data in the card's own order, made from records, facts and what was published."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from cardgen.evidence import Evidence
from cardgen.facts import Facts
from cardgen.findings import BUDGETS
from cardgen.history import Moved
from cardgen.records import SCHEMA, MethodEntry, SubjectRecord, Value
from cardgen.sections import Section, sections
from cardgen.stale import stale
from cardgen.trust import calibrated
from cardgen.words import JUDGED, MARKS, METHODOLOGY, estimate, listing, number, plural, tally

PICTURE = "example.png"
REMEMBERED = 5
"""Verdicts that moved, the latest ones, that a card tells of."""


@dataclass(frozen=True)
class Example:
    """A picture of the method on one subject: where it lies on the card, and its words."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Card:
    """Everything on one method's card."""

    key: str
    title: str
    schema: int
    entry: MethodEntry
    facts: Facts | None
    subjects: tuple[str, ...]
    subject_lines: tuple[str, ...]
    settings: tuple[str, ...]
    counts: dict[str, int]
    headline: str
    examples: tuple[Example, ...]
    methodology: dict[str, Section]
    sensitivity: tuple[Section, ...]
    perceptibility: tuple[Section, ...]
    calibrated: str
    stale: str
    history: tuple[str, ...]


def make_card(method: str, evidence: Evidence, table: pd.DataFrame, facts: Facts | None) -> Card:
    """The card of one method; `table` is `aggregator.verdicts(evidence.records)`."""
    records = evidence.methods[method]
    entry = next(iter(records.values())).catalogue
    attributes = sections(method, evidence, table)
    counted = table.loc[table["method"] == method, "final"].value_counts()
    counts = {key: int(counted[key]) for key in MARKS if key in counted.index}
    return Card(
        key=method,
        title=entry.title,
        schema=SCHEMA,
        entry=entry,
        facts=facts,
        subjects=tuple(records),
        subject_lines=tuple(
            subject_line(evidence.subjects[subject], _budget(method, subject, evidence)) for subject in records
        ),
        settings=tuple(
            _settings(subject, record.parameters) for subject, record in records.items() if record.parameters
        ),
        counts=counts,
        headline=tally(counts) or "nothing measured yet",
        examples=tuple(
            Example(
                picture_name(method, subject, evidence),
                record.picture_alt,
                record.picture_caption or record.picture_alt,
            )
            for subject, record in records.items()
            if record.picture_sha256
        ),
        methodology={key: attributes[key] for key in METHODOLOGY},
        sensitivity=tuple(attributes[key] for key in JUDGED[:3]),
        perceptibility=tuple(attributes[key] for key in JUDGED[3:]),
        calibrated=calibrated([record for record in evidence.records if record.method == method], evidence),
        stale=_stale(method, evidence),
        history=tuple(history_lines(method, evidence)),
    )


def history_lines(method: str, evidence: Evidence) -> list[str]:
    """The last verdicts of a method that moved, the latest first."""
    moved = [
        (line, subject) for subject in evidence.methods[method] for line in reversed(evidence.history[subject, method])
    ]
    moved.sort(key=lambda pair: pair[0].date, reverse=True)
    return [_moved(line, subject, evidence) for line, subject in moved[:REMEMBERED]]


def _moved(line: Moved, subject: str, evidence: Evidence) -> str:
    known = evidence.metrics.get(line.metric)
    title = known.title if known else line.metric.replace("_", " ")
    why = f" ({listing(line.parts)})" if line.parts else ""
    return f"{line.date.isoformat()}: {title} on {subject} went from {line.old} to {line.new}{why}"


def _stale(method: str, evidence: Evidence) -> str:
    """How many of a method's records are older than the catalogue; empty where none is."""
    mine = [record for record in evidence.records if record.method == method]
    old = sum(bool(stale(record, evidence.catalogue, evidence.subjects[record.subject])) for record in mine)
    return f"{old} of {plural(len(mine), 'evaluation')}" if old else ""


def picture_name(method: str, subject: str, evidence: Evidence) -> str:
    """The picture's name in the card's folder: the first subject with one has the plain name."""
    pictured = [key for key, record in evidence.methods[method].items() if record.picture_sha256]
    return PICTURE if pictured[:1] == [subject] else f"example-{subject}.png"


def subject_line(subject: SubjectRecord, budget: str = "") -> str:
    """A subject with the health of its model: how well the model does on this data."""
    health = {
        "healthy": "",
        "chance": "at chance level, so nothing is judged",
        "unknown": "accuracy not known, so nobody checked that the model has learned anything"
        if subject.accuracy is None
        else "all of one class, so the accuracy does not show that the model has learned anything",
    }[subject.health]
    parts = [plural(subject.n, "sample")]
    if subject.accuracy is not None:
        parts.append(f"accuracy {estimate(subject.accuracy, subject.accuracy_interval)}")
    parts += filter(None, (_explained(subject), health, budget))
    return f"{subject.title} ({'; '.join(parts)})"


def _explained(subject: SubjectRecord) -> str:
    """The class explained, where it is not the prediction."""
    if subject.target.isdecimal():
        named = subject.classes[int(subject.target) : int(subject.target) + 1]
        return f"class {subject.target}{''.join(f' ({name})' for name in named)} explained throughout"
    return "the labelled class explained" if subject.target == "label" else ""


def _budget(method: str, subject: str, evidence: Evidence) -> str:
    found = {record.budget for record in evidence.records if (record.method, record.subject) == (method, subject)}
    named = [budget for budget in BUDGETS if budget in found]
    return f"budget{'s' if len(named) > 1 else ''} {listing(named)}" if named else ""


def _settings(subject: str, parameters: dict[str, Value]) -> str:
    words = [f"{key} = {_value(value)}" for key, value in parameters.items() if value is not None]
    return f"{listing(words)} on {subject}" if words else f"the method's own settings on {subject}"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)
