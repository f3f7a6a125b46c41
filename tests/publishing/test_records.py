"""Records: strict, small, whole, and clear about what is wrong with them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from publishing_fixtures import record, subject, write_world
from pydantic import ValidationError

from cardgen.errors import CardgenError
from cardgen.records import Curve, Provenance, Record, SubjectRecord, dumps, load, record_paths, save, write_atomic


def full_record() -> Record:
    """As large as a record gets in practice."""
    return record(
        "deletion",
        curve=Curve(
            x_label="share of pixels removed",
            y_label="probability",
            x=[k / 50 for k in range(51)],
            y=[0.98765 * 0.93**k for k in range(51)],
        ),
        reported={"spearman": 0.31234, "ssim": 0.21234},
        parameters={"steps": 50, "substrate": "mean"},
        versions={"metric": 1, "method": 1, "engine": 1},
        key_parts=dict.fromkeys(("weights", "samples", "target", "method", "metric", "seed"), "0123456789abcdef"),
        provenance=Provenance(commit="c" * 40, packages={"torch": "2.6.0"}, seconds=12.3456, threads=2),
    )


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    save(full_record(), tmp_path / "deletion.json")
    assert load(Record, tmp_path / "deletion.json") == full_record()


def test_a_full_record_without_its_curve_stays_below_two_kilobytes_and_with_it_below_three() -> None:
    text = dumps(full_record())
    assert len(text.encode()) <= 3 * 1024
    assert len(dumps(full_record().model_copy(update={"curve": None})).encode()) <= 2 * 1024


def test_numbers_carry_four_significant_digits() -> None:
    found = record(
        "deletion", estimate=0.123456789, interval=(0.1000049, 12345.6), reported={"x": 1.00005, "n": 123456}
    )
    assert (found.estimate, found.interval, found.reported) == (0.1235, (0.1, 12350.0), {"x": 1.0, "n": 123456})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinities_are_refused_anywhere(value: float) -> None:
    changes: list[dict[str, Any]] = [{"estimate": value}, {"interval": (0.0, value)}, {"reported": {"x": value}}]
    for change in changes:
        with pytest.raises(ValidationError, match=f"expected a finite number, got {value}"):
            record("deletion", **change)


def test_nan_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deletion.json"
    path.write_text(dumps(record("deletion")).replace('"estimate": 0.2134', '"estimate": NaN'))
    with pytest.raises(CardgenError) as caught:
        load(Record, path)
    assert str(caught.value) == (
        f"{path}: not a readable Record: expected a number, got NaN; expected strict JSON; "
        f"delete the file and run `cardgen run` again, or restore it from git"
    )


def test_an_unknown_field_names_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "deletion.json"
    path.write_text(json.dumps(json.loads(dumps(record("deletion"))) | {"estimat": 1}))
    with pytest.raises(CardgenError) as caught:
        load(Record, path)
    assert str(caught.value) == (
        f"{path}: estimat: Extra inputs are not permitted; expected a Record of schema 1, got 1; "
        f"delete the file and run `cardgen run` again, or restore it from git"
    )


def test_a_wrong_nested_field_is_named_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "deletion.json"
    fields = json.loads(dumps(record("deletion")))
    fields["controls"]["noise"]["kind"] = "music"
    path.write_text(json.dumps(fields))
    with pytest.raises(
        CardgenError, match=r"deletion\.json: controls\.noise\.kind: Input should be 'noise' or 'prior'"
    ):
        load(Record, path)


def test_half_a_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "subject.json"
    path.write_text(dumps(subject())[:100])
    with pytest.raises(CardgenError, match=r"subject\.json: not a readable SubjectRecord: "):
        load(SubjectRecord, path)


def test_an_interrupted_write_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deletion.json"
    write_atomic(path, "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["deletion.json"]


def test_one_field_a_line_so_that_a_diff_shows_what_moved() -> None:
    before, after = dumps(record("deletion")).splitlines(), dumps(record("deletion", estimate=0.3)).splitlines()
    assert [new for old, new in zip(before, after, strict=True) if old != new] == ['"estimate": 0.3,']


def test_record_paths_are_sorted_and_leave_out_other_json_and_hidden_folders(tmp_path: Path) -> None:
    root = write_world(tmp_path / ".hidden" / "evaluations")
    (root / "digits-cnn" / ".scores").mkdir()
    (root / "digits-cnn" / ".scores" / "x.json").write_text("{}")
    found = [path.relative_to(root).as_posix() for path in record_paths(root)]
    assert found == sorted(found)
    assert "digits-cnn/grad_cam/deletion.json" in found
    assert "digits-cnn/controls/noise/deletion.json" in found
    assert not [name for name in found if name.endswith(("subject.json", "method.json")) or ".scores" in name]
