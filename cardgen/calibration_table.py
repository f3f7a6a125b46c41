"""How far verdicts can be trusted, in a table: what calibration found. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cardgen.records import Calibration, Share, calibration_paths, load
from cardgen.trust import worst
from cardgen.words import number

COLUMNS = (
    "evaluation",
    "noise passes at most",
    "other maps without information at most",
    "priors that pass",
    "truth passes",
    "same verdict, n = 50 · 100 · 200",
    "goals",
)


def lines(evaluations: Path, subject: str = "") -> Iterator[str]:
    """A Markdown table of the calibrations below an evaluations folder, of one subject or of all: one row a metric."""
    found = [load(Calibration, path) for path in calibration_paths(evaluations)]
    for slug in dict.fromkeys(record.subject for record in found):
        if subject in ("", slug):
            yield from _table(slug, [record for record in found if record.subject == slug])


def _table(subject: str, records: list[Calibration]) -> Iterator[str]:
    """The rows of a subject, those of one size together."""
    sizes = sorted({(record.images, record.n, record.repetitions) for record in records}, reverse=True)
    for size in sizes:
        images, n, repetitions = size
        yield (
            f"{subject}: {repetitions} repetitions of {n} images out of {images}; goals: nothing without information passes more than "
            "5 % of the time, the truth at least 90 %."
        )
        yield ""
        yield f"| {' | '.join(COLUMNS)} |"
        yield "| --- " * len(COLUMNS) + "|"
        for record in records:
            if (record.images, record.n, record.repetitions) == size:
                yield f"| {' | '.join(_cells(record))} |"
        yield ""


def _cells(record: Calibration) -> Iterator[str]:
    yield record.metric
    yield _worst(record.noise)
    yield _worst(record.held_out)
    yield ", ".join(f"{key} {_percent(share)}" for key, share in record.priors.items() if share.passes) or "–"
    yield _percent(record.truth) if record.truth else "–"
    yield " · ".join(
        number(round(record.agreement[m].estimate, 2)) if m in record.agreement else "–" for m in ("50", "100", "200")
    )
    alone = "" if record.truth or record.met is None else " (no positive control)"
    yield {True: "met", False: "missed", None: "not judged"}[record.met] + alone


def _worst(shares: Mapping[str, Share]) -> str:
    if not shares:
        return "–"
    key, share = worst(shares)
    return f"{_percent(share)} ({key})" if share.passes else _percent(share)


def _percent(share: Share) -> str:
    low, high = share.interval
    return f"{number(round(100 * share.estimate, 1))} % [{number(round(100 * low, 1))}, {number(round(100 * high, 1))}]"
