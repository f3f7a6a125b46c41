"""A run's files laid over the base's: only what says something else replaces what is there.

What varies between two runs that say the same (seconds, host, the last digits) is no news, so another machine opens no pull
request: a record stays as it is, byte for byte, while key, rule, entry and verdict are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cardgen.evidence import METHOD, SUBJECT
from cardgen.records import CALIBRATION, CONTROLS, Calibration, MethodRecord, Record, SubjectRecord

PICTURE = "example.png"
COUNTED = {"accuracy", "accuracy_interval", "majority_share"}
"""Fields of a subject in whose last digit two machines may differ."""


def kind_of(path: str) -> type[SubjectRecord] | type[MethodRecord] | type[Calibration] | type[Record]:
    """What the JSON file at a path below the evaluations holds."""
    folder, _, name = path.rpartition("/")
    if name == SUBJECT:
        return SubjectRecord
    if name == METHOD:
        return MethodRecord
    return Calibration if folder.rpartition("/")[2] == CALIBRATION else Record


def lay(evaluations: Path, new: Mapping[str, bytes]) -> dict[str, str]:
    """Write what is news into a folder of records; path → what it says.

    Folders of a method that have no method.json, here or there, are left out: their measuring has not ended. A picture is as
    new as the method.json that names it.
    """
    finished = {path.parent.relative_to(evaluations).as_posix() for path in evaluations.glob(f"*/*/{METHOD}")}
    finished |= {path.removesuffix(f"/{METHOD}") for path in new if path.endswith(f"/{METHOD}")}
    news = {}
    for path in new:
        own = path.rpartition("/")[0]
        told = f"{own}/{METHOD}" if path.endswith(f"/{PICTURE}") else path
        shared = path.endswith(f"/{SUBJECT}") or path.split("/")[1] in (CONTROLS, CALIBRATION)
        there = evaluations / told
        said = say(told, new[told]) if told in new else ""
        if (shared or own in finished) and not (there.is_file() and said == say(told, there.read_bytes())):
            news[path] = said
    for path in news:
        (evaluations / path).parent.mkdir(parents=True, exist_ok=True)
        (evaluations / path).write_bytes(new[path])
    return news


def say(path: str, data: bytes) -> str:
    """What a record says, whatever it was measured with, as canonical JSON; a control's verdict is no verdict on a method."""
    record = kind_of(path).model_validate_json(data)
    if isinstance(record, Record):
        kept = {"key", "rule", "catalogue", "verdict"} | ({"reason"} if record.verdict == "skipped" else set())
        said = record.model_dump(mode="json", include=kept - ({"verdict"} if CONTROLS in path.split("/") else set()))
    elif isinstance(record, Calibration):
        said = record.model_dump(mode="json", include={"key", "met"})
    elif isinstance(record, MethodRecord) and record.key:
        said = record.model_dump(mode="json", include={"key", "catalogue", "parameters"})
    else:
        said = record.model_dump(mode="json", exclude=COUNTED)
    return json.dumps(said, sort_keys=True, separators=(",", ":"))
