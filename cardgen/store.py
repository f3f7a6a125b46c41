"""Where results lie: records beside each other in `evaluations/`, per-sample scores in `.scores/`, named by their content's key."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cardgen.records import CONTROLS, MethodEntry, MethodRecord, Record, SubjectRecord, dumps, load, write_atomic
from cardgen.scores import Scores

DIGEST = hashlib.sha256().digest_size
SAME_SUBJECT = ("model_sha256", "data", "target", "shape", "has_masks")


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
        """Stored scores, if they are there and whole: a file whose digest does not fit is as good as none."""
        try:
            data = self._scores_path(key).read_bytes()
        except OSError:
            return None
        digest, content = data[:DIGEST], data[DIGEST:]
        return Scores.loads(content) if hashlib.sha256(content).digest() == digest else None

    def save_scores(self, key: str, scores: Scores) -> None:
        """Keep scores, so that a change of thresholds or of other records does not measure them again."""
        content = scores.dumps()
        write_atomic(self._scores_path(key), hashlib.sha256(content).digest() + content)

    def save_subject(self, record: SubjectRecord) -> None:
        """Write subject.json unless it says the same, or speaks of more samples of the same model and data."""
        path = self.root / "subject.json"
        found = load(SubjectRecord, path) if path.is_file() else record
        if not (found.n > record.n and all(getattr(found, name) == getattr(record, name) for name in SAME_SUBJECT)):
            _write(path, dumps(record).encode())

    def drawn(self, method: str) -> str:
        """The key of a method's example picture; empty unless method.json and the picture that it names are there and whole."""
        folder = self.folder(method, control=False)
        record, picture = folder / "method.json", folder / "example.png"
        if not record.is_file() or not picture.is_file():
            return ""
        found = load(MethodRecord, record)
        whole = hashlib.sha256(picture.read_bytes()).hexdigest() == found.picture_sha256
        return found.key if whole else ""

    def save_method(self, record: MethodRecord, picture: bytes) -> None:
        """Write the example picture, if there is one, then method.json, which holds its digest; what says the same is left alone."""
        folder = self.folder(record.catalogue.key, control=False)
        _write(folder / "example.png", picture)
        _write(folder / "method.json", dumps(record).encode())

    def _scores_path(self, key: str) -> Path:
        return self.root / ".scores" / f"{key}.npz"


def _write(path: Path, data: bytes) -> None:
    if data and not (path.is_file() and path.read_bytes() == data):
        write_atomic(path, data)
