"""History: one line for each verdict that moved, appended when a change is published. Records stay pure."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from pathlib import Path

from cardgen.errors import CardgenError
from cardgen.history import HISTORY, Moved, read_history
from cardgen.publisher.changes import Change
from cardgen.records import write_atomic

__all__ = ["HISTORY", "Moved", "append_history", "read_history"]


def append_history(folder: Path, changes: Iterable[Change], date: str) -> tuple[Path, ...]:
    """Add a line to `<subject>/<method>/history.jsonl` for each final verdict that moved; the files written.

    What was added or removed did not move. A line that is its metric's last one already is not written twice.

    Args:
        folder: the evaluations.
        changes: of the records against the base's.
        date: of the base's commit, ISO 8601, so that the same input writes the same bytes.

    Raises:
        CardgenError: the date is none, or a history that is there cannot be read or written.
    """
    day = _day(date)
    files: dict[tuple[str, str], list[Moved]] = {}
    for change in changes:
        if change.before and change.after and change.verdict_moved:
            line = Moved(
                date=day, metric=change.metric, old=change.final_before, new=change.final_after, parts=change.why
            )
            files.setdefault((change.subject, change.method), []).append(line)
    written = [_append(folder, subject, method, lines) for (subject, method), lines in sorted(files.items())]
    return tuple(path for path in written if path)


def _append(folder: Path, subject: str, method: str, lines: list[Moved]) -> Path | None:
    there = read_history(folder, subject, method)
    last = {line.metric: line for line in there}
    new = [line for line in lines if last.get(line.metric) != line]
    if not new:
        return None
    path = folder / subject / method / HISTORY
    write_atomic(path, "".join(f"{_text(line)}\n" for line in (*there, *new)))
    return path


def _text(line: Moved) -> str:
    return json.dumps(line.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))


def _day(date: str) -> dt.date:
    try:
        return dt.datetime.fromisoformat(date).date()
    except ValueError:
        raise CardgenError(
            f"date: got {date!r:.40}; expected the base commit's as ISO 8601, such as 2026-03-01; give that"
        ) from None
