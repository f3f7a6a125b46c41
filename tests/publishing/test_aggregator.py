"""Final verdicts and coverage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from publishing_fixtures import (
    METHODS,
    catalogue,
    record,
    write_method,
    write_record,
    write_subject,
    write_world,
)

from cardgen.aggregator import ALPHA, coverage, holm, load_all, verdicts
from cardgen.errors import CardgenError
from cardgen.records import Record


def finals(records: list[Record]) -> dict[str, tuple[str, str]]:
    return {row.metric: (row.final, row.why) for row in verdicts(records).itertuples()}


def test_holm_worked_by_hand() -> None:
    # sorted: 0.005·4 = 0.02, 0.01·3 = 0.03, 0.03·2 = 0.06, 0.04·1 → 0.06 (never less than the one before)
    adjusted = holm(pd.Series([0.04, 0.005, 0.03, 0.01]))
    assert list(adjusted.round(12)) == [0.06, 0.02, 0.06, 0.03]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_exactly_what_the_step_down_procedure_rejects(p: list[float]) -> None:
    rejected, order = set(), sorted(range(len(p)), key=lambda k: p[k])
    for step, k in enumerate(order):
        if p[k] * (len(p) - step) > ALPHA:
            break
        rejected.add(k)
    adjusted = holm(pd.Series(p))
    assert {k for k in range(len(p)) if adjusted[k] <= ALPHA} == rejected


def test_holm_turns_a_pass_into_inconclusive_and_says_why() -> None:
    found = finals(
        [record("deletion", p=0.001), record("insertion", p=0.02), record("infidelity", verdict="fail", p=0.7)]
    )
    assert found == {
        "deletion": ("pass", ""),
        "insertion": (
            "inconclusive",
            "Holm's correction for the 3 evaluations of this attribute raises p to 0.04, above 0.025",
        ),
        "infidelity": ("fail", ""),
    }


def test_a_p_that_is_too_large_by_itself_is_not_put_down_to_holm() -> None:
    # the interval and p come from the same resamples by two ways, and on few samples can fall on two sides of the bar
    assert finals([record("deletion", p=0.031)]) == {"deletion": ("inconclusive", "p is 0.031, above 0.025")}
    found = finals([record("deletion", p=0.031), record("insertion", p=0.0001)])
    assert found["deletion"] == ("inconclusive", "p is 0.031, above 0.025")


def test_holm_counts_no_descriptive_skipped_or_other_attributes_records() -> None:
    found = finals(
        [
            record("deletion", p=0.02),
            record("insertion", verdict="descriptive", p=0.5),
            record("infidelity", verdict="skipped", p=None),
            record("pointing_game", verdict="fail", p=0.9),
            record("insertion", "rise", verdict="fail", p=0.9),
            record("insertion", subject="other", verdict="fail", p=0.9),
        ]
    )
    assert found["deletion"] == ("pass", "")


def test_nothing_is_ever_turned_into_a_pass() -> None:
    found = finals([record("deletion", verdict="fail", p=1e-9), record("insertion", verdict="inconclusive", p=1e-9)])
    assert {final for final, _ in found.values()} == {"fail", "inconclusive"}


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([], "model weight randomization was not tested"),
        ([record("model_weight_randomization", verdict="fail")], "Model Weight Randomization failed"),
        ([record("model_weight_randomization", verdict="inconclusive")], "Model Weight Randomization is inconclusive"),
        ([record("model_weight_randomization", "rise")], "model weight randomization was not tested"),
    ],
)
def test_a_pass_without_what_it_requires_is_inconclusive(others: list[Record], why: str) -> None:
    found = finals([record("sensitivity_max", requires=["model_weight_randomization"]), *others])
    assert found["sensitivity_max"] == ("inconclusive", f"holds, but not shown to depend on the model: {why}")


def test_a_pass_with_what_it_requires_stays() -> None:
    needing = record("sensitivity_max", requires=["model_weight_randomization"])
    assert finals([needing, record("model_weight_randomization")])["sensitivity_max"] == ("pass", "")


def test_a_requirement_that_holm_took_back_takes_back_what_rests_on_it_also_down_a_chain() -> None:
    found = finals(
        [
            record("pointing_game", requires=["sensitivity_max"]),
            record("sensitivity_max", requires=["insertion"], p=1e-4),
            record("insertion", p=0.02),
            record("infidelity", verdict="fail", p=0.9),
        ]
    )
    assert [found[key][0] for key in ("insertion", "sensitivity_max", "pointing_game")] == ["inconclusive"] * 3
    assert found["pointing_game"][1] == "holds, but not shown to depend on the model: Sensitivity is inconclusive"


def test_no_records_give_an_empty_table() -> None:
    assert verdicts([]).empty


def test_coverage_counts_final_verdicts_and_all_that_is_known(tmp_path: Path) -> None:
    evidence = load_all(write_world(tmp_path), catalogue())
    counts = coverage(verdicts(evidence.records), evidence, "grad_cam")
    row = counts.loc[("digits-cnn", "input_sensitivity")]
    # the template's 15 input evaluations; the catalogue's are among them
    assert {key: int(n) for key, n in row.items() if n} == {
        "pass": 1,
        "fail": 1,
        "inconclusive": 1,
        "skipped": 1,
        "total": 15,
    }
    assert int(counts.loc[("resnet-photos", "label_sensitivity")].drop("total").sum()) == 0


def test_load_all_reads_methods_controls_and_literature(tmp_path: Path) -> None:
    evidence = load_all(write_world(tmp_path), catalogue())
    assert list(evidence.methods) == sorted(METHODS)
    assert list(evidence.methods["grad_cam"]) == ["digits-cnn", "resnet-photos"]
    assert {found.method for found in evidence.control_records} == {
        "noise",
        "noise_7",
        "centred_gaussian",
        "planted_truth",
    }
    assert evidence.controls["noise"].control == "noise"
    assert len(evidence.literature["grad_cam"].verdicts) == 14
    assert evidence.literature["rise"].verdicts == ()
    assert evidence.unfinished == ()


def test_a_third_partys_metric_needs_no_catalogue(tmp_path: Path) -> None:
    assert load_all(write_world(tmp_path), catalogue()).metrics["determinism"].title == "Determinism"
    assert load_all(tmp_path, type(catalogue())()).metrics["determinism"].title == "Determinism"


def test_records_before_their_method_json_are_left_out_and_named(tmp_path: Path) -> None:
    write_subject(tmp_path)
    write_record(tmp_path, record("deletion"))
    evidence = load_all(tmp_path, catalogue())
    assert (evidence.records, evidence.methods, evidence.unfinished) == ((), {}, ("digits-cnn/grad_cam",))


def test_a_record_in_the_wrong_folder_is_refused(tmp_path: Path) -> None:
    write_subject(tmp_path)
    write_method(tmp_path, "rise")
    write_record(tmp_path, record("deletion", "grad_cam"))
    path = tmp_path / "digits-cnn" / "rise" / "deletion.json"
    (tmp_path / "digits-cnn" / "grad_cam" / "deletion.json").rename(path)
    with pytest.raises(CardgenError) as caught:
        load_all(tmp_path, catalogue())
    assert str(caught.value) == (
        f"{path}: method: expected 'rise' as in the path, got 'grad_cam'; move the file or mend the field"
    )


def test_a_method_without_a_subject_is_refused(tmp_path: Path) -> None:
    write_method(tmp_path, "rise")
    with pytest.raises(
        CardgenError, match=r"method\.json: no subject\.json in digits-cnn/; expected one for every subject"
    ):
        load_all(tmp_path, catalogue())


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CardgenError) as caught:
        load_all(tmp_path / "nothing", catalogue())
    assert str(caught.value) == (
        f"{tmp_path / 'nothing'}: no such folder; expected a folder of records; run `cardgen run` first"
    )
