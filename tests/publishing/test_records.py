"""Records: strict, small, whole, and clear about what is wrong with them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from publishing_fixtures import calibration, record, subject, write_world
from pydantic import ValidationError

from cardgen.errors import CardgenError
from cardgen.records import (
    Calibration,
    Comparison,
    Curve,
    Provenance,
    Record,
    Rule,
    Share,
    SubjectRecord,
    calibration_paths,
    dumps,
    load,
    record_paths,
    save,
    write_atomic,
)


def full_record() -> Record:
    """As large as a record gets in practice."""
    noise, priors = (
        ("noise", "noise_1", "noise_4", "noise_7", "noise_14"),
        ("centred_gaussian", "edges", "input_magnitude"),
    )
    against = {"estimate": 0.10064, "difference": -0.00040592, "interval": (-0.0095253, 0.0088164), "effect": -0.17492}
    return record(
        "deletion",
        controls={key: Comparison(kind="noise", **against) for key in noise}
        | {key: Comparison(kind="prior", **against) for key in priors},
        curve=Curve(
            x_label="share of pixels removed",
            y_label="probability of the class",
            y=[0.98765 * 0.93**k for k in range(11)],
        ),
        rule=Rule(name="vs_noise", thresholds={"effect": 0.2, "samples": 20, "flat": 0.1, "probability": 0.01}),
        parameters={"steps": 50, "substrate": "mean"},
        budget="standard",
        versions={"metric": 1, "method": 1, "engine": 1},
        passes=10001,
        key="0123456789abcdef" * 2,
        key_parts=dict.fromkeys(("weights", "data", "method_parameters", "metric_parameters"), "1e179cee9121")
        | {"engine": 1, "n": 200, "target": "predicted", "method": "grad_cam 1", "metric": "deletion 1", "seed": 0}
        | {"dtype": "float32", "controls": "1 5"},
        provenance=Provenance(
            commit="737264cc17c8",
            dirty=True,
            packages={"cardgen": "0.1.0", "torch": "2.14.1", "captum": "0.9.0", "numpy": "2.4.6"},
            device="x86_64 CPU",
            dtype="float32",
            threads=2,
            batch=32,
            seconds=8.6699,
        ),
    )


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    save(full_record(), tmp_path / "deletion.json")
    assert load(Record, tmp_path / "deletion.json") == full_record()


def test_a_full_record_stays_below_two_kilobytes() -> None:
    assert len(dumps(full_record()).encode()) <= 2048


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
    assert fields["controls"]["noise"] == ["noise", 0.5, 0.29, 0.2, 0.38, 1.9]
    fields["controls"]["noise"][0] = "music"
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


def full_calibration() -> Calibration:
    """As large as a calibration gets in practice."""
    held = ("noise_3", "noise_5", "noise_10", "pink_noise", "random_blob", "random_spike", "ones_but_a_corner")
    held += ("noise_to_the_eighth", "keyed_noise", "fresh_noise")
    priors = ("centred_gaussian", "edges", "input_magnitude", "centre", "mean_mask")
    return calibration(
        "model_weight_randomization",
        noise=dict.fromkeys(("noise", "noise_1", "noise_4", "noise_7", "noise_14"), Share(passes=123, of=1000)),
        held_out=dict.fromkeys(held, Share(passes=123, of=1000)),
        priors=dict.fromkeys(priors, Share(passes=123, of=1000)),
        agreement=dict.fromkeys(("50", "100", "200"), Share(passes=123, of=1000)),
        reliability={"inter_rater": -0.123456, "inter_method": 0.98765, "internal_consistency": 0.12345},
        key="0123456789abcdef" * 2,
        key_parts=full_record().key_parts,
        provenance=full_record().provenance,
    )


def test_a_full_calibration_survives_the_disk_in_two_kilobytes(tmp_path: Path) -> None:
    path = tmp_path / "digits-cnn" / "calibration" / "model_weight_randomization.json"
    save(full_calibration(), path)
    assert load(Calibration, path) == full_calibration()
    assert len(path.read_bytes()) <= 2048
    assert '"noise":[123,1000]' in path.read_text()
    assert (list(calibration_paths(tmp_path)), list(record_paths(tmp_path))) == ([path], [])


def test_a_share_by_hand() -> None:
    share = Share(passes=8, of=10)
    assert share.estimate == 0.8
    assert share.interval == pytest.approx((0.490164, 0.943316), abs=2e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([3, 2], "expected no more passes than 2, got 3"),
        ([0, 0], "Input should be greater than or equal to 1"),
        ([-1, 2], "Input should be greater than or equal to 0"),
        ([0.5, 2], "Input should be a valid integer"),
        ([1, 2, 3], "Input should be a valid dictionary or instance of Share"),
    ],
)
def test_what_is_no_share_is_refused(given: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        calibration("deletion", noise={"noise": given})


def test_calibrations_of_hidden_folders_are_left_out(tmp_path: Path) -> None:
    save(calibration("deletion"), tmp_path / ".old" / "calibration" / "deletion.json")
    assert list(calibration_paths(tmp_path)) == []
