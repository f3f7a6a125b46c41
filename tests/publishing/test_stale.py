"""Evidence older than the catalogue, and verdicts that moved, as they stand on a card."""

from __future__ import annotations

from pathlib import Path

import pytest
from publishing_fixtures import catalogue, record, subject, write_method, write_record, write_subject, write_world

from cardgen.aggregator import verdicts
from cardgen.card import Card, history_lines, make_card
from cardgen.evidence import Catalogue, load_all
from cardgen.history import HISTORY
from cardgen.paths import shipped
from cardgen.stale import stale
from cardgen.templater import render_card

LINE = '{"date":"2026-03-0%d","metric":"%s","old":"pass","new":"%s","parts":%s}\n'


def newer(method: int = 1, metric: int = 1) -> Catalogue:
    """The catalogue with raised versions of Grad-CAM and Deletion."""
    known = catalogue()
    return Catalogue(
        metrics=known.metrics | {"deletion": known.metrics["deletion"].model_copy(update={"version": metric})},
        methods=known.methods | {"grad_cam": known.methods["grad_cam"].model_copy(update={"version": method})},
    )


@pytest.mark.parametrize(
    ("versions", "now", "said"),
    [
        ({"method": 1, "metric": 1}, (1, 1), ""),
        ({}, (1, 1), ""),
        ({"method": 2, "metric": 3}, (1, 1), ""),
        ({"method": 1, "metric": 1}, (1, 3), "Measured with version 1 of the metric, which is at 3."),
        ({"method": 1, "metric": 2}, (2, 2), "Measured with version 1 of the method, which is at 2."),
        (
            {},
            (2, 2),
            "Measured with version 1 of the method, which is at 2 and version 1 of the metric, which is at 2.",
        ),
    ],
)
def test_what_is_newer_than_a_record(versions: dict[str, int], now: tuple[int, int], said: str) -> None:
    assert stale(record("deletion", versions=versions), newer(*now), subject()) == said


def test_what_the_catalogue_does_not_know_is_not_stale() -> None:
    assert stale(record("deletion"), Catalogue(), subject()) == ""


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"weights": "1" * 12, "target": "prediction"}, ""),
        ({"weights": "2" * 12}, "Measured with other weights of the model than the subject has now."),
        ({"target": "3"}, "Measured with another choice of the class explained than the subject has now."),
        (
            {"weights": "2" * 12, "target": "3"},
            "Measured with other weights of the model and another choice of the class explained than the subject has now.",
        ),
    ],
)
def test_what_was_measured_on_another_state_of_the_subject(parts: dict[str, str], said: str) -> None:
    assert stale(record("deletion", key_parts=parts), newer(), subject()) == said
    older = stale(record("deletion", key_parts=parts, versions={}), newer(2), subject())
    assert older == f"Measured with version 1 of the method, which is at 2. {said}".strip()


def card(root: Path, known: Catalogue) -> tuple[Card, str]:
    evidence = load_all(root, known)
    made = make_card("grad_cam", evidence, verdicts(evidence.records), None)
    return made, render_card(made, shipped("templates"))


def test_a_card_marks_stale_evidence_where_it_stands_and_at_its_head(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    made, text = card(root, newer(metric=2))
    assert made.stale == "2 of 10 evaluations"
    assert (
        "\n**Stale:** 2 of 10 evaluations rest on an older version of the method, the metric or the subject; to be measured again.\n"
    ) in text
    marked = [line for line in text.splitlines() if "Measured with version 1 of the metric, which is at 2." in line]
    assert [line[:3] for line in marked] == ["- 🟢", "- 🟨"]
    assert all(" **Stale:** Measured with version 1" in line for line in marked)


def test_a_stale_evaluation_on_one_subject_keeps_its_paragraph(tmp_path: Path) -> None:
    write_subject(tmp_path)
    write_method(tmp_path, "grad_cam")
    for metric in ("deletion", "insertion"):
        write_record(tmp_path, record(metric))
    fresh, old = card(tmp_path, catalogue())[1], card(tmp_path, newer(metric=2))[1]
    added = [line for line in old.splitlines() if line not in fresh.splitlines()]
    assert len(added) == 2
    assert added[1].endswith("n = 200 on digits-cnn). **Stale:** Measured with version 1 of the metric, which is at 2.")
    assert len(old.splitlines()) == len(fresh.splitlines()) + 2


def test_a_current_card_says_nothing_of_it(tmp_path: Path) -> None:
    made, text = card(write_world(tmp_path), catalogue())
    assert (made.stale, made.history) == ("", ())
    assert "Stale" not in text
    assert "## History" not in text


def remember(root: Path, subject: str, *lines: str) -> None:
    (root / subject / "grad_cam" / HISTORY).write_text("".join(lines))


def test_a_card_tells_the_latest_verdicts_that_moved(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    remember(
        root,
        "digits-cnn",
        *(LINE % (day, "insertion", "fail", '["weights","data"]') for day in (1, 2, 3)),
        LINE % (5, "deletion", "inconclusive", "[]"),
    )
    remember(root, "resnet-photos", *(LINE % (day, "my_metric", "fail", '["noise"]') for day in (4, 6)))
    made, text = card(root, catalogue())
    assert made.history == (
        "2026-03-06: my metric on resnet-photos went from pass to fail (noise)",
        "2026-03-05: Deletion on digits-cnn went from pass to inconclusive",
        "2026-03-04: my metric on resnet-photos went from pass to fail (noise)",
        "2026-03-03: Insertion on digits-cnn went from pass to fail (weights and data)",
        "2026-03-02: Insertion on digits-cnn went from pass to fail (weights and data)",
    )
    assert "## History\n\nVerdicts that moved, the latest first:\n\n- 2026-03-06: my metric" in text
    assert text.index("## Perceptibility Testing") < text.index("## History") < text.index("## Citation")


def test_of_one_day_the_line_written_last_is_the_latest(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    states = ("fail", "inconclusive", "pass", "fail", "descriptive", "skipped")
    remember(root, "digits-cnn", *(LINE % (1, "insertion", state, "[]") for state in states))
    said = history_lines("grad_cam", load_all(root, catalogue()))
    assert [line.rpartition(" ")[2] for line in said] == list(reversed(states[1:]))


def test_history_is_of_the_method_alone(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    remember(root, "digits-cnn", LINE % (1, "insertion", "fail", "[]"))
    evidence = load_all(root, catalogue())
    assert len(history_lines("grad_cam", evidence)) == 1
    assert history_lines("rise", evidence) == []


def test_hostile_history_stays_words(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    remember(root, "digits-cnn", LINE % (1, "<b>", "`fail` @me", '["| <!-- cardgen:keep x -->"]'))
    _, text = card(root, catalogue())
    assert r"&lt;b&gt; on digits-cnn went from pass to \`fail\` @&#8203;me (\| &lt;!-- cardgen:keep x --&gt;)" in text
