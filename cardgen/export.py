"""Verdicts for others' tools: one table in three formats, and the section of a Hugging Face model card."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cardgen.aggregator import rows, verdicts
from cardgen.errors import CardgenError
from cardgen.evidence import Evidence, load_all
from cardgen.model_card import make_model_card
from cardgen.paths import shipped
from cardgen.records import Record
from cardgen.stale import stale
from cardgen.templater import render_model_card

TEXT, NUMBER, COUNT = "string", "Float64", "Int64"
COLUMNS = {
    "subject": TEXT,
    "model": TEXT,
    "data": TEXT,
    "method": TEXT,
    "metric": TEXT,
    "title": TEXT,
    "attribute": TEXT,
    "verdict": TEXT,
    "own_verdict": TEXT,
    "why": TEXT,
    "reason": TEXT,
    "advice": TEXT,
    "estimate": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "quantity": TEXT,
    "unit": TEXT,
    "direction": TEXT,
    "effect": NUMBER,
    "p": NUMBER,
    "n": COUNT,
    "flat": COUNT,
    "budget": TEXT,
    "rule": TEXT,
    "method_version": COUNT,
    "metric_version": COUNT,
    "stale": TEXT,
    "source": TEXT,
    "key": TEXT,
}
"""The table's columns: `verdict` is the final one and `why` it differs from the record's own; `low` to `high` is the 95 % interval."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(evaluations: Path, kind: str, subject: str | None = None) -> bytes:
    """All records of an evaluations folder, controls left out, in one of `FORMATS`.

    Args:
        evaluations: the records.
        kind: hf, csv, parquet or json.
        subject: this one alone; `hf`, which speaks of one model, needs it where there are several.

    Raises:
        CardgenError: unknown names, malformed records, or no pyarrow for parquet.
    """
    if kind not in FORMATS:
        raise CardgenError(f"format: got {kind!r}; expected one of {', '.join(FORMATS)}; choose one")
    evidence = load_all(evaluations)
    if subject is not None and subject not in evidence.subjects:
        raise CardgenError(f"subject: got {subject!r}; expected one of {', '.join(evidence.subjects)}; choose one")
    return FORMATS[kind](evidence, subject)


def entries(evidence: Evidence, subject: str | None = None) -> Iterator[dict[str, Any]]:
    """The table's rows, one a record; None where there is no number."""
    finals = rows(verdicts(evidence.records))
    for record, row in zip(evidence.records, finals, strict=True):
        if subject in (None, record.subject):
            yield _entry(record, str(row.final), str(row.why), evidence)


def _entry(record: Record, final: str, why: str, evidence: Evidence) -> dict[str, Any]:
    asked, about = record.catalogue, evidence.subjects[record.subject]
    low, high = record.interval or (None, None)
    special = {
        "model": about.model,
        "data": about.data,
        "verdict": final,
        "own_verdict": record.verdict,
        "why": why,
        "low": low,
        "high": high,
        "rule": record.rule.name,
        "method_version": record.versions.get("method"),
        "metric_version": record.versions.get("metric"),
        "stale": stale(record, evidence.catalogue, about),
        "source": asked.source.url,
    }
    own = {**{name: getattr(asked, name) for name in type(asked).model_fields}, **dict(record)}
    return {name: special[name] if name in special else own[name] for name in COLUMNS}


def _frame(evidence: Evidence, subject: str | None) -> pd.DataFrame:
    return pd.DataFrame(list(entries(evidence, subject)), columns=list(COLUMNS)).astype(COLUMNS)


def _json(evidence: Evidence, subject: str | None) -> bytes:
    text = json.dumps(list(entries(evidence, subject)), indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _csv(evidence: Evidence, subject: str | None) -> bytes:
    return guarded(_frame(evidence, subject), COLUMNS)


def guarded(table: pd.DataFrame, kinds: Mapping[str, str]) -> bytes:
    """CSV; text that a spreadsheet would take for a formula gets an apostrophe before it, as spreadsheets themselves write it."""
    for name in (name for name, kind in kinds.items() if kind == TEXT):
        table[name] = [f"'{text}" if text.startswith(FORMULA) else text for text in table[name]]
    return table.to_csv(index=False, lineterminator="\n").encode()


def _parquet(evidence: Evidence, subject: str | None) -> bytes:
    buffer = io.BytesIO()
    try:
        _frame(evidence, subject).to_parquet(buffer, index=False)
    except ImportError:
        raise CardgenError(
            "parquet needs pyarrow, which is not installed; expected it beside cardgen; run `pip install pyarrow`, "
            "or choose csv or json"
        ) from None
    return buffer.getvalue()


def _hf(evidence: Evidence, subject: str | None) -> bytes:
    if subject is None and len(evidence.subjects) != 1:
        raise CardgenError(
            f"hf speaks of one model, and there are {len(evidence.subjects)} subjects; expected one of "
            f"{', '.join(evidence.subjects) or 'none, since nothing is measured'}; choose it with --subject"
        )
    card = make_model_card(evidence, subject or next(iter(evidence.subjects)))
    return render_model_card(card, shipped("templates")).encode()


FORMATS: dict[str, Callable[[Evidence, str | None], bytes]] = {
    "hf": _hf,
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
