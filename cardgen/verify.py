"""What must hold of records and cards that somebody changed by hand: nothing malformed, nothing lost, nothing made up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cardgen.aggregator import rows, verdicts
from cardgen.build import build
from cardgen.digests import key_fits
from cardgen.errors import CardgenError
from cardgen.evidence import METHOD, SUBJECT, Evidence, load_all
from cardgen.history import HISTORY, read_history
from cardgen.publisher.changes import MEASURED
from cardgen.records import (
    CALIBRATION,
    Calibration,
    MethodRecord,
    Model,
    Record,
    SubjectRecord,
    calibration_paths,
    load,
    record_paths,
)

FROM_SCORES = ("flat", "curve", "reported")
"""What thresholds have no say in."""
IDENTITY = ("key_parts", "versions", "parameters")
KINDS: dict[str, type[Model]] = {SUBJECT: SubjectRecord, METHOD: MethodRecord}
REVISION = re.compile(r"[\w@][\w./@{}^~-]*")


@dataclass(frozen=True)
class Verified:
    """How many records were looked at, and what does not hold; paths below the evaluations' or the cards' folder."""

    records: int
    problems: tuple[str, ...]


def verify_against(evaluations: Path, cards: Path, revision: str) -> Verified:
    """`verify` with the evaluations of a commit of this repository for a base.

    Raises:
        CardgenError: no repository, or no such commit in it.
    """
    from cardgen.publisher.git import Repository

    with Repository(evaluations) as repository, TemporaryDirectory(prefix="cardgen-") as folder:
        root, here = repository.root.resolve(), evaluations.resolve()
        prefix = here.relative_to(root).as_posix()
        try:
            if not REVISION.fullmatch(revision):
                raise CardgenError("no name of a commit")
            repository.show(revision)
        except CardgenError:
            raise CardgenError(
                f"--base: no commit {revision!r} in {root}; expected a commit, branch or tag that is there; fetch it first"
            ) from None
        repository.export(revision, [prefix], Path(folder))
        return verify(evaluations, cards, Path(folder) / prefix)


def verify(evaluations: Path, cards: Path, base: Path | None = None) -> Verified:
    """Check records by their schema, keys by their parts, cards by their records; against a base that nothing is lost.

    Where a record has the base's key, it must hold the base's numbers and verdict, unless its thresholds moved or the history
    has a new line that says so, as `publish` writes it.

    Args:
        evaluations: the records.
        cards: rendered from them.
        base: the evaluations that the change stands on.

    Raises:
        CardgenError: there is no folder of records.
    """
    if not evaluations.is_dir():
        raise CardgenError(f"{evaluations}: no such folder; expected a folder of records; name it with --evaluations")
    problems = list(_malformed(evaluations))
    places = [path.relative_to(evaluations).as_posix() for path in record_paths(evaluations)]
    if not problems:
        try:
            evidence = load_all(evaluations)
            records = {place: load(Record, evaluations / place) for place in places}
            problems += [*_keys(records, evidence), *(_against(base, records, evidence) if base else ())]
            problems += _cards(evaluations, cards)
        except CardgenError as error:
            problems.append(str(error))
    return Verified(len(places), tuple(problems))


def _malformed(evaluations: Path) -> Iterator[str]:
    """Every file that is no valid record, not only the first."""
    others = sorted([*evaluations.glob(f"*/{SUBJECT}"), *evaluations.glob(f"*/**/{METHOD}")])
    for path in (*others, *record_paths(evaluations)):
        try:
            load(KINDS.get(path.name, Record), path)
        except CardgenError as error:
            yield str(error)
    for path in calibration_paths(evaluations):
        try:
            load(Calibration, path)
        except CardgenError as error:
            yield str(error)


def _keys(records: Mapping[str, Record], evidence: Evidence) -> Iterator[str]:
    for place, record in records.items():
        method = evidence.methods.get(record.method, {}).get(record.subject)
        if key_fits(record, method.parameters if method else {}) is False:
            yield (
                f"{place}: the key {record.key:.40} is not that of its parts; expected the digest of key_parts, versions and "
                f"parameters; restore the file from git, or measure it by `cardgen run`"
            )


def _cards(evaluations: Path, cards: Path) -> Iterator[str]:
    report = build(evaluations, cards, check=True)
    yield from (f"{name}: not what the records say; run `cardgen build`" for name in report.changed)
    yield from (
        f"{name}: changed by hand outside kept regions; move the words into one, or run `cardgen build --force`"
        for name in report.edited
    )
    yield from (f"{name}: a card without records; bring them back, or delete the folder" for name in report.obsolete)


def _against(base: Path, records: Mapping[str, Record], evidence: Evidence) -> Iterator[str]:
    """What vanished, scores that moved while their key did not, history that was rewritten."""
    finals = {(row.subject, row.method, row.metric): str(row.final) for row in rows(verdicts(evidence.records))}
    for path in sorted([*record_paths(base), *calibration_paths(base), *base.glob(f"*/**/{METHOD}")]):
        place = path.relative_to(base).as_posix()
        if not (evidence.folder / place).is_file():
            yield f"{place}: vanished; expected every record of the base; restore it from git"
        elif path.parent.name == CALIBRATION:
            yield from _recounted(place, path, evidence.folder / place)
        elif place in records:
            new = records[place]
            final = finals.get((new.subject, new.method, new.metric), "")
            yield from _moved(place, _loaded(path), new, _told(new, final, evidence, base))
    for path in sorted(base.glob(f"*/*/{HISTORY}")):
        place = path.relative_to(base).as_posix()
        now = evidence.folder / place
        if not (now.is_file() and now.read_bytes().startswith(path.read_bytes())):
            yield f"{place}: lines of the base are gone; expected them all, new ones below; restore it from git"


def _recounted(place: str, before: Path, after: Path) -> Iterator[str]:
    """A calibration whose counts are others while its key is the same; one that is malformed in the base may be mended."""
    try:
        old = load(Calibration, before)
    except CardgenError:
        return
    new = load(Calibration, after)
    if old.key == new.key and old.model_copy(update={"provenance": new.provenance}) != new:
        yield f"{place}: the counts moved, the key did not; expected the base's; restore the file from git, or calibrate again"


def _moved(place: str, old: Record | None, new: Record, told: bool) -> Iterator[str]:
    if old is None or old.key != new.key:
        return
    parts = _differing(old, new, IDENTITY)
    if parts:
        yield f"{place}: {', '.join(parts)} moved, the key did not; expected the key of its parts; restore the file from git"
    numbers = _differing(old, new, ("verdict", *MEASURED) if old.rule == new.rule else FROM_SCORES)
    if numbers and not told:
        yield (
            f"{place}: {', '.join(numbers)} moved, the key did not; expected the base's, since nothing that it rests on is "
            f"another; restore the file from git, or raise the version of what changed and measure again"
        )


def _differing(old: Record, new: Record, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _told(record: Record, final: str, evidence: Evidence, base: Path) -> bool:
    """Whether a history line that the base does not have says that this record's verdict is now the final one."""
    try:
        known = len(read_history(base, record.subject, record.method))
    except CardgenError:
        known = 0
    lines = evidence.history.get((record.subject, record.method), ())[known:]
    return any(line.metric == record.metric and line.new == final for line in lines)


def _loaded(path: Path) -> Record | None:
    """The base's record; one that is malformed there may be mended to any that is not."""
    try:
        return load(Record, path)
    except CardgenError:
        return None
