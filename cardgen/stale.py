"""Evidence that is older than what it was made with: a newer version of the method or the metric is in the catalogue."""

from __future__ import annotations

from cardgen.evidence import Catalogue
from cardgen.records import Record
from cardgen.words import listing


def stale(record: Record, catalogue: Catalogue) -> str:
    """What is newer than a record, in a sentence; empty where nothing is, or where the catalogue does not know."""
    now = {"method": catalogue.methods.get(record.method), "metric": catalogue.metrics.get(record.metric)}
    newer = [
        f"version {record.versions.get(what, 1)} of the {what}, which is at {entry.version}"
        for what, entry in now.items()
        if entry and record.versions.get(what, 1) < entry.version
    ]
    return f"Measured with {listing(newer)}." if newer else ""
