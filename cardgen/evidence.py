"""Everything that cards are made from, read and validated before anything is rendered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from cardgen.errors import CardgenError
from cardgen.history import Moved, read_history
from cardgen.literature import (
    Literature,
    Paper,
    PublishedEvaluation,
    load_evaluations,
    load_every,
    load_literature,
)
from cardgen.paths import PACKAGE, shipped
from cardgen.records import (
    CONTROLS,
    Attribute,
    Calibration,
    MethodEntry,
    MethodRecord,
    MetricEntry,
    Model,
    Record,
    SubjectRecord,
    calibration_paths,
    load,
    record_paths,
)

LITERATURE = "literature"
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SUBJECT, METHOD = "subject.json", "method.json"


class Catalogue(Model):
    """What the decorators say of all metrics and methods, also of those that nobody ran."""

    metrics: dict[str, MetricEntry] = Field(default_factory=dict)
    methods: dict[str, MethodEntry] = Field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """An evaluation that somebody could run: its title, its paper, and where on the card it stands."""

    title: str
    url: str
    attribute: Attribute


@dataclass(frozen=True)
class Evidence:
    """All records of an evaluations folder, what was published, and what there is to measure.

    `methods` maps method → subject → its record; `controls` holds the entries of the controls that have one; `metrics`
    are those of the card's template, of the catalogue and of the records, in that order, the later one's words counting.
    `calibrations` maps (subject, metric) to what there is of them. `literature` has every method that is measured or that somebody
    published on; `papers` maps addresses in it to their papers.
    `catalogue` is the newest word on versions; `history` maps (subject, method) → verdicts that moved, oldest first.
    `unfinished` names subject/method folders with records but no method.json yet: they are left out.
    """

    folder: Path
    subjects: dict[str, SubjectRecord]
    methods: dict[str, dict[str, MethodRecord]]
    controls: dict[str, MethodEntry]
    records: tuple[Record, ...]
    control_records: tuple[Record, ...]
    calibrations: dict[tuple[str, str], Calibration]
    literature: dict[str, Literature]
    papers: dict[str, Paper]
    metrics: dict[str, Known]
    names: dict[str, str]
    catalogue: Catalogue
    history: dict[tuple[str, str], tuple[Moved, ...]]
    unfinished: tuple[str, ...]


def load_catalogue() -> Catalogue:
    """The catalogue that ships with the package; empty where there is none."""
    path = PACKAGE / "catalogue.json"
    return load(Catalogue, path) if path.exists() else Catalogue()


def load_all(evaluations: Path, catalogue: Catalogue | None = None) -> Evidence:
    """Read all subjects, methods, records and published verdicts below an evaluations folder.

    Raises:
        CardgenError: a file is malformed, lies in another place than it says, or misses its subject.
    """
    if not evaluations.is_dir():
        raise CardgenError(f"{evaluations}: no such folder; expected a folder of records; run `cardgen run` first")
    catalogue = load_catalogue() if catalogue is None else catalogue
    subjects = {path.parent.name: _subject(path) for path in sorted(evaluations.glob(f"*/{SUBJECT}"))}
    methods: dict[str, dict[str, MethodRecord]] = {}
    for path in sorted(evaluations.glob(f"*/*/{METHOD}")):
        found = _method(path, path.parent.parent.name, subjects)
        if not found.catalogue.control:
            methods.setdefault(found.catalogue.key, {})[found.subject] = found
    entries = [load(MethodRecord, path).catalogue for path in sorted(evaluations.glob(f"*/{CONTROLS}/*/{METHOD}"))]
    listed = [entry for entry in catalogue.methods.values() if entry.control]
    everything = list(_records(evaluations, subjects))
    measured = [record for record, control in everything if not control]
    records = tuple(record for record in measured if record.subject in methods.get(record.method, {}))
    folder = evaluations / LITERATURE
    folder = folder if folder.is_dir() else shipped("evaluations/literature")
    literature, template = load_every(folder), load_evaluations(folder)
    return Evidence(
        folder=evaluations,
        subjects=subjects,
        methods=dict(sorted(methods.items())),
        controls={entry.key: entry for entry in [*listed, *entries]},
        records=records,
        control_records=tuple(record for record, control in everything if control),
        calibrations=dict(_calibrations(evaluations, subjects)),
        literature={key: load_literature(folder, key) for key in methods} | literature,
        papers=_papers(template, literature.values()),
        metrics=_known(template, catalogue, records),
        names={key: found.table.name for key, found in literature.items() if found.table}
        | {key: entry.title for key, entry in catalogue.methods.items()},
        catalogue=catalogue,
        history={
            (subject, key): read_history(evaluations, subject, key)
            for key, by_subject in methods.items()
            for subject in by_subject
        },
        unfinished=tuple(
            sorted(
                {
                    f"{record.subject}/{record.method}"
                    for record in measured
                    if record.subject not in methods.get(record.method, {})
                }
            )
        ),
    )


def _known(
    template: Iterable[PublishedEvaluation], catalogue: Catalogue, records: Iterable[Record]
) -> dict[str, Known]:
    known = {entry.evaluation: Known(entry.title, entry.paper.url, entry.attribute) for entry in template}
    for entry in [*catalogue.metrics.values(), *(record.catalogue for record in records)]:
        known[entry.key] = Known(entry.title, entry.source.url, entry.attribute)
    return known


def _papers(template: Iterable[PublishedEvaluation], literature: Iterable[Literature]) -> dict[str, Paper]:
    listed = [paper for found in literature if found.table for paper in found.table.papers]
    return {paper.url: paper for paper in [*listed, *(entry.paper for entry in template)]}


def _subject(path: Path) -> SubjectRecord:
    subject = load(SubjectRecord, path)
    _belongs(path, "slug", path.parent.name, subject.slug)
    return subject


def _method(path: Path, subject: str, subjects: dict[str, SubjectRecord]) -> MethodRecord:
    method = load(MethodRecord, path)
    _belongs(path, "subject", subject, method.subject)
    _belongs(path, "catalogue.key", path.parent.name, method.catalogue.key)
    _has_subject(path, subject, subjects)
    return method


def _records(evaluations: Path, subjects: dict[str, SubjectRecord]) -> Iterator[tuple[Record, bool]]:
    """Every record, and whether it is a control's."""
    for path in record_paths(evaluations):
        folders = path.relative_to(evaluations).parts[:-1]
        control = len(folders) == 3 and folders[1] == CONTROLS
        if len(folders) != 2 and not control:
            raise CardgenError(
                f"{path}: not a place for a record; expected <subject>/<method>/<metric>.json or "
                f"<subject>/{CONTROLS}/<control>/<metric>.json, got {len(folders)} folders; move or delete the file"
            )
        record = load(Record, path)
        _belongs(path, "subject", folders[0], record.subject)
        _belongs(path, "method", folders[-1], record.method)
        _belongs(path, "metric", path.stem, record.metric)
        _belongs(path, "catalogue.key", path.stem, record.catalogue.key)
        _has_subject(path, folders[0], subjects)
        yield record, control


def _calibrations(
    evaluations: Path, subjects: dict[str, SubjectRecord]
) -> Iterator[tuple[tuple[str, str], Calibration]]:
    for path in calibration_paths(evaluations):
        found = load(Calibration, path)
        _belongs(path, "subject", path.parent.parent.name, found.subject)
        _belongs(path, "metric", path.stem, found.metric)
        _has_subject(path, found.subject, subjects)
        yield (found.subject, found.metric), found


def _belongs(path: Path, field: str, expected: str, got: str) -> None:
    if expected != got:
        raise CardgenError(
            f"{path}: {field}: expected {expected!r} as in the path, got {got!r}; move the file or mend the field"
        )
    if not SLUG.fullmatch(got):
        raise CardgenError(
            f"{path}: {field}: expected letters, digits, '.', '_' and '-', got {got!r}; rename the folder and the field"
        )


def _has_subject(path: Path, subject: str, subjects: dict[str, SubjectRecord]) -> None:
    if subject not in subjects:
        raise CardgenError(
            f"{path}: no {SUBJECT} in {subject}/; expected one for every subject; run `cardgen run` again"
        )
