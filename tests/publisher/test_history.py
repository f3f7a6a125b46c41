"""History: a line for each verdict that moved, and none for anything else."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from publishing_fixtures import record

from cardgen.errors import CardgenError
from cardgen.publisher.changes import changes
from cardgen.publisher.history import HISTORY, Moved, append_history, read_history
from cardgen.records import record_paths

WHERE = ("digits-cnn", "grad_cam")
FAILED = {"verdict": "fail", "p": 0.9, "key": "1" * 64}


def line(new: str = "fail", old: str = "pass", **fields: object) -> Moved:
    return Moved.model_validate(
        {"date": "2026-03-01", "metric": "deletion", "old": old, "new": new, "parts": ("parameters",), **fields}
    )


def test_a_moved_verdict_is_one_line(tmp_path: Path) -> None:
    written = append_history(tmp_path, changes([record("deletion")], [record("deletion", **FAILED)]), "2026-03-01")
    path = tmp_path / "digits-cnn" / "grad_cam" / HISTORY
    assert written == (path,)
    assert path.read_text() == (
        '{"date":"2026-03-01","metric":"deletion","old":"pass","new":"fail","parts":["parameters"]}\n'
    )
    assert read_history(tmp_path, *WHERE) == (line(),)
    assert list(record_paths(tmp_path)) == []


def test_lines_are_appended_and_never_twice(tmp_path: Path) -> None:
    there, back = record("deletion"), record("deletion", **FAILED)
    append_history(tmp_path, changes([there], [back]), "2026-03-01")
    before = (tmp_path / "digits-cnn" / "grad_cam" / HISTORY).read_text()
    assert append_history(tmp_path, changes([there], [back]), "2026-03-01") == ()
    append_history(tmp_path, changes([back], [there]), "2026-03-08T23:30:00+02:00")
    found = read_history(tmp_path, *WHERE)
    assert found == (line(), line("pass", "fail", date=date(2026, 3, 8)))
    assert (tmp_path / "digits-cnn" / "grad_cam" / HISTORY).read_text().startswith(before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [record("deletion")]),
        ([record("deletion")], []),
        ([record("deletion")], [record("deletion", estimate=0.3, key="1" * 64)]),
        ([record("deletion")], [record("deletion")]),
    ],
)
def test_what_is_added_removed_or_only_scored_anew_is_no_history(tmp_path: Path, before: list, after: list) -> None:
    assert append_history(tmp_path, changes(before, after), "2026-03-01") == ()
    assert list(tmp_path.iterdir()) == []


def test_each_method_and_subject_has_its_own(tmp_path: Path) -> None:
    places = [("a", "rise"), ("a", "grad_cam"), ("b", "rise")]
    before = [record("deletion", method, subject) for subject, method in places]
    after = [record("deletion", method, subject, **FAILED) for subject, method in places]
    append_history(tmp_path, changes(before, after), "2026-03-01")
    assert [len(read_history(tmp_path, *place)) for place in places] == [1, 1, 1]
    assert read_history(tmp_path, "b", "grad_cam") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "line 1: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"metric":"deletion","old":"pass","new":"fail"}', "line 1: date: Field required"),
        (
            '{"date":"2026-03-01","metric":"m","old":"pass","new":"fail","by":"me"}',
            "line 1: by: Extra inputs are not permitted",
        ),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "digits-cnn" / "grad_cam" / HISTORY
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}\n")
    with pytest.raises(CardgenError) as caught:
        read_history(tmp_path, *WHERE)
    assert str(caught.value) == (
        f"{path}: {problem}; expected date, metric, old, new and parts; restore the file from git"
    )


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "digits-cnn" / "grad_cam" / HISTORY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff")
    with pytest.raises(CardgenError, match="expected a readable file in UTF-8; restore it from git"):
        read_history(tmp_path, *WHERE)


def test_a_date_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    moved = changes([record("deletion")], [record("deletion", **FAILED)])
    with pytest.raises(CardgenError) as caught:
        append_history(tmp_path, moved, "yesterday")
    assert str(caught.value) == (
        "date: got 'yesterday'; expected the base commit's as ISO 8601, such as 2026-03-01; give that"
    )
    assert list(tmp_path.iterdir()) == []
