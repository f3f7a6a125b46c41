"""What `cardgen agree` writes: a table for the terminal, Markdown, CSV or JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cardgen.agree import COMPARED, Agreement, Pair, Scope
from cardgen.errors import CardgenError
from cardgen.export import COUNT, NUMBER, TEXT, guarded
from cardgen.findings import sentence
from cardgen.literature import Paper, PublishedVerdict
from cardgen.published import published_sentence
from cardgen.templater import render_agreement
from cardgen.words import MARKS, estimate, listing

COLUMNS = {
    "subject": TEXT,
    "method": TEXT,
    "metric": TEXT,
    "title": TEXT,
    "attribute": TEXT,
    "measured": TEXT,
    "published": TEXT,
    "agree": "boolean",
    "estimate": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "n": COUNT,
    "reason": TEXT,
    "why": TEXT,
    "key": TEXT,
    "paper": TEXT,
    "source": TEXT,
    "further_sources": TEXT,
    "kind": TEXT,
    "evaluated_on": TEXT,
    "summary": TEXT,
}
"""One row a pair: `measured` is the final verdict, `why` it differs from the record's own; from `paper` on what was published."""
STATES = {
    "descriptive": "measured without a verdict",
    "skipped": "skipped",
    "error": "stopped with an error",
    "untested": "not measured",
}


@dataclass(frozen=True)
class Sided:
    """A disagreement in words: who says what, and where the published verdict stands."""

    method: str
    evaluation: str
    subject: str
    measured: str
    found: str
    published: str
    said: str
    papers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class View:
    """The whole in words."""

    about: str
    scopes: tuple[tuple[str, ...], ...]
    heads: tuple[str, ...]
    counts: tuple[tuple[str, ...], ...]
    covered: str
    disagreements: tuple[Sided, ...]


def write(found: Agreement, kind: str, width: int = 120) -> bytes:
    """An agreement in one of `FORMATS`; `width` is the terminal's.

    Raises:
        CardgenError: an unknown format.
    """
    if kind == "text":
        return _text(view(found), width)
    if kind not in FORMATS:
        raise CardgenError(f"format: got {kind!r}; expected one of text, {', '.join(FORMATS)}; choose one")
    return FORMATS[kind](found)


def view(found: Agreement) -> View:
    """The agreement in words, for people."""
    marks = tuple(f"{MARKS[mark]} {mark}" for mark in COMPARED)
    counts = [
        (f"{MARKS[mark]} {mark}", *(str(found.counts.get((mark, other), 0)) for other in COMPARED)) for mark in COMPARED
    ]
    rest = [f"{count} {STATES[state]}" for state, count in found.unpaired.items()]
    paired = found.published - sum(found.unpaired.values())
    return View(
        about=listing(found.subjects) if found.subjects else "no subject",
        scopes=tuple(_scope(scope) for scope in found.scopes),
        heads=("measured ↓, published →", *marks),
        counts=tuple(counts),
        covered=f"Published verdicts: {found.published}; with a measured one beside them: {paired}"
        f"{f' (the others: {listing(rest)})' if rest else ''}.",
        disagreements=tuple(_sided(pair, found) for pair in found.disagreements),
    )


def _scope(scope: Scope) -> tuple[str, ...]:
    told = scope.kappa
    share = f"{told.same} of {told.n} ({100 * told.same / told.n:.0f} %)" if told.n else "0 of 0"
    value = "none" if told.value is None else estimate(told.value, told.interval)
    return (scope.subject or "all", scope.compared, share, f"{value}; {told.note}" if told.note else value)


def _sided(pair: Pair, found: Agreement) -> Sided:
    evidence, record = found.evidence, pair.record
    return Sided(
        method=evidence.methods[record.method][record.subject].catalogue.title,
        evaluation=record.catalogue.title,
        subject=record.subject,
        measured=f"{MARKS[pair.measured]} {pair.measured}",
        found=sentence(record, pair.measured, pair.why, evidence),
        published=f"{MARKS[pair.published]} {pair.published}",
        said=" ".join(published_sentence(verdict, evidence.names) for verdict in pair.sources),
        papers=tuple((citation(evidence.papers.get(url), url), url) for url in _urls(pair.sources)),
    )


def _urls(sources: tuple[PublishedVerdict, ...]) -> list[str]:
    return list(dict.fromkeys(url for verdict in sources for url in (verdict.source, *verdict.further_sources)))


def citation(paper: Paper | None, url: str) -> str:
    """Petsiuk et al. 2018; the address where the paper is not listed."""
    if paper is None or not paper.authors:
        return url
    last = [name.split()[-1] for name in paper.authors]
    return f"{last[0] if len(last) == 1 else listing(last) if len(last) == 2 else f'{last[0]} et al.'} {paper.year}"


def _text(shown: View, width: int) -> bytes:
    """Tables of rich's, word for word: brackets in what was found are no markup."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    first = Table("subject", "verdicts compared", "agree", "Cohen's κ", title="Measured against published verdicts")
    second = Table(*shown.heads)
    third = Table(title="Where they disagree", show_lines=True)
    for side in ("measured", "published"):
        third.add_column(side, overflow="fold", ratio=1)
    for cells in shown.scopes:
        first.add_row(*map(Text, cells))
    for cells in shown.counts:
        second.add_row(*map(Text, cells))
    for one in shown.disagreements:
        papers = "; ".join(f"{name}, {url}" if name != url else url for name, url in one.papers)
        third.add_row(
            Text(f"{one.method}: {one.evaluation}\n{one.measured}: {one.found}"),
            Text(f"{one.published}: {one.said} {papers}"),
        )
    for part in (first, second, Text(shown.covered), *([third] if shown.disagreements else [])):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines()).encode()


def _markdown(found: Agreement) -> bytes:
    return render_agreement(view(found)).encode()


def entries(found: Agreement) -> Iterator[dict[str, Any]]:
    """All pairs, those that agree as well, as rows of `COLUMNS`."""
    for pair in found.pairs:
        record, sources, urls = pair.record, pair.sources, _urls(pair.sources)
        low, high = record.interval or (None, None)
        on = [name for verdict in sources for name in (*verdict.evaluated_on.data, *verdict.evaluated_on.models)]
        yield {
            "subject": record.subject,
            "method": record.method,
            "metric": record.metric,
            "title": record.catalogue.title,
            "attribute": record.catalogue.attribute,
            "measured": pair.measured,
            "published": pair.published,
            "agree": pair.agree,
            "estimate": record.estimate,
            "low": low,
            "high": high,
            "n": record.n,
            "reason": record.reason,
            "why": pair.why,
            "key": record.key,
            "paper": "; ".join(citation(found.evidence.papers.get(url), url) for url in urls),
            "source": urls[0],
            "further_sources": " ".join(urls[1:]),
            "kind": ", ".join(dict.fromkeys(verdict.kind for verdict in sources)),
            "evaluated_on": ", ".join(dict.fromkeys(on)),
            "summary": " ".join(verdict.summary for verdict in sources),
        }


def _csv(found: Agreement) -> bytes:
    return guarded(pd.DataFrame(list(entries(found)), columns=list(COLUMNS)).astype(COLUMNS), COLUMNS)


def _json(found: Agreement) -> bytes:
    told = {
        "subjects": list(found.subjects),
        "agreement": [_told(scope) for scope in found.scopes],
        "published": found.published,
        "unpaired": found.unpaired,
        "pairs": list(entries(found)),
    }
    return f"{json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()


def _told(scope: Scope) -> dict[str, Any]:
    told = scope.kappa
    low, high = told.interval or (None, None)
    head = {"subject": scope.subject or "all", "compared": scope.compared, "pairs": told.n, "agree": told.same}
    return {**head, "kappa": told.value, "low": low, "high": high, "note": told.note}


FORMATS: dict[str, Callable[[Agreement], bytes]] = {"markdown": _markdown, "csv": _csv, "json": _json}
