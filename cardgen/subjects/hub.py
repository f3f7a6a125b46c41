"""Data sets of the Hugging Face hub, or local copies of them, read as a stream."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from cardgen.errors import CardgenError
from cardgen.registry import unknown
from cardgen.subjects.encoded import Encoded, Place
from cardgen.subjects.extras import extra
from cardgen.subjects.samples import Listing, identifier, slug

ROWS = 5_000
"""Samples are drawn from the first rows of a stream, as many whatever the budget, so that fewer samples are a prefix of more."""
_SPLITS = ("validation", "val", "valid", "test", "train")
_PICTURES, _LABELS = ("image", "img"), ("label", "labels")
_MASKS = ("mask", "masks", "segmentation", "segmentation_mask")


@dataclass(frozen=True)
class _Columns:
    """Names of the columns, "" where there is none; names of the classes where the data set has them."""

    picture: str
    mask: str
    label: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    position: int
    picture: Place
    mask: Place | None
    label: str


def list_hub(spec: str, n: int, outputs: int) -> Listing:
    """The first 5 000 rows (2n, if that is more) of `hf:NAME`, `hf:NAME:SPLIT` or `hf:NAME:CONFIG:SPLIT`.

    NAME is a data set of the hub, or a local folder that `datasets` can load. Without SPLIT it is validation, else test, else train.
    The picture is the column of type Image, the mask one of that type called mask, the label a column called label, else the one
    of type ClassLabel. Rows without a label (None or −1) are left out, unless none has one. Ids are `split/row`.

    Args:
        n: samples that will be drawn.
        outputs: of the model; of several label columns the one with as many classes is taken.

    Raises:
        CardgenError: `datasets` is missing, no such data set, no network, no such split, or columns that cannot be told apart.
    """
    datasets = extra("datasets", "hf", "data sets called hf:…")
    name, config, split = _parts(spec)
    splits = _splits(datasets, spec, name, config)
    split = _chosen(spec, split, splits)
    columns = _columns(datasets, spec, splits[split].features, outputs)
    kept, limit = Encoded(), max(ROWS, 2 * n)
    rows = list(islice(_rows(datasets, spec, splits[split], columns, kept), limit + 1))
    listing = _listing(slug(f"{Path(name).name}-{config or ''}"), split, rows[:limit], columns, kept)
    notes = [f"of hf:{name} the split {split} was taken"] if len(splits) > 1 else []
    notes += [f"samples were drawn from the first {limit} rows of the stream"] if len(rows) > limit else []
    return replace(listing, notes=(*notes, *listing.notes))


def _parts(spec: str) -> tuple[str, str | None, str | None]:
    name, *rest = spec.removeprefix("hf:").split(":")
    if not name or len(rest) > 2 or not all(rest):
        raise CardgenError(f"data {spec}: expected hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT; mend the name")
    return name, rest[0] if len(rest) == 2 else None, rest[-1] if rest else None


def _splits(datasets: Any, spec: str, name: str, config: str | None) -> Mapping[str, Any]:
    folder = Path(name).expanduser()
    saved = any((folder / file).is_file() for file in ("dataset_info.json", "dataset_dict.json"))
    try:
        source = str(folder) if folder.exists() else name
        found = datasets.load_from_disk(source) if saved else datasets.load_dataset(source, config, streaming=True)
    except Exception as error:  # whatever networks, caches and builders raise
        raise _failed(spec, error) from None
    return found if isinstance(found, dict) else {str(found.split or "train"): found}


def _failed(spec: str, error: Exception) -> CardgenError:
    reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
    return CardgenError(
        f"data {spec} could not be loaded: {reason}; expected a data set of the Hugging Face hub or a local copy; without a network give "
        f"a folder of pictures (--data FOLDER) or a downloaded data set (hf:FOLDER)"
    )


def _chosen(spec: str, split: str | None, splits: Mapping[str, Any]) -> str:
    if split is None:
        return next((name for name in _SPLITS if name in splits), next(iter(splits)))
    if split not in splits:
        raise CardgenError(f"data {spec}: {unknown('split', split, list(splits))}")
    return split


def _columns(datasets: Any, spec: str, features: Mapping[str, Any] | None, outputs: int) -> _Columns:
    features = features or {}
    pictures = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    masks = [name for name in pictures if name.lower() in _MASKS]
    classes = {name: tuple(kind.names) for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    fitting = [name for name in classes if len(classes) == 1 or len(classes[name]) == outputs]
    labels = [name for name in features if name.lower() in _LABELS] or fitting
    picture = _only(spec, "pictures", [name for name in pictures if name not in masks], _PICTURES, features)
    if not labels and not classes:
        return _Columns(picture, masks[0] if masks else "", "", ())
    label = _only(spec, f"labels with the model's {outputs} classes", labels, _LABELS, features)
    return _Columns(picture, masks[0] if masks else "", label, classes.get(label, ()))


def _only(spec: str, what: str, names: Sequence[str], preferred: Sequence[str], features: Mapping[str, Any]) -> str:
    chosen = [name for name in names if name.lower() in preferred] or names
    if len(chosen) != 1:
        raise CardgenError(
            f"data {spec}: {len(chosen)} columns of {what} among {', '.join(features) or 'none'}; expected one, or one called "
            f"{preferred[0]}; rename columns, or save the pictures in a folder"
        )
    return chosen[0]


def _rows(datasets: Any, spec: str, rows: Any, columns: _Columns, kept: Encoded) -> Iterator[_Row]:
    """Rows without decoding them."""
    for column in filter(None, (columns.picture, columns.mask)):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    try:
        for position, row in enumerate(rows):
            mask = row[columns.mask] if columns.mask else None
            picture, label = row[columns.picture], row[columns.label] if columns.label else None
            yield _Row(
                position, kept.add(picture or {}), kept.add(mask) if mask else None, _label(spec, label, columns)
            )
    except CardgenError:
        raise
    except Exception as error:  # whatever networks and archives raise in the middle of a stream
        raise _failed(spec, error) from None


def _label(spec: str, value: object, columns: _Columns) -> str:
    """The class's name, "" where a row has no label."""
    if value is None or value == -1:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return columns.names[value] if columns.names else str(value)
    if isinstance(value, str):
        return identifier(value.strip())
    raise CardgenError(
        f"data {spec}: column {columns.label} holds {type(value).__name__}; expected one class a row, a name or a number; leave other "
        f"rows out"
    )


def _listing(name: str, split: str, rows: Sequence[_Row], columns: _Columns, kept: Encoded) -> Listing:
    labelled = [row for row in rows if row.label]
    used = labelled or rows
    left = f"rows left out, as they have no label: {len(rows) - len(used)}"
    return Listing(
        name,
        tuple(f"{split}/{row.position:06d}" for row in used),
        lambda i: kept.get(used[i].picture),
        (lambda i: None if (place := used[i].mask) is None else kept.get(place)) if columns.mask else None,
        [row.label for row in used] if labelled else None,
        (columns.names or tuple(sorted({row.label for row in labelled}))) if labelled else (),
        (left,) if len(used) < len(rows) else (),
    )
