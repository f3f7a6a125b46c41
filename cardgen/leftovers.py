"""Records in a subject's folder that rest on something else than the subject of the run at hand."""

from collections.abc import Iterator

from cardgen.digests import SHORT
from cardgen.keys import data_part
from cardgen.records import Record, load, record_paths
from cardgen.store import Store
from cardgen.subjects.loading import Loaded
from cardgen.words import listing, plural


def leftovers(store: Store, loaded: Loaded) -> Iterator[str]:
    """A sentence on records of another model, other data or another class explained, which stand on cards beside this run's."""
    found = [(record, what) for record in _records(store) if (what := _other(record, loaded))]
    if found:
        whats = listing(dict.fromkeys(what for _, what in found))
        methods = listing(sorted({record.method for record, _ in found}))
        yield (
            f"{plural(len(found), 'evaluation')} in {store.root} that this run did not measure again "
            f"{'rests' if len(found) == 1 else 'rest'} on {whats}: {methods}. Measure them again as well, or give this subject "
            "a folder of its own with --name."
        )


def _records(store: Store) -> Iterator[Record]:
    for path in record_paths(store.evaluations):
        if path.is_relative_to(store.root):
            yield load(Record, path)


def _other(record: Record, loaded: Loaded) -> str:
    """What a record rests on that is not the subject's; empty where all is, as far as the samples at hand show."""
    parts, n = record.key_parts, int(record.key_parts.get("n") or 0)
    if parts.get("weights") != loaded.weights[:SHORT]:
        return "another model"
    if parts.get("target") != loaded.record.target:
        return "another class explained"
    if n <= len(loaded.samples) and parts.get("data") != data_part(loaded.samples[:n]):
        return "other data"
    return ""
