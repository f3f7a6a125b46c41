"""All cards at a glance: which method, which evaluation, which verdict; and what the controls did."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from cardgen.aggregator import rows, verdicts
from cardgen.card import subject_line
from cardgen.conflicts import conflicts
from cardgen.evidence import Evidence, Known
from cardgen.records import Attribute
from cardgen.trust import calibrated
from cardgen.words import ATTRIBUTES, CONFLICT, CONFLICT_LEGEND, JUDGED, MARKS, METHODOLOGY, listing, plural

SHOWN = ("pass", "fail", "inconclusive")


@dataclass(frozen=True)
class Row:
    """One method's cells."""

    method: str
    title: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """One attribute: rows are methods, columns the evaluations that were run on any of them."""

    title: str
    columns: tuple[Known, ...]
    rows: tuple[Row, ...]
    untested: tuple[Known, ...]


@dataclass(frozen=True)
class Overview:
    """Everything on the overview page."""

    subjects: tuple[str, ...]
    subject_lines: tuple[str, ...]
    attributes: tuple[str, ...]
    by_attribute: tuple[Row, ...]
    matrices: tuple[Matrix, ...]
    controls: tuple[str, ...]

    @property
    def conflict_legend(self) -> str:
        """What the mark of a conflict means; empty where no cell has one."""
        return CONFLICT_LEGEND if any(CONFLICT in cell for row in self.by_attribute for cell in row.cells) else ""


def make_overview(evidence: Evidence, table: pd.DataFrame) -> Overview:
    """The overview; `table` is `aggregator.verdicts(evidence.records)`."""
    groups: list[tuple[str, tuple[Attribute, ...]]] = [("Methodology", METHODOLOGY)]
    groups += [(ATTRIBUTES[key], (key,)) for key in JUDGED]
    return Overview(
        subjects=subjects_used(evidence),
        subject_lines=tuple(subject_line(subject) for subject in evidence.subjects.values()),
        attributes=tuple(ATTRIBUTES[key] for key in JUDGED),
        by_attribute=tuple(_by_attribute(method, evidence, table) for method in evidence.methods),
        matrices=tuple(_matrix(title, keys, evidence, table) for title, keys in groups),
        controls=tuple(
            f"{controls_line(subject, evidence)} {calibration_line(subject, evidence)}".strip()
            for subject in evidence.subjects
        ),
    )


def subjects_used(evidence: Evidence) -> tuple[str, ...]:
    """The subjects that any method was measured on, in the order of every cell's marks."""
    return tuple(sorted({subject for subjects in evidence.methods.values() for subject in subjects}))


def _by_attribute(method: str, evidence: Evidence, table: pd.DataFrame) -> Row:
    mine = table[table["method"] == method]
    cells = []
    for attribute in JUDGED:
        finals = list(mine.loc[mine["attribute"] == attribute, "final"])
        marks = [f"{finals.count(key)} {MARKS[key]}" for key in SHOWN if key in finals] or [MARKS["untested"]]
        if conflicts(mine, evidence, method, attribute):
            marks.append(CONFLICT)
        cells.append(" ".join(marks))
    run = mine.loc[~mine["final"].isin(["skipped", "error"]), "metric"].nunique()
    return Row(method, _title(method, evidence), (*cells, f"{run} of {len(evidence.metrics)}"))


def _matrix(title: str, attributes: tuple[Attribute, ...], evidence: Evidence, table: pd.DataFrame) -> Matrix:
    used = subjects_used(evidence)
    known = [key for key, metric in evidence.metrics.items() if metric.attribute in attributes]
    run = set(table["metric"])
    columns = [key for key in known if key in run]
    marks = {(row.method, row.metric, row.subject): MARKS[str(row.final)] for row in rows(table)}
    lines = [
        Row(
            method,
            _title(method, evidence),
            tuple("".join(marks.get((method, key, subject), MARKS["untested"]) for subject in used) for key in columns),
        )
        for method in evidence.methods
    ]
    return Matrix(
        title=title,
        columns=tuple(evidence.metrics[key] for key in columns),
        rows=tuple(lines),
        untested=tuple(evidence.metrics[key] for key in known if key not in run),
    )


def _title(method: str, evidence: Evidence) -> str:
    return next(iter(evidence.methods[method].values())).catalogue.title


TRUTH = {
    "pass": "passes",
    "fail": "fails",
    "inconclusive": "is not decided on",
    "skipped": "is skipped in",
    "error": "stops in",
}


def controls_line(subject: str, evidence: Evidence) -> str:
    """What the controls did on a subject: no noise control may pass anything, the planted truth should."""
    records = [record for record in evidence.control_records if record.subject == subject]
    if not records:
        return f"{subject}: no controls measured."
    table = verdicts(records)
    table["kind"] = [evidence.controls[key].control if key in evidence.controls else "" for key in table["method"]]
    parts = [
        _noise(table[table["kind"] == "noise"]),
        _truth(table[table["kind"] == "truth"]),
        _priors(table[table["kind"] == "prior"], evidence),
    ]
    unknown = table.loc[table["kind"] == "", "method"].nunique()
    if unknown:
        parts.append(f"Of {plural(unknown, 'control')} the kind is not known.")
    return f"{subject}: {' '.join(part for part in parts if part)}"


def calibration_line(subject: str, evidence: Evidence) -> str:
    """How many of the evaluations that gave a verdict on a subject are calibrated there."""
    judged = {r.metric: r for r in evidence.records if r.subject == subject and r.verdict in SHOWN}
    said = calibrated(list(judged.values()), evidence)
    return f"Calibrated: {said}." if said else ""


def _noise(table: pd.DataFrame) -> str:
    if table.empty:
        return "no noise control measured."
    judged = table.loc[table["final"].isin(SHOWN), "metric"].nunique()
    count = f"{plural(table['method'].nunique(), 'noise control')} over {plural(judged, 'evaluation')}"
    passed = table[table["final"] == "pass"]
    if not table["final"].isin(["pass", "fail"]).any():
        return f"of {count}, none was decided, so they show nothing yet."
    if passed.empty:
        return f"none of {count} passed anything, as it must be."
    culprits = sorted({f"{row.method} passes {row.title}" for row in passed.itertuples()})
    return f"of {count}, {passed['method'].nunique()} passed something, which must not be: {listing(culprits)}."


def _priors(table: pd.DataFrame, evidence: Evidence) -> str:
    """What maps that know the data but not the model pass: there a pass is no sign that a method looks at the model."""
    passed = table[table["final"] == "pass"]
    if passed.empty:
        return ""
    parts = [
        f"{evidence.controls[str(key)].title.lower()} passes {listing(sorted(rows['title']))}"
        for key, rows in passed.groupby("method")
    ]
    return f"Of the controls that know the data but not the model, {'; '.join(parts)}."


def _truth(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    by_verdict = {str(verdict): sorted(rows["title"]) for verdict, rows in table.groupby("final")}
    parts = [f"{TRUTH[verdict]} {listing(by_verdict[verdict])}" for verdict in TRUTH if verdict in by_verdict]
    return f"The planted truth {'; '.join(parts)}. It knows nothing of the model, so it must fail what asks for model sensitivity."
