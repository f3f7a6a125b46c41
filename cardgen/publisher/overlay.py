"""What would be committed: the base's records and cards with a run's records laid over, history appended, cards rebuilt.

All of it happens in a temporary folder, from the bytes of the base commit and of the run.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cardgen.build import README, build
from cardgen.errors import CardgenError
from cardgen.evidence import LITERATURE, METHOD, SLUG, SUBJECT, load_all
from cardgen.publisher.changes import Change, changes, hold_back
from cardgen.publisher.history import append_history
from cardgen.publisher.lay import PICTURE, kind_of, lay
from cardgen.records import CALIBRATION, CONTROLS, Record, dumps, load, record_paths
from cardgen.regions import DIGEST, edited, parse

EVALUATIONS, CARDS = "evaluations", "cards"
PREFIXES = (EVALUATIONS, CARDS)
MASS = 0.2
NAME = SLUG.pattern
PUBLISHED = re.compile(
    rf"(?!(?:{LITERATURE})/){NAME}/(?:{re.escape(SUBJECT)}|(?:{CONTROLS}/)?{NAME}/(?:{NAME}\.json|{re.escape(PICTURE)}))"
)
OWN = re.compile(rf"{README}|example(?:-{NAME})?\.png")


@dataclass(frozen=True)
class Overlay:
    """What differs from the base.

    `files` maps paths to their new bytes, None where a file goes. `digest` is that of what they say: of new records without
    what varies between runs, and of the base's cards rebuilt; neither another machine nor a base that moves changes it.
    `skipped` cards were edited by hand outside kept regions; `removed` ones have no records any more, of `cards` in the base.
    """

    files: dict[str, bytes | None] = field(default_factory=dict)
    digest: str = ""
    changes: tuple[Change, ...] = ()
    skipped: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    cards: int = 0

    def refuse_mass_deletion(self) -> None:
        """More than a fifth of the cards at once is more likely a mistake than a wish."""
        if len(self.removed) > MASS * self.cards:
            raise CardgenError(
                f"{len(self.removed)} of {self.cards} cards would be deleted ({', '.join(self.removed)}); expected at most "
                f"{MASS:.0%} of them at once; bring their records back, or give --allow-mass-delete"
            )


def measured(evaluations: Path) -> dict[str, bytes]:
    """Path → bytes of every file of a run that may be published, in canonical form; other files are left out.

    Raises:
        CardgenError: a record is malformed, in the wrong place, or tells of an error; or something is a symbolic link.
    """
    paths = list(_plain(evaluations))
    load_all(evaluations)
    found = {}
    for path in paths:
        name = path.relative_to(evaluations).as_posix()
        if PUBLISHED.fullmatch(name):
            found[name] = path.read_bytes() if path.name == PICTURE else _canonical(path)
    return found


def hold(
    base: Mapping[str, bytes], new: Mapping[str, bytes], pending: Mapping[str, Any]
) -> tuple[set[str], dict[str, Any]]:
    """Paths of records whose verdict flipped though nothing it rests on moved, to be left out; and what is pending now."""
    with _opened(base) as folder:
        before = _records(folder / EVALUATIONS)
        lay(folder / EVALUATIONS, new)
        held, now = hold_back(changes(before, _records(folder / EVALUATIONS)), pending)
    return {f"{change.place}.json" for change in held}, dict(now)


def overlay(
    base: Mapping[str, bytes], new: Mapping[str, bytes], date: str, *, only: str = "", templates: Path | None = None
) -> Overlay:
    """Lay a run over the base.

    Args:
        base: path → bytes of the base commit's evaluations and cards.
        new: what `measured` found, less what is held back.
        date: of the base commit, for the history.
        only: the method whose card is rebuilt, for a pull request of its own; every card by default.

    Raises:
        CardgenError: records or cards of the base, or both together, are not in order.
    """
    with _opened(base) as folder:
        evaluations, cards = folder / EVALUATIONS, folder / CARDS
        first = build(evaluations, cards, templates=templates)
        measured_now = {path.split("/")[1] for path in new}
        removed, stuck = _remove_obsolete(cards, [name for name in first.obsolete if name not in measured_now], only)
        rebuilt = _differences(base, folder, only)
        before = _records(evaluations)
        news = lay(evaluations, new)
        moved = tuple(changes(before, _records(evaluations)))
        append_history(evaluations, moved, date)
        report = build(evaluations, cards, templates=templates)
        return Overlay(
            files=_differences(base, folder, only),
            digest=_digest(rebuilt, news, moved),
            changes=moved,
            skipped=tuple(name for name in (*report.edited, *stuck) if _belongs(f"{CARDS}/{name}", only)),
            removed=removed,
            unfinished=report.unfinished,
            cards=sum(bool(re.fullmatch(rf"{CARDS}/[^/]+/{README}", path)) for path in base),
        )


def of_method(new: Mapping[str, bytes], method: str) -> dict[str, bytes]:
    """What a run says of one method, with its subjects, their controls and calibrations."""
    subjects = {path.split("/")[0] for path in new if path.split("/")[1] == method}
    mine = (method, SUBJECT, CONTROLS, CALIBRATION)
    return {path: data for path, data in new.items() if path.split("/")[0] in subjects and path.split("/")[1] in mine}


def methods_in(files: Mapping[str, bytes | None]) -> list[str]:
    """The methods whose records or cards are among changed files."""
    found = set()
    for path in files:
        parts = path.split("/")
        if parts[0] == CARDS and len(parts) == 3:
            found.add(parts[1])
        if parts[0] == EVALUATIONS and len(parts) == 4 and parts[2] not in (CONTROLS, CALIBRATION):
            found.add(parts[2])
    return sorted(found)


def _plain(evaluations: Path) -> Iterator[Path]:
    """Every file that is neither hidden nor literature; symbolic links are refused before anything is read."""
    if evaluations.is_symlink():
        raise _link(evaluations)
    for place, folders, names in os.walk(evaluations):
        top = Path(place) == evaluations
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (top and name == LITERATURE))
        for path in (Path(place) / name for name in [*folders, *sorted(names)] if not name.startswith(".")):
            if path.is_symlink():
                raise _link(path)
            if path.is_file():
                yield path


def _link(path: Path) -> CardgenError:
    return CardgenError(
        f"{path}: a symbolic link; expected plain files and folders of records; put the file itself there"
    )


def _canonical(path: Path) -> bytes:
    record = load(kind_of(path.as_posix()), path)
    if isinstance(record, Record) and record.verdict == "error":
        raise CardgenError(
            f"{path}: the evaluation stopped with an error ({record.reason:.200}); expected records without errors to "
            f"publish; mend what it says and run `cardgen run` again, or leave its metric out"
        )
    return dumps(record).encode()


def _records(evaluations: Path) -> list[Record]:
    """The records that cards speak of: no control's, and none of a method without a method.json."""
    paths = [path for path in record_paths(evaluations) if path.parent.parent.parent == evaluations]
    return [load(Record, path) for path in paths if (path.parent / METHOD).is_file()]


@contextmanager
def _opened(base: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder that holds the base; errors speak of places in the repository."""
    with tempfile.TemporaryDirectory(prefix="cardgen-") as name:
        folder = Path(name)
        (folder / EVALUATIONS).mkdir()
        try:
            for path, data in base.items():
                _write(folder / path, data)
            yield folder
        except CardgenError as error:
            raise CardgenError(str(error).replace(f"{folder}/", "")) from None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _remove_obsolete(cards: Path, methods: list[str], only: str) -> tuple[tuple[str, ...], list[str]]:
    """Delete cards whose method has no records any more, but for those that hold what somebody wrote.

    Returns:
        Names of methods deleted, and of cards left. A file that people put there, without a digest, is no card.
    """
    removed, left = [], []
    for method in methods:
        path, name = cards / method / README, f"{method}/{README}"
        text = path.read_text(errors="replace")
        if only not in ("", method) or not DIGEST.search(text):
            continue
        if edited(text, name) or any(line.strip() for lines in parse(text, name).inside.values() for line in lines):
            left.append(name)
            continue
        removed.append(method)
        for file in path.parent.iterdir():
            if OWN.fullmatch(file.name):
                file.unlink()
    return tuple(removed), left


def _differences(base: Mapping[str, bytes], folder: Path, only: str) -> dict[str, bytes | None]:
    files = [path for prefix in PREFIXES for path in sorted((folder / prefix).rglob("*")) if path.is_file()]
    now = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    changed: dict[str, bytes | None] = {path: data for path, data in now.items() if base.get(path) != data}
    changed |= {path: None for path in base if path not in now}
    return {path: changed[path] for path in sorted(changed) if _belongs(path, only)}


def _belongs(path: str, only: str) -> bool:
    """Whether a file goes into the pull request of one method; the overview goes into every one."""
    parts = path.split("/")
    return not only or parts[0] == EVALUATIONS or len(parts) == 2 or parts[1] == only


def _digest(rebuilt: Mapping[str, bytes | None], news: Mapping[str, str], moved: Iterable[Change]) -> str:
    lines = [f"{path} {'-' if data is None else hashlib.sha256(data).hexdigest()}" for path, data in rebuilt.items()]
    lines += [f"{path} {said}" for path, said in sorted(news.items())]
    lines += [f"{change.place} {change.final_after}" for change in moved if change.verdict_moved]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
