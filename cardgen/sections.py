"""One attribute of a card: what was measured, what was published, what nobody tested."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from cardgen.aggregator import coverage, rows
from cardgen.conflicts import conflicts
from cardgen.evidence import Evidence
from cardgen.findings import sentence
from cardgen.published import published_sentence, table_sentences
from cardgen.records import Attribute, Record
from cardgen.stale import stale
from cardgen.trust import calibration_of, caution, trust
from cardgen.words import ATTRIBUTES, MARKS, listing, plural, tally


@dataclass(frozen=True)
class Statement:
    """What was found on one subject, or published.

    `stale` says of older evidence what is newer; `trust` or `caution` what a calibration says of its metric.
    """

    verdict: str
    text: str
    stale: str = ""
    trust: str = ""
    caution: str = ""

    @property
    def mark(self) -> str:
        return MARKS[self.verdict]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation with its statements; none where nobody ran it."""

    title: str
    url: str
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Section:
    """One attribute of the card."""

    attribute: Attribute
    title: str
    summary: str
    conflicts: tuple[str, ...]
    measured: tuple[Evaluation, ...]
    published: tuple[Evaluation, ...]
    table: str
    untested: tuple[Evaluation, ...]


def sections(method: str, evidence: Evidence, table: pd.DataFrame) -> dict[Attribute, Section]:
    """All ten attributes of one method in the card's order; `table` is `aggregator.verdicts(evidence.records)`."""
    mine = table[table["method"] == method]
    covered = coverage(mine, evidence, method)
    literature = evidence.literature[method]
    in_table = table_sentences(literature.table) if literature.table else {}
    measured = _measured(method, evidence, mine)
    found = {}
    for attribute, title in ATTRIBUTES.items():
        known = [key for key, metric in evidence.metrics.items() if metric.attribute == attribute]
        found[attribute] = Section(
            attribute=attribute,
            title=title,
            summary=_summary(attribute, covered, [v.verdict for v in literature.verdicts if v.attribute == attribute]),
            conflicts=tuple(conflicts(mine, evidence, method, attribute)),
            measured=tuple(measured[key] for key in known if key in measured),
            published=_published(method, attribute, evidence),
            table=in_table.get(attribute, ""),
            untested=tuple(_named(key, evidence) for key in known if key not in measured),
        )
    return found


def _measured(method: str, evidence: Evidence, mine: pd.DataFrame) -> dict[str, Evaluation]:
    """Metric → what was found, the subjects in order; subjects without a record are named at the end."""
    finals = {(row.metric, row.subject): (row.final, row.why) for row in rows(mine)}
    records: dict[str, dict[str, Record]] = {}
    for record in evidence.records:
        if record.method == method:
            records.setdefault(record.metric, {})[record.subject] = record
    found = {}
    for metric, by_subject in records.items():
        statements = [
            _statement(by_subject[subject], *finals[metric, subject], evidence)
            for subject in evidence.methods[method]
            if subject in by_subject
        ]
        missing = [subject for subject in evidence.methods[method] if subject not in by_subject]
        if missing:
            last = statements[-1]
            statements[-1] = replace(last, text=f"{last.text} Not tested on {listing(missing)}.")
        found[metric] = _named(metric, evidence, tuple(statements))
    return found


def _statement(record: Record, final: str, why: str, evidence: Evidence) -> Statement:
    calibration = calibration_of(record, evidence)
    return Statement(
        final,
        sentence(record, final, why, evidence),
        stale(record, evidence.catalogue, evidence.subjects[record.subject]),
        trust(calibration, evidence) if calibration else "",
        caution(calibration, evidence) if calibration else "",
    )


def _published(method: str, attribute: Attribute, evidence: Evidence) -> tuple[Evaluation, ...]:
    return tuple(
        Evaluation(
            _named(verdict.metric, evidence).title,
            verdict.source,
            (Statement(verdict.verdict, published_sentence(verdict, evidence.names)),),
        )
        for verdict in evidence.literature[method].verdicts
        if verdict.attribute == attribute
    )


def _named(metric: str, evidence: Evidence, statements: tuple[Statement, ...] = ()) -> Evaluation:
    known = evidence.metrics.get(metric)
    return Evaluation(known.title if known else metric.replace("_", " "), known.url if known else "", statements)


def _summary(attribute: Attribute, covered: pd.DataFrame, marks: list[str]) -> str:
    """An attribute in one line: "2 pass, 1 fail, 1 open of 7 evaluations (measured); published: 1 pass"."""
    if attribute not in covered.index.get_level_values("attribute"):
        return ""
    here = covered.xs(attribute, level="attribute")
    counts = {str(subject): {str(key): int(n) for key, n in row.items()} for subject, row in here.iterrows()}
    tallies = {subject: tally(count) or "none" for subject, count in counts.items()}
    alike = set(tallies.values())
    each = "; ".join(f"{subject}: {text}" for subject, text in tallies.items())
    first = f"{each};" if len(tallies) > 1 and alike != {"none"} else next(iter(alike))
    total = plural(int(here["total"].iloc[0]), "evaluation")
    published = tally({mark: marks.count(mark) for mark in marks}) or "none"
    return f"{first} of {total} (measured); published: {published}"
