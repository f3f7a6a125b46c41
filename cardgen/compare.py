"""Two evaluations folders side by side: which verdicts differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cardgen.records import Record, load, record_paths


@dataclass(frozen=True)
class Difference:
    """A record whose verdict differs, or that only one side has."""

    place: str
    before: str
    after: str


def differences(before: Path, after: Path) -> tuple[int, list[Difference]]:
    """How many records stand on both sides, and where their verdicts differ; records that only `before` has are left out."""
    ours, theirs = _verdicts(after), _verdicts(before)
    found = [
        Difference(place, theirs.get(place, "none"), verdict)
        for place, verdict in sorted(ours.items())
        if theirs.get(place, "none") != verdict
    ]
    return len(ours.keys() & theirs.keys()), found


def _verdicts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder).with_suffix("")): load(Record, path).verdict for path in record_paths(folder)}
