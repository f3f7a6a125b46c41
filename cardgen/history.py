"""A method's past verdicts, as they stand beside its records: when, which, and what had moved in the key."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from cardgen.errors import CardgenError
from cardgen.records import Model

HISTORY = "history.jsonl"


class Moved(Model):
    """One final verdict that moved: `parts` are the words of `cardgen.publisher.changes` for what moved in the key."""

    date: date
    metric: str
    old: str
    new: str
    parts: tuple[str, ...] = ()


def read_history(folder: Path, subject: str, method: str) -> tuple[Moved, ...]:
    """The lines of `<subject>/<method>/history.jsonl`, oldest first; none where there is no file.

    Args:
        folder: the evaluations.
        subject: its slug.
        method: its key.

    Raises:
        CardgenError: a line is no valid entry; the message names the file, the line and the field.
    """
    path = folder / subject / method / HISTORY
    if not path.is_file():
        return ()
    return tuple(_moved(line, path, at) for at, line in enumerate(_lines(path), start=1))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CardgenError(f"{path}: {error}; expected a readable file in UTF-8; restore it from git") from None


def _moved(line: str, path: Path, at: int) -> Moved:
    try:
        return Moved.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole line"
        problem = f"{field}: {first['msg']}"
    except ValueError as error:
        problem = f"not JSON: {error}"
    raise CardgenError(
        f"{path}: line {at}: {problem}; expected date, metric, old, new and parts; restore the file from git"
    )
