"""What a Hugging Face model card says of a model's explanations: its metadata and its section "Model Examination"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from cardgen.aggregator import rows, verdicts
from cardgen.card import subject_line
from cardgen.evidence import Evidence
from cardgen.overview import Row, make_overview
from cardgen.records import SubjectRecord
from cardgen.words import MARKS, listing, tally

TAGS = ("interpretability", "saliency-cards")
TASK = "image-classification"
NAMED = {"pass": "passes", "fail": "fails", "inconclusive": "stays open on"}


@dataclass(frozen=True)
class ModelCard:
    """The section's words, and the metadata to go above them; `model-index` as the Hub's own description of it asks."""

    metadata: dict[str, Any]
    measured_on: str
    attributes: tuple[str, ...]
    rows: tuple[Row, ...]
    conflict_legend: str
    lines: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


def make_model_card(evidence: Evidence, subject: str) -> ModelCard:
    """The section on one subject's model."""
    mine = _only(evidence, subject)
    table = verdicts(mine.records)
    overview = make_overview(mine, table)
    sources = {r.catalogue.title: r.catalogue.source.url for r in mine.records if r.verdict in MARKS}
    return ModelCard(
        metadata=metadata(mine, evidence.subjects[subject], table),
        measured_on=subject_line(evidence.subjects[subject]),
        attributes=overview.attributes,
        rows=overview.by_attribute,
        conflict_legend=overview.conflict_legend,
        lines=tuple(_line(method, mine, table) for method in mine.methods),
        sources=tuple(sorted(sources.items())),
    )


def metadata(evidence: Evidence, subject: SubjectRecord, table: pd.DataFrame) -> dict[str, Any]:
    """Tags and `model-index`: the model's accuracy where it is known, and every score of a method with its final verdict."""
    data = {"type": subject.data, "name": subject.data}
    results: list[dict[str, Any]] = []
    if subject.accuracy is not None:
        metric = {"type": "accuracy", "value": subject.accuracy, "name": "Accuracy"}
        results.append({"task": {"type": TASK}, "dataset": dict(data), "metrics": [metric]})
    scores = [
        {
            "type": record.metric,
            "value": record.estimate,
            "name": f"{record.catalogue.title} of {_title(record.method, evidence)}: {row.final}",
        }
        for record, row in zip(evidence.records, rows(table), strict=True)
        if record.estimate is not None
    ]
    if scores:
        results.append({"task": {"type": TASK, "name": "Saliency"}, "dataset": data, "metrics": scores})
    index = {"model-index": [{"name": subject.model, "results": results}]} if results else {}
    return {"tags": list(TAGS), **index}


def _only(evidence: Evidence, subject: str) -> Evidence:
    return replace(
        evidence,
        subjects={subject: evidence.subjects[subject]},
        methods={key: {subject: found[subject]} for key, found in evidence.methods.items() if subject in found},
        records=tuple(record for record in evidence.records if record.subject == subject),
        control_records=tuple(record for record in evidence.control_records if record.subject == subject),
    )


def _line(method: str, evidence: Evidence, table: pd.DataFrame) -> str:
    """A method's tally, and its evaluations by name."""
    mine = table[table["method"] == method]
    counted = mine["final"].value_counts()
    told = tally({str(key): int(count) for key, count in counted.items()}) or "nothing measured yet"
    named = [
        f"{words} {listing(mine.loc[mine['final'] == verdict, 'title'])}"
        for verdict, words in NAMED.items()
        if verdict in counted.index
    ]
    return f"{_title(method, evidence)} ({told}){' ' if named else ''}{'; '.join(named)}."


def _title(method: str, evidence: Evidence) -> str:
    return next(iter(evidence.methods[method].values())).catalogue.title
