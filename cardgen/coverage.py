"""What `cardgen coverage` prints: which evaluations have no verdict yet. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from cardgen.errors import CardgenError
from cardgen.evidence import load_all, load_catalogue
from cardgen.records import Record
from cardgen.words import listing, plural


def coverage_lines(evaluations: Path) -> Iterator[str]:
    """For each subject and method what is untested, failed or skipped; for each subject the share that is measured.

    Raises:
        CardgenError: no such folder, or a file in it that is no record.
    """
    if not evaluations.is_dir():
        raise CardgenError(
            f"{evaluations}: no such folder; expected one of records; run `cardgen run` first, or name it with --evaluations"
        )
    evidence, catalogue = load_all(evaluations), load_catalogue()
    methods = [key for key, entry in catalogue.methods.items() if not entry.control]
    untested = 0
    for subject in evidence.subjects:
        known = [
            *methods,
            *(key for key in evidence.methods if key not in methods and subject in evidence.methods[key]),
        ]
        measured = 0
        yield f"{subject}:"
        for method in known:
            records = {r.metric: r for r in evidence.records if (r.subject, r.method) == (subject, method)}
            missing = [key for key in catalogue.metrics if key not in records or records[key].verdict == "error"]
            measured += len(catalogue.metrics) - len(missing)
            untested += len(missing)
            yield f"  {method}: {_what(missing, len(catalogue.metrics))}"
            yield from _skipped(list(records.values()))
        cells = len(known) * len(catalogue.metrics)
        yield f"  {measured} of {plural(cells, 'evaluation')} done ({measured / max(cells, 1):.0%})."
    if not evidence.subjects:
        yield f"{evaluations} holds no subject; `cardgen run` makes one."
    elif untested:
        yield f"`cardgen run --missing --methods all`, with the model and data of a subject, measures the {untested} untested."


def _what(missing: list[str], known: int) -> str:
    if not missing:
        return "all tested"
    return "nothing tested" if len(missing) == known else f"untested: {listing(missing)}"


def _skipped(records: list[Record]) -> Iterator[str]:
    skipped = sorted((r.reason, r.metric) for r in records if r.verdict == "skipped")
    for reason, group in groupby(skipped, key=lambda pair: pair[0]):
        yield f"    skipped: {reason}: {listing([metric for _, metric in group])}"
