"""A CSV file that lists pictures: columns path, and if wanted label and mask."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cardgen.errors import CardgenError
from cardgen.subjects.samples import Listing, data_name, identifier

COLUMNS = ("path", "label", "mask")


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    mask: str


def list_manifest(file: Path) -> Listing:
    """The rows of a CSV file, whose first line names the columns; columns other than path, label and mask are passed over.

    Paths start at the CSV file's folder. Separators may be commas, semicolons or tabs, and backslashes stand for slashes. Ids are
    the paths. Classes are sorted. A row without a mask has none; either all rows have a label or none has.

    Raises:
        CardgenError: with the line's number: not text in UTF-8, no column path, too many cells, no path, the same path twice, a
            label that is missing.
    """
    file = file.resolve()
    rows = _rows(file)
    _check(file, rows)
    paths = [_relative(file, row.path) for row in rows]
    masks = [_relative(file, row.mask) if row.mask else "" for row in rows]
    labels = [identifier(row.label) for row in rows] if rows[0].label else None
    return Listing(
        data_name(file),
        tuple(map(identifier, paths)),
        lambda i: file.parent / paths[i],
        (lambda i: file.parent / masks[i] if masks[i] else None) if any(masks) else None,
        labels,
        tuple(sorted(set(labels or ()))),
    )


def _rows(file: Path) -> list[_Row]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise CardgenError(f"{file}: {reason}; expected a CSV file with a column path; mend or restore it") from None
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        places = _places(file, next(reader, []))
        return [_row(file, reader.line_num, cells, places) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise CardgenError(
            f"{file}: line {reader.line_num}: {error}; expected cells as spreadsheets write them; mend that line"
        ) from None


def _places(file: Path, header: Sequence[str]) -> dict[str, int]:
    """Position of each cell by column; of all cells for `len`."""
    names = [name.strip().lower() for name in header]
    if "path" not in names or any(names.count(name) > 1 for name in COLUMNS):
        raise CardgenError(
            f"{file}: line 1: columns {', '.join(header) or 'none'}; expected path once, and if wanted label and mask; name the columns "
            f"in the first line"
        )
    return {name: i for i, name in enumerate(names)}


def _row(file: Path, line: int, cells: Sequence[str], places: dict[str, int]) -> _Row:
    if len(cells) > max(places.values()) + 1 and any(cells[max(places.values()) + 1 :]):
        raise CardgenError(
            f"{file}: line {line}: {len(cells)} cells; expected {max(places.values()) + 1}; put quotes around cells that hold the separator"
        )
    path, label, mask = (
        cells[places[name]].strip() if places.get(name, len(cells)) < len(cells) else "" for name in COLUMNS
    )
    if not path:
        raise CardgenError(f"{file}: line {line}: no path; expected one in every row; add it or remove the row")
    return _Row(line, path, label, mask)


def _check(file: Path, rows: Sequence[_Row]) -> None:
    if not rows:
        raise CardgenError(f"{file}: no rows; expected one for each picture below the columns' names; add them")
    labelled = any(row.label for row in rows)
    seen: dict[str, int] = {}
    for row in rows:
        if labelled and not row.label:
            raise CardgenError(
                f"{file}: line {row.line}: no label; expected one in every row or in none; add it or remove the row"
            )
        path = _relative(file, row.path)
        if seen.setdefault(path, row.line) != row.line:
            raise CardgenError(
                f"{file}: line {row.line}: {identifier(path)} is on line {seen[path]} already; expected each picture once; "
                f"remove one of them"
            )


def _relative(file: Path, path: str) -> str:
    """The path from the CSV file's folder, so that ids do not hold where the data lies on this machine."""
    return os.path.relpath(os.path.join(file.parent, path.replace("\\", "/")), file.parent).replace(os.sep, "/")
