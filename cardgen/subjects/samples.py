"""What there is to choose from, whether it lies in a folder, in a CSV file's rows or in a data set of a hub."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cardgen.subjects.images import Source

CONTAINERS = frozenset(
    ("data", "images", "pictures", "train", "training", "val", "valid", "validation", "test", "testing", "manifest", "labels")
)  # fmt: skip
"""Names that say what part of some data lies there, not which data it is, nor a class."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Samples of which no picture has been opened yet.

    Attributes:
        name: of the data, fit for a folder name.
        ids: unique, and the same wherever the data lies.
        picture: where sample i's picture is.
        mask: where its mask is, None where it has none; None where no sample has one.
        labels: class of each sample, None where there are no labels.
        classes: all classes, in their order: sorted, or the data set's own.
        notes: sentences for the user.
    """

    name: str
    ids: Sequence[str]
    picture: Callable[[int], Source]
    mask: Callable[[int], Source | None] | None
    labels: Sequence[str] | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def identifier(text: str) -> str:
    """A file's name as text that can be printed and stored; names that are so already stay as they are.

    Others (line breaks, bytes that are no UTF-8) are escaped, with backslashes doubled, so different names stay different.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii")


def data_name(path: Path) -> str:
    """A short name from a file's or folder's, with the folder above where that alone says little ("mydata-val")."""
    above = f"{path.parent.name}-" if path.stem.lower() in CONTAINERS else ""
    return slug(above + (path.name if path.is_dir() else path.stem))


def slug(text: str) -> str:
    """Small letters, digits and hyphens, at most 40 of them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "data"


def shortened(names: Sequence[str], shown: int = 5) -> str:
    """The first few of some names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
