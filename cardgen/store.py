"""Where results lie: records beside each other in `evaluations/`, per-sample scores in `.scores/`, named by their content's key."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from cardgen.records import CONTROLS, MethodEntry, MethodRecord, Record, SubjectRecord, load, save, write_atomic
from cardgen.scores import Scores


@dataclass(frozen=True)
class Store:
    """The folder `evaluations/<subject>` of one subject."""

    evaluations: Path
    subject: str

    @property
    def root(self) -> Path:
        """The subject's folder."""
        return self.evaluations / self.subject

    def folder(self, method: str, *, control: bool) -> Path:
        """The folder of a method or a control."""
        return self.root / CONTROLS / method if control else self.root / method

    def path(self, method: MethodEntry, metric: str) -> Path:
        """Where the record of a metric lies."""
        return self.folder(method.key, control=bool(method.control)) / f"{metric}.json"

    def record(self, path: Path) -> Record | None:
        """The record there, if there is one."""
        return load(Record, path) if path.is_file() else None

    def scores(self, key: str) -> Scores | None:
        """Stored scores, if they are there and whole."""
        path = self._scores_path(key)
        try:
            return Scores.loads(path.read_bytes())
        except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError, EOFError):
            return None

    def save_scores(self, key: str, scores: Scores) -> None:
        """Keep scores, so that a change of thresholds or of other records does not measure them again."""
        write_atomic(self._scores_path(key), scores.dumps())

    def save_subject(self, record: SubjectRecord) -> None:
        """Write subject.json unless it says the same."""
        path = self.root / "subject.json"
        if not path.is_file() or load(SubjectRecord, path) != record:
            save(record, path)

    def save_method(self, record: MethodRecord, picture: bytes) -> None:
        """Write the example picture, then method.json, which holds its digest."""
        folder = self.folder(record.catalogue.key, control=False)
        write_atomic(folder / "example.png", picture)
        save(record, folder / "method.json")

    def _scores_path(self, key: str) -> Path:
        return self.root / ".scores" / f"{key}.npz"
