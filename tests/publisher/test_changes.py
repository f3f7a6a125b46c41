"""What moved and why: one part of a key at a time, and what noise may not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from publishing_fixtures import bare, catalogue, metric_entry, record, write_world

from cardgen.evidence import load_all
from cardgen.publisher.changes import Change, changes, hold_back, why
from cardgen.records import Comparison, Provenance, Record, Rule

PARTS = {
    "weights": "aa",
    "data": "bb",
    "n": 200,
    "target": "predicted",
    "seed": 0,
    "dtype": "float32",
    "controls": "1 5",
}
VERSIONS = {"method": 1, "metric": 1, "engine": 1}


def found(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "key": "k1",
        "key_parts": PARTS,
        "versions": VERSIONS,
        "parameters": {"steps": 50},
        "budget": "standard",
        "controls": {},
    }
    return record(changes.pop("metric", "deletion"), **{**fields, **changes})


def one(before: Record, after: Record) -> Change:
    (change,) = changes([before], [after])
    return change


def test_the_same_records_in_any_order_have_not_changed() -> None:
    records = [found(), found(metric="insertion"), found(method="rise")]
    assert changes(records, records[::-1]) == []


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({"key_parts": {**PARTS, "weights": "cc"}}, ("weights",)),
        ({"key_parts": {**PARTS, "data": "cc"}}, ("data",)),
        ({"key_parts": {**PARTS, "target": "label"}}, ("target",)),
        ({"key_parts": {**PARTS, "layer": "layer3"}}, ("layer",)),
        ({"key_parts": {**PARTS, "masks": "cc"}}, ("data",)),
        ({"key_parts": {**PARTS, "dtype": "float16"}}, ("number format",)),
        ({"key_parts": {**PARTS, "seed": 1}}, ("seed",)),
        ({"key_parts": {**PARTS, "controls": "2 5"}}, ("controls",)),
        ({"key_parts": {**PARTS, "new_part": 1}}, ("new part",)),
        ({"key_parts": {**PARTS, "n": 64, "data": "cc"}}, ("sample size",)),
        ({"key_parts": {**PARTS, "n": 64, "data": "cc"}, "budget": "quick"}, ("sample size", "budget")),
        ({"versions": {**VERSIONS, "method": 2}}, ("method version",)),
        ({"versions": {**VERSIONS, "metric": 2}}, ("metric version",)),
        ({"versions": {**VERSIONS, "engine": 2}}, ("engine",)),
        ({"parameters": {"steps": 10}}, ("parameters",)),
        ({}, ("parameters",)),  # below the four digits that are stored
        ({"rule": Rule(name="vs_noise", thresholds={"effect": 0.5})}, ("parameters", "thresholds")),
        (
            {"key_parts": {**PARTS, "weights": "cc", "data": "cc"}, "versions": {**VERSIONS, "metric": 2}},
            ("weights", "data", "metric version"),
        ),
    ],
)
def test_each_part_of_a_key_has_its_word(moved: dict[str, Any], said: tuple[str, ...]) -> None:
    assert why(found(), found(key="k2", **moved)) == said
    assert why(found(key="k2", **moved), found()) == said


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({"verdict": "fail", "p": 0.9}, ("noise",)),
        ({"estimate": 0.2135}, ("noise",)),
        ({"verdict": "fail", "rule": Rule(name="vs_noise", thresholds={"effect": 2.0})}, ("thresholds",)),
        ({"verdict": "fail", "rule": Rule(name="vs_noise", thresholds={"effect": 0.2, "n": 9})}, ("noise",)),
        ({"verdict": "fail", "rule": Rule(name="axiom", thresholds={})}, ("decision rule",)),
        ({"catalogue": metric_entry("deletion", requires=("sparsity",))}, ("requirements",)),
        ({"verdict": "skipped", "reason": "no masks"}, ("now skipped",)),
        ({"verdict": "error", "reason": "broken"}, ("now an error",)),
        ({"provenance": Provenance(seconds=3.0)}, ("other evaluations",)),
    ],
)
def test_what_moves_a_verdict_while_the_key_is_the_same(moved: dict[str, Any], said: tuple[str, ...]) -> None:
    assert why(found(), found(**moved)) == said


def test_what_is_skipped_no_longer_is_no_noise() -> None:
    assert why(found(verdict="skipped"), found()) == ("no longer skipped",)
    assert why(found(verdict="error"), found(verdict="skipped")) == ("no longer an error", "now skipped")
    assert why(found(verdict="skipped"), found(verdict="skipped", reason="other")) == ("other evaluations",)


def test_a_moved_verdict_stands_with_both_records() -> None:
    before, after = found(), found(key="k2", key_parts={**PARTS, "weights": "cc"}, verdict="fail", p=0.9)
    change = one(before, after)
    assert (change.subject, change.method, change.metric, change.title) == (
        "digits-cnn", "grad_cam", "deletion", "Deletion",
    )  # fmt: skip
    assert (change.before, change.after) == (before, after)
    assert (change.final_before, change.final_after, change.verdict_moved) == ("pass", "fail", True)
    assert (change.why, change.place) == (("weights",), "digits-cnn/grad_cam/deletion")


@pytest.mark.parametrize(
    "moved", [{"estimate": 0.3}, {"interval": (0.1, 0.3)}, {"p": 0.002}, {"n": 199}, {"flat": 1}, {"effect": 1.0}]
)
def test_a_moved_score_is_a_change_though_the_verdict_is_the_same(moved: dict[str, Any]) -> None:
    assert not one(found(), found(key="k2", **moved)).verdict_moved


@pytest.mark.parametrize(
    "moved",
    [{"key": "k2"}, {"reason": "In other words."}, {"provenance": Provenance(seconds=1.0)}, {"budget": "full"}],
)
def test_what_moves_neither_verdict_nor_score_is_no_change(moved: dict[str, Any]) -> None:
    assert changes([found()], [found(**moved)]) == []


def test_added_and_removed() -> None:
    (added,) = changes([], [found()])
    (removed,) = changes([found()], [])
    assert (added.why, added.before, added.final_before, added.final_after) == (("added",), None, "untested", "pass")
    assert (removed.why, removed.after, removed.final_before, removed.final_after) == (
        ("removed",), None, "pass", "untested",
    )  # fmt: skip


def test_a_verdict_that_only_others_moved_says_so() -> None:
    needing = found(metric="sensitivity_max", requires=["model_weight_randomization"])
    randomized = found(metric="model_weight_randomization")
    failed = found(metric="model_weight_randomization", key="k2", verdict="fail", p=0.9, versions={"metric": 2})
    first, second = changes([needing, randomized], [needing, failed])
    assert (first.metric, first.why) == ("model_weight_randomization", ("metric version",))
    assert (second.metric, second.why) == ("sensitivity_max", ("other evaluations",))
    assert (second.final_before, second.final_after) == ("pass", "inconclusive")


def test_evidence_is_taken_as_well_as_records(tmp_path: Path) -> None:
    evidence = load_all(write_world(tmp_path), catalogue())
    assert changes(evidence, evidence.records) == []
    assert len(changes([], evidence)) == len(evidence.records)


def flipped(seconds: float = 1.0, **changes: Any) -> Record:
    return found(**{"verdict": "fail", "p": 0.9, **changes}, provenance=Provenance(seconds=seconds))


def test_noise_is_held_until_a_second_run_gives_the_same_verdict() -> None:
    first = changes([found()], [flipped(1.0)])
    held, pending = hold_back(first, {})
    assert held == first
    assert pending.keys() == {"digits-cnn/grad_cam/deletion"}
    assert pending["digits-cnn/grad_cam/deletion"]["verdict"] == "fail"
    held, agreed = hold_back(changes([found()], [flipped(2.0)]), pending)
    assert (held, agreed.keys()) == ([], pending.keys())


def test_what_two_runs_agreed_on_is_let_through_until_the_base_says_it() -> None:
    _, pending = hold_back(changes([found()], [flipped(1.0)]), {})
    second = changes([found()], [flipped(2.0)])
    _, agreed = hold_back(second, pending)
    assert hold_back(second, agreed)[0] == []
    assert hold_back(changes([found()], [flipped(3.0)]), agreed)[0] == []
    assert hold_back(changes([flipped(2.0)], [flipped(3.0)]), agreed) == ([], {})


def test_the_same_run_published_twice_does_not_agree_with_itself() -> None:
    again = changes([found()], [flipped(1.0)])
    _, pending = hold_back(again, {})
    assert hold_back(again, pending) == (again, pending)


def test_another_flip_another_key_or_none_starts_anew() -> None:
    _, pending = hold_back(changes([found()], [flipped(1.0)]), {})
    other = changes([found()], [flipped(2.0, verdict="inconclusive")])
    held, now = hold_back(other, pending)
    assert held == other
    assert now["digits-cnn/grad_cam/deletion"]["verdict"] == "inconclusive"
    rekeyed = changes([found(key="k2")], [flipped(2.0, key="k2")])
    assert hold_back(rekeyed, pending)[0] == rekeyed
    assert hold_back([], pending) == ([], {})


def test_scores_that_move_by_noise_alone_are_never_let_through() -> None:
    moved = changes([found()], [found(estimate=0.2135)])
    assert hold_back(moved, {}) == (moved, {})
    unlike = Comparison(kind="noise", estimate=0.5, difference=0.2, interval=(0.1, 0.3), effect=0.5)
    moved = changes([found()], [found(controls={"noise": unlike})])
    assert hold_back(moved, {}) == (moved, {})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (found(), found(key="k2", verdict="fail", key_parts={**PARTS, "weights": "cc"})),
        (found(), found(verdict="fail", rule=Rule(name="vs_noise", thresholds={"effect": 9.0}))),
        (found(), bare("deletion", "skipped", "no masks", key="k1")),
        (found(verdict="error"), found()),
    ],
)
def test_what_has_a_cause_is_not_held(before: Record, after: Record) -> None:
    assert hold_back(changes([before], [after]), {}) == ([], {})
    assert hold_back(changes([], [after]), {}) == ([], {})
    assert hold_back(changes([before], []), {}) == ([], {})
