"""The user's own data: chosen samples, read into one array, as the model sees them."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from cardgen.errors import CardgenError
from cardgen.subjects.class_names import match_classes
from cardgen.subjects.folders import list_folder
from cardgen.subjects.hub import list_hub
from cardgen.subjects.images import read_image, read_mask
from cardgen.subjects.manifests import list_manifest
from cardgen.subjects.preprocess import Preprocess
from cardgen.subjects.samples import Listing, shortened
from cardgen.subjects.sampling import stratified

IN_MEMORY = 10**9
"""Arrays of more bytes lie in a temporary file that is mapped into memory."""
FEWEST = 2
FAILURES = 3
SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Data:
    """Samples that were read, in the order drawn: fewer of them are a prefix of more.

    Attributes:
        images: after the preprocessing's resize and crop.
        labels: outputs of the model; None where the data has no labels.
        masks: true on the object; None where no sample has a mask. A sample without one has an empty one.
        ids: unique, and the same wherever the data lies; random draws are seeded by them.
        name: short, fit for a folder name.
        classes: names by output, () where they are not known.
        notes: sentences for the user: what could not be read, how classes were matched, which masks are missing.
        ruled: whether the masks are proven to be the pixels that drive the model, all of them and no others.
    """

    images: UInt8[np.ndarray, "n c h w"]
    labels: Int[np.ndarray, " n"] | None
    masks: Bool[np.ndarray, "n h w"] | None
    ids: tuple[str, ...]
    name: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    ruled: bool = False


def load_data(
    spec: str,
    *,
    preprocess: Preprocess,
    outputs: int,
    classes: tuple[str, ...],
    class_file: Path | None,
    n: int,
    seed: int,
) -> Data:
    """Draw n samples, stratified over their labels, and read them; only pictures drawn are opened.

    In place of a picture that cannot be read comes the next in the order drawn.

    Args:
        spec: a folder, a CSV file, or `hf:NAME[:SPLIT]`.
        preprocess: from pictures to what the model sees.
        outputs: how many the model has.
        classes: the model's class names by output, or ().
        class_file: says which class of the data is which output.
        n: samples asked for; all are taken where there are fewer.
        seed: of the draw.

    Raises:
        CardgenError: no such data, none of a known form, classes that fit no output, more than a tenth of the pictures tried (and
            more than 3) that cannot be read, or fewer than two that can.
    """
    listing = _listing(spec, n, outputs)
    matching = match_classes(listing.classes, outputs=outputs, classes=classes, class_file=class_file)
    labels = None if listing.labels is None else [matching.outputs[name] for name in listing.labels]
    read = _read(listing, stratified(labels, listing.ids, seed), min(n, len(listing.ids)), preprocess)
    masks = read.masks if read.masked else None
    asked = (
        f"{n} samples were asked for; there are {len(listing.ids)}, and all were taken" if n > len(listing.ids) else ""
    )
    notes = [*listing.notes, matching.note, asked, _unread(read), *_on_masks(masks, read.masked)]
    return Data(
        read.images,
        None if labels is None else np.array([labels[i] for i in read.taken], dtype=np.int64),
        masks,
        tuple(listing.ids[i] for i in read.taken),
        listing.name,
        matching.classes,
        tuple(filter(None, notes)),
    )


def _listing(spec: str, n: int, outputs: int) -> Listing:
    if spec.startswith("hf:"):
        return list_hub(spec, n, outputs)
    path = Path(spec).expanduser()
    if path.is_dir():
        return list_folder(path)
    if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        return list_manifest(path)
    found = "a file, but no CSV" if path.is_file() else "no such folder or file"
    raise CardgenError(
        f"data {spec}: {found}; expected a folder of pictures, a CSV file with a column path, or hf:NAME; mend the path, and unpack "
        f"archives first"
    )


@dataclass(frozen=True, eq=False)
class _Read:
    """Rows read: positions in the listing, those that have a mask, and the reason of each picture that could not be read."""

    images: UInt8[np.ndarray, "n c h w"]
    masks: Bool[np.ndarray, "n h w"] | None
    taken: Sequence[int]
    masked: Sequence[int]
    failures: Mapping[str, str]


def _read(listing: Listing, order: Sequence[int], wanted: int, preprocess: Preprocess) -> _Read:
    images = room((wanted, preprocess.channels, *preprocess.crop), np.dtype(np.uint8))
    masks = room((wanted, *preprocess.crop), np.dtype(np.bool_)) if listing.mask else None
    taken: list[int] = []
    masked: list[int] = []
    failures: dict[str, str] = {}
    for i in order:
        if len(taken) == wanted:
            break
        try:
            image, mask = _sample(listing, i, preprocess)
        except CardgenError as error:
            failures[listing.ids[i]] = error.what
            _check(failures, min(wanted + len(failures), len(order)))
            continue
        row = len(taken)
        images[row] = image
        if masks is not None and mask is not None:
            masks[row] = mask
            masked.append(row)
        taken.append(i)
    if len(taken) < FEWEST:
        raise CardgenError(
            f"only {len(taken)} of the pictures could be read{_reasons(failures, ', not ')}; expected at least {FEWEST}; "
            f"add or mend pictures"
        )
    rows = slice(len(taken))
    return _Read(images[rows], None if masks is None else masks[rows], taken, masked, failures)


def _sample(
    listing: Listing, i: int, preprocess: Preprocess
) -> tuple[UInt8[np.ndarray, "c h w"], Bool[np.ndarray, "h w"] | None]:
    picture = read_image(listing.picture(i))
    source = listing.mask(i) if listing.mask else None
    mask = None if source is None else preprocess.mask(read_mask(source, picture.size))
    return preprocess.image(picture), mask


def room(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Shaped[np.ndarray, "..."]:
    """An array of zeros, in memory or, if it is large, in a temporary file that is gone when the array is."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < size:
        raise CardgenError(
            f"{shape[0]} samples need {size / 1e9:.1f} GB in {folder}, which has less; ask for fewer (--n), or set TMPDIR to a larger disk"
        )
    with tempfile.TemporaryFile(prefix="cardgen-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _check(failures: Mapping[str, str], tried: int) -> None:
    """Stop when more failed than may of all that will have been tried in the end."""
    allowed = max(FAILURES, int(SHARE * tried))
    if len(failures) > allowed:
        raise CardgenError(
            f"{len(failures)} pictures could not be read{_reasons(failures, ': ')}; expected at most {allowed} of {tried}; mend or "
            f"remove them"
        )


def _reasons(failures: Mapping[str, str], before: str) -> str:
    return before + shortened([f"{name} ({reason})" for name, reason in failures.items()]) if failures else ""


def _unread(read: _Read) -> str:
    tried = len(read.taken) + len(read.failures)
    return (
        f"{len(read.failures)} of {tried} pictures could not be read{_reasons(read.failures, ': ')}"
        if read.failures
        else ""
    )


def _on_masks(masks: Bool[np.ndarray, "n h w"] | None, masked: Sequence[int]) -> Iterator[str]:
    if masks is None:
        return
    if len(masked) < len(masks):
        yield f"samples with a mask: {len(masked)} of {len(masks)}"
    shares = [float(masks[row].mean()) for row in masked]
    if empty := shares.count(0.0):
        yield f"masks that are empty where the model looks: {empty}"
    if full := shares.count(1.0):
        yield f"masks that cover all that the model sees: {full}"
