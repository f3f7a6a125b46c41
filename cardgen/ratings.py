"""People's ratings of maps, from a CSV file: docs/ratings.md."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cardgen.digests import SHORT, digest
from cardgen.errors import CardgenError
from cardgen.registry import unknown
from cardgen.reliability import krippendorff

COLUMNS = ("method", "image", "rater", "rating")
LOWEST, HIGHEST = 1, 5
RATERS = 2
"""An image counts if so many raters rated all of its maps that are compared."""


@dataclass(frozen=True)
class Ratings:
    """Ratings by map, which is a method's (or a control's) on an image, and by rater."""

    by_map: Mapping[tuple[str, str], Mapping[str, float]]

    @cached_property
    def digest(self) -> str:
        """Of all ratings, whatever the order of rows."""
        return digest(sorted((*place, *row) for place, rows in self.by_map.items() for row in rows.items()))[:SHORT]

    @cached_property
    def methods(self) -> frozenset[str]:
        """Methods and controls with ratings."""
        return frozenset(method for method, _ in self.by_map)

    @cached_property
    def alpha(self) -> float:
        """Krippendorff's α of all maps' ratings, which are averaged and so taken as of interval level."""
        raters = {
            rater: i for i, rater in enumerate(sorted({rater for rows in self.by_map.values() for rater in rows}))
        }
        table = np.full((len(raters), len(self.by_map)), np.nan)
        for column, rows in enumerate(self.by_map.values()):
            for rater, rating in rows.items():
                table[raters[rater], column] = rating
        return krippendorff(table)

    def raters(self, method: str) -> int:
        """How many people rated maps of a method."""
        return len({rater for (other, _), rows in self.by_map.items() if other == method for rater in rows})

    def means(self, methods: Sequence[str], image: str) -> list[float] | None:
        """Mean ratings of the methods' maps of an image, over the raters who rated all of them; None where these are too few."""
        rows = [self.by_map.get((method, image), {}) for method in methods]
        raters = sorted(set(rows[0]).intersection(*rows[1:]))
        return [sum(row[rater] for rater in raters) / len(raters) for row in rows] if len(raters) >= RATERS else None


def read_ratings(file: Path, methods: Collection[str], images: Collection[str]) -> Ratings:
    """The ratings in a CSV file of the columns method, image, rater, rating, in any order.

    Args:
        file: to read.
        methods: keys of the methods and controls there are.
        images: ids of the samples.

    Raises:
        CardgenError: with the line's number: not text in UTF-8, other columns, an empty cell, a method or an image that there is
            none of, a rating that is no number from 1 to 5, the same rater, method and image twice.
    """
    by_map: dict[tuple[str, str], dict[str, float]] = {}
    lines: dict[tuple[str, str, str], int] = {}
    for line, cells in _rows(file):
        place = f"{file}: line {line}"
        method, image, rater, text = (cells[name] for name in COLUMNS)
        if method not in methods:
            raise CardgenError(f"{place}: {unknown('method', method, list(methods))}")
        if image not in images:
            raise CardgenError(
                f"{place}: no sample is called {image!r}; expected one of the {len(images)} samples of this run, such as "
                f"{next(iter(images))!r}; mend the id, or take more samples"
            )
        if lines.setdefault((method, image, rater), line) != line:
            raise CardgenError(
                f"{place}: {rater} rated {method} on {image} on line {lines[method, image, rater]} already; expected one rating of "
                f"each map by each rater; remove one"
            )
        by_map.setdefault((method, image), {})[rater] = _rating(place, text)
    if not by_map:
        raise CardgenError(f"{file}: no rows; expected one for each rating below the columns' names; add them")
    return Ratings(by_map)


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and cells by column; empty lines are passed over."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise CardgenError(f"{file}: {reason}; expected a CSV file of ratings; mend or restore it") from None
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if sorted(header) != sorted(COLUMNS):
            raise CardgenError(
                f"{file}: line 1: columns {', '.join(header) or 'none'}; expected {', '.join(COLUMNS)}; name them in the first line"
            )
        return [
            (reader.line_num, _cells(file, reader.line_num, header, row)) for row in reader if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise CardgenError(
            f"{file}: line {reader.line_num}: {error}; expected cells as spreadsheets write them; mend that line"
        ) from None


def _cells(file: Path, line: int, header: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    cells = [cell.strip() for cell in row]
    if len(cells) != len(header) or not all(cells):
        raise CardgenError(
            f"{file}: line {line}: {len(list(filter(None, cells)))} filled cells of {len(cells)}; expected {', '.join(header)}; "
            f"mend or remove the line"
        )
    return dict(zip(header, cells, strict=True))


def _rating(place: str, text: str) -> float:
    try:
        rating = float(text)
    except ValueError:
        rating = np.nan
    if not LOWEST <= rating <= HIGHEST:
        raise CardgenError(
            f"{place}: rating {text!r}; expected a number from {LOWEST} to {HIGHEST}; mend or remove the line"
        )
    return rating
