"""What a calibration says on a card: one clause, and never a verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from publishing_fixtures import bare, calibration, catalogue, record, write_calibration, write_world

from cardgen.aggregator import load_all, verdicts
from cardgen.card import make_card
from cardgen.errors import CardgenError
from cardgen.evidence import Evidence
from cardgen.overview import make_overview
from cardgen.paths import shipped
from cardgen.records import Calibration, Share, save
from cardgen.templater import render_card, render_overview
from cardgen.trust import calibrated, calibration_of, caution, missed, percent, trust


@pytest.fixture
def world(tmp_path: Path) -> Evidence:
    return load_all(write_world(tmp_path), catalogue())


def said(evidence: Evidence, **changes: Any) -> tuple[str, str]:
    found = calibration("deletion", **changes)
    return trust(found, evidence), caution(found, evidence)


def shares(**passes: int) -> dict[str, Share]:
    return {key: Share(passes=count, of=250) for key, count in passes.items()}


def test_goals_that_are_met_in_one_clause(world: Evidence) -> None:
    assert said(world) == (
        "in 250 repetitions with 100 images each noise passes at most 0.4 %, other maps without information at most 2 % "
        "(smooth noise 5×5) and the positive control 99.2 %",
        "",
    )


def test_a_positive_control_of_which_nothing_is_asked_is_not_told(world: Evidence) -> None:
    assert said(world, noise={}, held_out={}, truth_should="") == ("", "")
    assert "positive" not in said(world, truth=None)[0]
    assert "planted" not in said(world, truth_should="")[0]


def test_priors_have_no_goal(world: Evidence) -> None:
    assert said(world, priors=shares(edges=250)) == said(world)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"held_out": shares(random_blob=30, noise_5=5)}, "random blob passes 12 % (goal: at most 5 %)"),
        ({"noise": shares(noise_7=13)}, "smooth noise 7×7 passes 5.2 % (goal: at most 5 %)"),
        ({"truth": Share(passes=200, of=250)}, "the positive control passes only 80 % (goal: at least 90 %)"),
        (
            {"noise": shares(noise=20), "held_out": shares(random_blob=30, noise_5=14)},
            "random blob passes 12 % (goal: at most 5 %); 2 more goals are missed",
        ),
        (
            {"noise": shares(noise=20), "truth": Share(passes=0, of=250)},
            "the positive control passes only 0 % (goal: at least 90 %); 1 more goal is missed",
        ),
        ({}, "not every goal was met"),
    ],
)
def test_the_worst_control_decides(world: Evidence, changes: dict[str, Any], text: str) -> None:
    assert said(world, met=False, **changes) == ("", f"in 250 repetitions with 100 images each {text}")


def test_five_percent_sharp_is_met(world: Evidence) -> None:
    assert missed(calibration("deletion", noise={"noise": Share(passes=5, of=100)}), world) == []
    assert missed(calibration("deletion", truth=Share(passes=90, of=100)), world) == []
    assert len(missed(calibration("deletion", noise={"noise": Share(passes=51, of=1000)}), world)) == 1


def test_counts_above_a_goal_are_called_out_whatever_else_was_met(world: Evidence) -> None:
    assert said(world, met=True, held_out=shares(random_blob=30))[1]


def test_too_few_repetitions_judge_nothing(world: Evidence) -> None:
    clause, warned = said(world, met=None, repetitions=20, held_out=shares(random_blob=30))
    assert warned == ""
    assert clause.startswith("in 20 repetitions with 100 images each noise passes at most 0.4 %")
    assert clause.endswith("; too few to judge by")


@pytest.mark.parametrize(
    ("passes", "of", "text"),
    [
        (0, 250, "0 %"),
        (1, 250, "0.4 %"),
        (1, 3, "33.3 %"),
        (30, 250, "12 %"),
        (1, 10_000, "less than 0.1 %"),
        (9_999, 10_000, "more than 99.9 %"),
        (249, 250, "99.6 %"),
        (250, 250, "100 %"),
    ],
)
def test_a_share_in_words(passes: int, of: int, text: str) -> None:
    assert percent(Share(passes=passes, of=of)) == text


def with_some(world: Evidence, *found: Calibration) -> Evidence:
    return replace(world, calibrations={(one.subject, one.metric): one for one in found})


def test_a_calibration_speaks_for_its_subject_metric_weights_and_version(world: Evidence) -> None:
    parts = {"weights": "1" * 12, "metric_version": 2}
    evidence = with_some(world, calibration("deletion", key_parts=parts))
    mine: dict[str, Any] = {"key_parts": {"weights": "1" * 12}, "versions": {"metric": 2}}
    assert calibration_of(record("deletion", **mine), evidence)
    assert calibration_of(record("deletion"), evidence)
    assert calibration_of(record("insertion", **mine), evidence) is None
    assert calibration_of(record("deletion", subject="resnet-photos", **mine), evidence) is None
    assert calibration_of(record("deletion", **{**mine, "key_parts": {"weights": "2" * 12}}), evidence) is None
    assert calibration_of(record("deletion", **{**mine, "versions": {"metric": 3}}), evidence) is None
    assert calibration_of(bare("deletion", "skipped", "no masks"), evidence) is None
    assert calibration_of(record("deletion", verdict="descriptive"), evidence)


def test_how_many_are_calibrated(world: Evidence) -> None:
    found = [record("deletion"), record("insertion", verdict="fail"), record("sensitivity_max", verdict="inconclusive")]
    others = [record("sparsity", verdict="descriptive"), bare("infidelity", "skipped", "too long")]
    assert calibrated([*found, *others], world) == (
        "none of 3 evaluations with a verdict; how often noise passes here was not measured"
    )
    evidence = with_some(world, calibration("deletion"), calibration("sparsity"))
    assert calibrated([*found, *others], evidence) == "1 of 3 evaluations with a verdict; none misses a goal"
    evidence = with_some(world, calibration("deletion", met=False), calibration("insertion"))
    assert calibrated(found, evidence) == "2 of 3 evaluations with a verdict; Deletion misses a goal"
    evidence = with_some(world, calibration("deletion", met=False), calibration("insertion", met=False))
    assert calibrated(found, evidence) == "2 of 3 evaluations with a verdict; Deletion and Insertion miss a goal"
    assert calibrated(others, evidence) == ""


def test_cards_and_overview_say_it_and_no_verdict_moves(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    before = verdicts(load_all(root, catalogue()).records)
    write_calibration(root, calibration("deletion"))
    write_calibration(root, calibration("insertion", held_out=shares(random_blob=250), met=False))
    evidence = load_all(root, catalogue())
    table = verdicts(evidence.records)
    assert table.equals(before)
    text = render_card(make_card("grad_cam", evidence, table, None), shipped("templates"))
    assert "\n**Calibrated:** 2 of 5 evaluations with a verdict; Insertion misses a goal.\n" in text
    (deletion,) = [line for line in text.splitlines() if line.startswith("- 🟢 Beats every noise control")]
    assert deletion.endswith(
        "on digits-cnn). *Calibrated:* in 250 repetitions with 100 images each noise passes at most 0.4 %, "
        "other maps without information at most 2 % (smooth noise 5×5) and the positive control 99.2 %."
    )
    (insertion,) = [line for line in text.splitlines() if line.startswith("🟥 **[Insertion]")]
    assert insertion.endswith(
        "**Caution:** in 250 repetitions with 100 images each random blob passes 100 % (goal: at most 5 %)."
    )
    assert text.count(" *Calibrated:* in ") == 1
    assert text.count("**Caution:**") == 1
    overview = render_overview(make_overview(evidence, table), shipped("templates"))
    assert "Calibrated: 2 of 5 evaluations with a verdict; Insertion misses a goal.\n" in overview


def test_without_any_every_line_is_silent_and_the_head_says_so(world: Evidence) -> None:
    text = render_card(make_card("grad_cam", world, verdicts(world.records), None), shipped("templates"))
    assert (
        "\n**Calibrated:** none of 5 evaluations with a verdict; how often noise passes here was not measured.\n"
        in text
    )
    assert " *Calibrated:* in " not in text
    assert "Caution" not in text


@pytest.mark.parametrize(
    ("field", "folder", "name"), [("subject", "digits-cnn", "insertion"), ("metric", "digits-cnn", "x")]
)
def test_a_calibration_in_the_wrong_place_is_refused(tmp_path: Path, field: str, folder: str, name: str) -> None:
    root = write_world(tmp_path)
    found = calibration("insertion", subject="resnet-photos" if field == "subject" else "digits-cnn")
    path = root / folder / "calibration" / f"{name}.json"
    save(found, path)
    expected, got = ("digits-cnn", "resnet-photos") if field == "subject" else ("x", "insertion")
    with pytest.raises(CardgenError) as caught:
        load_all(root, catalogue())
    assert str(caught.value) == (
        f"{path}: {field}: expected {expected!r} as in the path, got {got!r}; move the file or mend the field"
    )


def test_a_calibration_without_its_subject_is_refused(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    write_calibration(root, calibration("deletion", subject="gone"))
    with pytest.raises(CardgenError, match=r"deletion\.json: no subject\.json in gone/"):
        load_all(root, catalogue())
