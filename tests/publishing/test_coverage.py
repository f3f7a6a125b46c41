"""`cardgen coverage`: untested cells, by subject and method."""

from __future__ import annotations

from pathlib import Path

import pytest
from publishing_fixtures import bare, catalogue, write_method, write_record, write_subject

from cardgen import coverage
from cardgen.coverage import coverage_lines
from cardgen.errors import CardgenError


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixtures' catalogue, whatever ships."""
    monkeypatch.setattr(coverage, "load_catalogue", catalogue)


def test_what_is_untested_failed_and_skipped(tmp_path: Path) -> None:
    metrics, methods = list(catalogue().metrics), [k for k, m in catalogue().methods.items() if not m.control]
    first, second, third, *rest = metrics
    write_subject(tmp_path)
    write_method(tmp_path, "grad_cam")
    write_record(tmp_path, bare(first, "descriptive", "Described."))
    write_record(tmp_path, bare(second, "skipped", "the data has no ground-truth masks"))
    write_record(tmp_path, bare(third, "error", "ValueError in x: y"))
    lines = list(coverage_lines(tmp_path))
    assert lines[0] == "digits-cnn:"
    place = lines.index(next(line for line in lines if line.startswith("  grad_cam: ")))
    assert lines[place] == "  grad_cam: untested: " + " and ".join([", ".join([third, *rest][:-1]), [third, *rest][-1]])
    assert lines[place + 1] == f"    skipped: the data has no ground-truth masks: {second}"
    others = [line for line in lines if line.endswith(": nothing tested")]
    assert len(others) == len(methods) - 1
    cells = len(metrics) * len(methods)
    assert lines[-2].startswith(f"  2 of {cells} evaluations done")
    assert f"measures the {cells - 2} untested" in lines[-1]


def test_nothing_is_left_where_all_is_tested(tmp_path: Path) -> None:
    write_subject(tmp_path)
    for method, entry in catalogue().methods.items():
        if entry.control:
            continue
        write_method(tmp_path, method)
        for metric in catalogue().metrics:
            write_record(tmp_path, bare(metric, "descriptive", "Described.", method=method))
    lines = list(coverage_lines(tmp_path))
    assert all(line.endswith(": all tested") for line in lines[1:-1])
    assert lines[-1].endswith("evaluations done (100%).")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert list(coverage_lines(tmp_path)) == [f"{tmp_path} holds no subject; `cardgen run` makes one."]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CardgenError, match="no such folder; expected one of records"):
        list(coverage_lines(tmp_path / "none"))
