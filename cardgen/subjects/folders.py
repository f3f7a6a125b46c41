"""A folder of pictures: in class subfolders or flat, with masks or without."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cardgen.errors import CardgenError
from cardgen.subjects.samples import CONTAINERS, Listing, data_name, identifier, shortened

MASKS = "masks"
ENDINGS = frozenset(
    (".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm",
     ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)  # fmt: skip
_LITTER = frozenset(
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found")
)


def list_folder(folder: Path) -> Listing:
    """The pictures of a folder, told by their endings; nothing is opened.

    Subfolders are classes, and what lies deeper belongs to the same class. Without subfolders there are no labels. Masks have
    their picture's path and stem, with any ending, inside folders called `masks`: in the folder (`masks/cat/a.png`, or
    `masks/a.png` where stems are unique), in a class (`cat/masks/a.png`), or beside the folder (`masks/<its name>`,
    `<its name>_masks`, `masks`). Hidden files and those that systems leave behind are not there. Links are followed, and a folder
    that is reached twice counts once.

    Raises:
        CardgenError: a folder that cannot be read, no pictures, pictures beside class subfolders, subfolders that are splits, or
            masks that fit several samples.
    """
    folder = folder.resolve()
    found = sorted(_walk(folder))
    inside = {path: _without_masks(path) for path in found if _without_masks(path) != path}
    files = [path for path in found if path not in inside]
    pictures = [path for path in files if _is_picture(path)]
    if not pictures:
        raise CardgenError(_nothing(folder, files))
    classes = _classes(folder, pictures)
    place, masks = _masks(folder, inside)
    mask_of = _matched(pictures, masks, bool(classes))
    return Listing(
        data_name(folder),
        tuple(map(identifier, pictures)),
        lambda i: folder / pictures[i],
        (lambda i: place / mask_of[pictures[i]] if pictures[i] in mask_of else None) if mask_of else None,
        [identifier(_first(path)) for path in pictures] if classes else None,
        classes,
        tuple(_notes(files, len(pictures), masks, mask_of)),
    )


def _walk(folder: Path) -> Iterator[str]:
    """Paths of files, from the folder on, with `/` between; each folder is read once, links to folders last, in order of names."""
    waiting, links, seen = [""], list[str](), set()
    while waiting or links:
        start = waiting.pop() if waiting else links.pop(0)
        try:
            status = os.stat(folder / start)
            entries = sorted(os.scandir(folder / start), key=lambda entry: entry.name)
        except OSError as error:
            raise CardgenError(
                f"{identifier(str(folder / start))}: {error.strerror}; expected a folder that can be read; mend its permissions or "
                f"leave it out"
            ) from None
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _LITTER]
        folders = [entry for entry in shown if _is_folder(entry)]
        waiting += [f"{start}{entry.name}/" for entry in folders if not entry.is_symlink()]
        links += [f"{start}{entry.name}/" for entry in folders if entry.is_symlink()]
        yield from (f"{start}{entry.name}" for entry in shown if not _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: as a file it gets its reason when it is read
        return False


def _is_picture(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in ENDINGS


def _first(path: str) -> str:
    return path.partition("/")[0]


def _classes(folder: Path, pictures: Sequence[str]) -> tuple[str, ...]:
    """Names of the class subfolders, sorted as `ImageFolder` does; () where all pictures lie flat."""
    flat = [path for path in pictures if "/" not in path]
    names = sorted({_first(path) for path in pictures if "/" in path})
    if flat and names:
        raise CardgenError(
            f"{folder}: {len(flat)} pictures ({shortened([identifier(path) for path in flat], 2)}) beside subfolders with pictures "
            f"({shortened([identifier(name) for name in names], 2)}); expected class subfolders alone, or a flat folder without "
            f"labels; move one of them away, or list the pictures in a CSV file"
        )
    if names and {name.lower() for name in names} <= CONTAINERS:
        raise CardgenError(
            f"{folder}: its subfolders ({shortened(names)}) are parts of data, no classes; expected class subfolders; give one of "
            f"them: {folder / names[-1]}"
        )
    return tuple(map(identifier, names))


def _without_masks(path: str) -> str:
    """The path without its folders called `masks`."""
    *folders, file = path.split("/")
    return "/".join([*(name for name in folders if name.lower() != MASKS), file])


def _masks(folder: Path, inside: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """Where masks lie, and each one's path from there by the stem of its picture: inside the folder, else beside it."""
    if inside:
        return folder, _by_stem(inside.items())
    above = folder.parent
    for place in (above / MASKS / folder.name, above / f"{folder.name}_{MASKS}", above / MASKS):
        if place.is_dir() and place.resolve() != folder:
            return place, _by_stem((path, path) for path in sorted(_walk(place)))
    return folder, {}


def _by_stem(paths: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, meant in paths:
        stem = os.path.splitext(meant)[0]
        if _is_picture(path) and found.setdefault(stem, path) != path:
            raise CardgenError(
                f"masks {identifier(found[stem])} and {identifier(path)} fit the same picture; expected one mask a picture; remove "
                f"one of them"
            )
    return found


def _matched(pictures: Sequence[str], masks: Mapping[str, str], labelled: bool) -> dict[str, str]:
    """Each picture's mask: of the same path and stem, else, without the class subfolder, of the same rest."""
    found, taken = {}, dict[str, str]()
    for path in pictures if masks else ():
        stem = os.path.splitext(path)[0]
        rest = stem.partition("/")[2]
        if stem in masks:
            found[path] = masks[stem]
        elif labelled and rest in masks:
            if taken.setdefault(rest, stem) != stem:
                raise CardgenError(
                    f"mask {identifier(masks[rest])} fits {identifier(taken[rest])} and {identifier(stem)}; expected one picture a "
                    f"mask; put masks into class subfolders"
                )
            found[path] = masks[rest]
    return found


def _notes(files: Sequence[str], pictures: int, masks: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    if len(files) > pictures:
        yield f"files passed over, as their endings are no pictures': {len(files) - pictures} ({_endings(files)})"
    if masks and not found:
        yield f"none of the masks ({shortened([identifier(path) for path in masks.values()], 2)}) has the path and stem of a picture"


def _endings(files: Sequence[str]) -> str:
    counted = Counter(os.path.splitext(path)[1].lower() or "none" for path in files if not _is_picture(path))
    return shortened([identifier(ending) for ending, _ in counted.most_common()], 3)


def _nothing(folder: Path, files: Sequence[str]) -> str:
    found = f" but {len(files)} other files ({_endings(files)})" if files else ""
    return (
        f"{folder}: no pictures{found}; expected files ending in .png, .jpg, .tif or the like, in class subfolders or flat; convert "
        f"other formats first"
    )
