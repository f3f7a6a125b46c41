"""Evidence that is older than what it was made with: the method, the metric or the subject has changed since."""

from __future__ import annotations

from cardgen.digests import SHORT
from cardgen.evidence import Catalogue
from cardgen.records import Record, SubjectRecord
from cardgen.words import listing


def stale(record: Record, catalogue: Catalogue, subject: SubjectRecord) -> str:
    """What is newer than a record, in sentences; empty where nothing is, or where it is not known."""
    return " ".join(filter(None, (_version(record, catalogue), _changed(record, subject))))


def _version(record: Record, catalogue: Catalogue) -> str:
    now = {"method": catalogue.methods.get(record.method), "metric": catalogue.metrics.get(record.metric)}
    newer = [
        f"version {record.versions.get(what, 1)} of the {what}, which is at {entry.version}"
        for what, entry in now.items()
        if entry and record.versions.get(what, 1) < entry.version
    ]
    return f"Measured with {listing(newer)}." if newer else ""


def _changed(record: Record, subject: SubjectRecord) -> str:
    """How the subject was another one when the record was made."""
    known = {"weights": subject.model_sha256[:SHORT], "target": subject.target}
    words = {"weights": "other weights of the model", "target": "another choice of the class explained"}
    moved = [words[part] for part, now in known.items() if record.key_parts.get(part, now) != now]
    return f"Measured with {listing(moved)} than the subject has now." if moved else ""
