"""Conflicts: every kind of disagreement, in sentences that stay short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from publishing_fixtures import bare, catalogue, metric_entry, record, write_world

from cardgen.aggregator import load_all, verdicts
from cardgen.card import make_card
from cardgen.conflicts import conflicts
from cardgen.evidence import Evidence
from cardgen.literature import EvaluatedOn, Literature, PublishedVerdict
from cardgen.overview import make_overview
from cardgen.paths import shipped
from cardgen.records import Attribute, Record
from cardgen.templater import render_card, render_overview
from cardgen.words import CONFLICT, CONFLICT_LEGEND

Say = Callable[..., list[str]]


@pytest.fixture
def world(tmp_path: Path) -> Evidence:
    return load_all(write_world(tmp_path), catalogue())


@pytest.fixture
def say(world: Evidence) -> Say:
    def said(
        records: list[Record], *others: PublishedVerdict, attribute: Attribute = "input_sensitivity", table: Any = None
    ) -> list[str]:
        literature = {"grad_cam": Literature(method="grad_cam", verdicts=others, table=table)}
        evidence = replace(world, records=tuple(records), literature=literature)
        return conflicts(verdicts(records), evidence, "grad_cam", attribute)

    return said


def published(metric: str, verdict: str, **changes: Any) -> PublishedVerdict:
    fields: dict[str, Any] = {
        "attribute": "input_sensitivity",
        "metric": metric,
        "verdict": verdict,
        "source": f"https://example.org/{metric}",
        "further_sources": (),
        "evaluated_on": EvaluatedOn(models=(), data=()),
        "kind": "measured",
        "compared_with": (),
        "summary": "It was found.",
    }
    return PublishedVerdict(**(fields | changes))


def many(passing: int, failing: int, subject: str = "digits-cnn") -> list[Record]:
    states = ["pass"] * passing + ["fail"] * failing
    return [
        record(
            f"m{at}",
            subject=subject,
            verdict=state,
            p=None,
            catalogue=metric_entry("deletion", key=f"m{at}", title=f"M{at}"),
        )
        for at, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("passing", "failing", "said"),
    [
        (1, 1, "M0 passes, M1 fails"),
        (2, 1, "M0 and M1 pass, M2 fails"),
        (4, 4, "M0, M1, M2 and M3 pass, M4, M5, M6 and M7 fail"),
        (19, 1, "19 pass, M19 fails"),
        (18, 2, "18 pass, M18 and M19 fail"),
        (1, 19, "M0 passes, 19 fail"),
        (12, 8, "12 pass, 8 fail (M12, M13, M14 and 5 more)"),
        (8, 12, "8 pass (M0, M1, M2 and 5 more), 12 fail"),
        (10, 10, "10 pass, 10 fail (M10, M11, M12 and 7 more)"),
    ],
)
def test_evaluations_that_disagree(say: Say, passing: int, failing: int, said: str) -> None:
    assert say(many(passing, failing)) == [f"Evaluations disagree on digits-cnn: {said}."]


def test_all_alike_and_what_is_open_skipped_or_described_is_no_conflict(say: Say) -> None:
    assert say(many(5, 0)) == say(many(0, 5)) == say([]) == []
    others = [
        bare(state, state, "So it is.", catalogue=metric_entry("deletion", key=state, title=state))
        for state in ("inconclusive", "descriptive", "skipped", "error")
    ]
    assert say([record("deletion"), *others]) == []


def test_final_verdicts_count_and_not_the_records_own(say: Say) -> None:
    taken_back = record("sensitivity_max", requires=["model_weight_randomization"], p=None)
    failed = record("insertion", verdict="fail", p=0.9)
    assert say([taken_back, failed]) == []
    assert say([taken_back, failed], published("sensitivity_max", "fail")) == []


def test_each_subject_has_its_say_and_equal_ones_share_it(say: Say) -> None:
    found = [*many(1, 1, "a"), *many(1, 1, "b"), *many(2, 0, "c")[1:]]
    assert say(found) == [
        "Evaluations disagree on a and b: M0 passes, M1 fails.",
        "Subjects disagree on M1: it passes on c and fails on a and b.",
    ]


def test_subjects_that_disagree_on_several_metrics(say: Say) -> None:
    assert say([*many(2, 0, "a"), *many(0, 2, "b")]) == ["Subjects disagree on 2 evaluations: M0 and M1."]
    assert say([*many(7, 0, "a"), *many(0, 7, "b")]) == ["Subjects disagree on 7 evaluations: M0, M1, M2 and 4 more."]


@pytest.mark.parametrize(
    ("measured", "before", "said"),
    [
        ("fail", "pass", ["Measured and published disagree on Deletion: fail on digits-cnn, published as pass."]),
        ("pass", "fail", ["Measured and published disagree on Deletion: pass on digits-cnn, published as fail."]),
        ("pass", "pass", []),
        ("fail", "fail", []),
        ("pass", "inconclusive", []),
        ("fail", "inconclusive", []),
        ("inconclusive", "pass", []),
        ("descriptive", "fail", []),
    ],
)
def test_measured_against_published(say: Say, measured: str, before: str, said: list[str]) -> None:
    assert say([record("deletion", verdict=measured)], published("deletion", before)) == said


def test_a_published_guarantee_is_called_one(say: Say) -> None:
    assert say([record("deletion", verdict="fail")], published("deletion", "pass", kind="proven")) == [
        "Measured and published disagree on Deletion: fail on digits-cnn, published as pass, guaranteed by the algorithm."
    ]


def test_two_publications_that_agree_are_one_and_open_ones_do_not_count(say: Say) -> None:
    others = [published("deletion", mark) for mark in ("inconclusive", "pass", "pass")]
    found = [record("deletion", subject=name, verdict="fail") for name in ("a", "b")] + [
        record("deletion", subject="c")
    ]
    assert say(found, *others)[-1] == "Measured and published disagree on Deletion: fail on a and b, published as pass."


def test_publications_that_disagree_are_named_alone(say: Say) -> None:
    others = [published("deletion", mark) for mark in ("pass", "fail", "pass")]
    assert say([record("deletion")], *others) == ["Publications disagree on Deletion: 2 pass, 1 fail."]
    assert say([], *others) == ["Publications disagree on Deletion: 2 pass, 1 fail."]
    assert say([], *others, attribute="minimality") == []


def test_many_against_what_was_published(say: Say) -> None:
    others = [published(f"m{at}", "pass" if at >= 1 else "fail") for at in range(9)]
    assert say(many(1, 8), *others)[-1] == (
        "Measured and published disagree on 9 evaluations: "
        "here M0 passes and 8 fail (M1, M2, M3 and 5 more), published the other way."
    )


@pytest.mark.parametrize(
    ("table", "reported", "said"),
    [
        (
            "deterministic",
            {"identical": False, "max_relative_difference": 0.1},
            "runs differ on digits-cnn, published as d",
        ),
        ("deterministic", {"identical": False, "max_relative_difference": 1e-6}, ""),
        ("deterministic", {"identical": True, "max_relative_difference": 0.0}, ""),
        ("conditional", {"identical": False, "max_relative_difference": 0.1}, ""),
        ("non_deterministic", {"identical": False, "max_relative_difference": 0.1}, ""),
        ("non_deterministic", {"identical": True}, "runs are identical on digits-cnn, published as not d"),
        ("deterministic", {}, ""),
    ],
)
def test_repeated_runs_against_table_a1(
    say: Say, world: Evidence, table: str, reported: dict[str, Any], said: str
) -> None:
    row = world.literature["grad_cam"].table
    assert row
    found = say(
        [bare("determinism", "descriptive", "Runs were repeated.", reported=reported)],
        attribute="determinism",
        table=row.model_copy(update={"determinism": table}),
    )
    assert found == ([f"Measured and published disagree: {said}eterministic."] if said else [])


def test_a_card_says_so_at_the_attribute_s_line_and_the_overview_marks_the_cell(world: Evidence) -> None:
    table = verdicts(world.records)
    text = render_card(make_card("grad_cam", world, table, None), shipped("templates"))
    assert (
        "*digits-cnn: 1 pass, 1 fail, 1 open, 1 skipped; resnet-photos: 1 open; of 15 evaluations (measured); "
        "published: 2 open.* **Evaluations disagree on digits-cnn: Deletion passes, Insertion fails.**\n"
    ) in text
    assert (
        "published: 3 pass, 2 open.* **Measured and published disagree on Model Weight Randomization: fail on "
        "digits-cnn, published as pass.**\n"
    ) in text
    overview = make_overview(world, table)
    cells = {row.method: row.cells for row in overview.by_attribute}
    assert (cells["grad_cam"][0], cells["grad_cam"][2]) == ("1 🟢 1 🟥 2 🟨 ≠", "1 🟥 ≠")
    assert not [cell for cell in (*cells["rise"], *cells["vanilla_gradients"]) if CONFLICT in cell]
    assert f"\n{CONFLICT_LEGEND}; the method's card says which.\n" in render_overview(overview, shipped("templates"))


def test_without_a_conflict_nothing_explains_the_mark(world: Evidence) -> None:
    alike = replace(world, records=tuple(record("deletion", key) for key in world.methods))
    text = render_overview(make_overview(alike, verdicts(alike.records)), shipped("templates"))
    assert CONFLICT not in text


def test_a_methodology_attribute_s_conflict_stands_below_its_title(world: Evidence) -> None:
    row = world.literature["grad_cam"].table
    assert row
    literature = {**world.literature, "grad_cam": Literature(method="grad_cam", table=row)}
    found = bare(
        "determinism", "descriptive", "Runs differ.", reported={"identical": False, "max_relative_difference": 1.0}
    )
    evidence = replace(world, records=(found,), literature=literature)
    text = render_card(make_card("grad_cam", evidence, verdicts([found]), None), shipped("templates"))
    assert (
        "\n### Determinism\n\n"
        "**Measured and published disagree: runs differ on digits-cnn, published as deterministic.**\n\n**Measured**\n"
    ) in text
