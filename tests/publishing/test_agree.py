"""Measured against published verdicts: κ by hand and by scikit-learn, the pairs, and what is written of them."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from publishing_fixtures import bare, record, write_method, write_record, write_subject, write_world
from sklearn.metrics import cohen_kappa_score

from cardgen.agree import THREE, TWO, Agreement, agree
from cardgen.agree_formats import COLUMNS, citation, write
from cardgen.cli import main
from cardgen.errors import CardgenError
from cardgen.kappa import ENOUGH, Kappa, kappa
from cardgen.literature import Paper

MARKS = ("pass", "fail", "inconclusive")
RATERS = ("the first", "the second")


def of(pairs: list[tuple[str, str]]) -> Kappa:
    return kappa(pairs, range(len(pairs)), RATERS)


def table(both: int, first: int, second: int, neither: int) -> list[tuple[str, str]]:
    cells = [("pass", "pass"), ("pass", "fail"), ("fail", "pass"), ("fail", "fail")]
    return [cell for cell, count in zip(cells, (both, first, second, neither), strict=True) for _ in range(count)]


def test_kappa_worked_by_hand() -> None:
    # p_o = (20 + 15)/50 = 0.7; p_e = 25/50 · 30/50 + 25/50 · 20/50 = 0.5; κ = 0.2/0.5
    found = of(table(20, 5, 10, 15))
    assert (found.n, found.same, found.value) == (50, 35, pytest.approx(0.4))
    # p_o = 4/5; the first: 2 pass, 2 fail, 1 open; the second: 2 pass, 1 fail, 2 open: p_e = (2·2 + 2·1 + 1·2)/25; κ = (20 − 8)/(25 − 8)
    three = [("pass", "pass")] * 2 + [("fail", "fail"), ("fail", "inconclusive"), ("inconclusive", "inconclusive")]
    assert of(three).value == pytest.approx(12 / 17)


@given(st.lists(st.tuples(st.sampled_from(MARKS), st.sampled_from(MARKS)), min_size=2, max_size=40))
def test_kappa_is_scikit_learn_s(pairs: list[tuple[str, str]]) -> None:
    found = of(pairs)
    if min(len(set(side)) for side in zip(*pairs, strict=True)) < 2:
        assert found.value is None
    else:
        assert found.value == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))


@pytest.mark.parametrize(
    ("pairs", "note"),
    [
        ([], "no such pair"),
        (table(2, 1, 0, 0), "the first is always pass, so that agreement cannot be told from chance"),
        (table(0, 1, 0, 4), "the second is always fail, so that agreement cannot be told from chance"),
        (
            table(4, 0, 0, 0),
            "the first is always pass and the second is always pass, so that agreement cannot be told from chance",
        ),
    ],
)
def test_without_a_value_there_are_words(pairs: list[tuple[str, str]], note: str) -> None:
    found = of(pairs)
    assert (found.value, found.interval, found.note) == (None, None, note)
    assert (found.n, found.same) == (len(pairs), sum(a == b for a, b in pairs))


@pytest.mark.parametrize(
    ("pairs", "note"),
    [
        (table(8, 3, 3, 5), f"fewer than {ENOUGH} independent pairs, so no interval"),
        (table(12, 0, 0, 12), "all pairs agree, so their spread gives no interval"),
        (table(20, 3, 0, 1), "it hangs on a single pair, so no interval"),
    ],
)
def test_without_an_interval_there_are_words(pairs: list[tuple[str, str]], note: str) -> None:
    found = of(pairs)
    assert found.value is not None
    assert (found.interval, found.note) == (None, note)


def large_sample_error(pairs: list[tuple[str, str]]) -> float:
    """Fleiss, Cohen & Everitt 1969, eq. 13, term by term."""
    n = len(pairs)
    share = {(a, b): pairs.count((a, b)) / n for a in MARKS for b in MARKS}
    row = {a: sum(share[a, b] for b in MARKS) for a in MARKS}
    column = {b: sum(share[a, b] for a in MARKS) for b in MARKS}
    observed, chance = sum(share[a, a] for a in MARKS), sum(row[a] * column[a] for a in MARKS)
    value = (observed - chance) / (1 - chance)
    agree = sum(share[a, a] * (1 - (row[a] + column[a]) * (1 - value)) ** 2 for a in MARKS)
    differ = (1 - value) ** 2 * sum(share[a, b] * (column[a] + row[b]) ** 2 for a in MARKS for b in MARKS if a != b)
    last = (value - chance * (1 - value)) ** 2
    return math.sqrt((agree + differ - last) / n) / (1 - chance)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_the_large_sample_one_where_samples_are_large(seed: int) -> None:
    drawn = random.Random(seed)
    pairs = [(mark, mark if drawn.random() < 0.6 else drawn.choice(MARKS)) for mark in drawn.choices(MARKS, k=400)]
    found = of(pairs)
    assert found.interval
    assert found.value == pytest.approx(sum(found.interval) / 2)
    assert (found.interval[1] - found.interval[0]) / 2 == pytest.approx(1.96 * large_sample_error(pairs), rel=0.03)


def test_pairs_of_a_block_count_once() -> None:
    pairs = table(10, 4, 6, 10)
    once, twice = of(pairs), kappa([*pairs, *pairs], [*range(30), *range(30)], RATERS)
    assert (twice.value, twice.interval) == (pytest.approx(once.value), pytest.approx(once.interval))
    apart = of([*pairs, *pairs])
    assert once.interval
    assert apart.interval
    assert apart.interval[1] - apart.interval[0] < once.interval[1] - once.interval[0]


def publish(root: Path, method: str, *verdicts: tuple[str, str], **changes: Any) -> None:
    """A literature file of (metric, verdict)."""
    listed = [
        {
            "attribute": "input_sensitivity",
            "metric": metric,
            "verdict": verdict,
            "source": f"https://example.org/{metric}/{at}",
            "further_sources": [],
            "evaluated_on": {"models": ["VGG"], "data": ["Photos"]},
            "kind": "measured",
            "compared_with": [],
            "summary": f"{metric} was {verdict}.",
            **changes,
        }
        for at, (metric, verdict) in enumerate(verdicts)
    ]
    folder = root / "literature"
    folder.mkdir(exist_ok=True)
    (folder / f"{method}.yaml").write_text(yaml.safe_dump({"method": method, "verdicts": listed}))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two subjects and two methods, each kind of verdict; LIME was published on and never measured."""
    for name in ("a", "b"):
        write_subject(tmp_path, name)
        for method in ("grad_cam", "rise"):
            write_method(tmp_path, method, name)
    write_record(tmp_path, record("deletion", subject="a"))
    write_record(tmp_path, record("deletion", subject="b", verdict="fail", p=0.9, reason="No better than noise."))
    write_record(tmp_path, record("insertion", subject="a", verdict="inconclusive", p=0.2))
    write_record(tmp_path, record("infidelity", subject="a", verdict="descriptive", p=None))
    write_record(tmp_path, bare("infidelity", "skipped", "no gradients", subject="b"))
    write_record(tmp_path, record("sensitivity_max", subject="a", requires=["insertion"]))
    write_record(tmp_path, record("deletion", "rise", subject="a", verdict="fail", p=0.9))
    write_record(tmp_path, bare("insertion", "skipped", "too long", method="rise", subject="a"))
    publish(
        tmp_path,
        "grad_cam",
        ("deletion", "pass"),
        ("insertion", "pass"),
        ("infidelity", "fail"),
        ("sensitivity_max", "inconclusive"),
    )
    publish(tmp_path, "rise", ("deletion", "pass"), ("deletion", "fail"), ("insertion", "pass"))
    publish(tmp_path, "lime", ("deletion", "fail"))
    return tmp_path


def told(found: Agreement) -> list[tuple[str, ...]]:
    return [(p.record.subject, p.record.method, p.record.metric, p.measured, p.published) for p in found.pairs]


def test_the_pairs_are_those_with_both_verdicts_and_the_final_one_counts(small: Path) -> None:
    assert told(agree(small)) == [
        ("a", "grad_cam", "deletion", "pass", "pass"),
        ("a", "grad_cam", "insertion", "inconclusive", "pass"),
        ("a", "grad_cam", "sensitivity_max", "inconclusive", "inconclusive"),
        ("a", "rise", "deletion", "fail", "inconclusive"),
        ("b", "grad_cam", "deletion", "fail", "pass"),
    ]


def test_three_way_and_two_way_over_all_and_each_subject(small: Path) -> None:
    found = {(scope.subject, scope.compared): scope.kappa for scope in agree(small).scopes}
    assert {key: (one.same, one.n) for key, one in found.items()} == {
        ("", THREE): (2, 5),
        ("", TWO): (1, 2),
        ("a", THREE): (2, 4),
        ("a", TWO): (1, 1),
        ("b", THREE): (0, 1),
        ("b", TWO): (0, 1),
    }
    # p_o = 2/5; measured 1 pass, 2 fail, 2 open; published 3 pass, 2 open: p_e = (1·3 + 2·2)/25 = 7/25
    assert found["", THREE].value == pytest.approx((10 - 7) / (25 - 7))
    assert found["", TWO].note == "the published one is always pass, so that agreement cannot be told from chance"


def test_one_subject_alone(small: Path) -> None:
    found = agree(small, "b")
    assert (found.subjects, [scope.subject for scope in found.scopes]) == (("b",), ["", ""])
    assert told(found) == [("b", "grad_cam", "deletion", "fail", "pass")]
    assert found.unpaired == {"skipped": 1, "untested": 5}


def test_published_cells_without_a_measured_verdict_are_counted(small: Path) -> None:
    found = agree(small)
    assert (found.published, found.unpaired) == (7, {"descriptive": 1, "skipped": 1, "untested": 1})


def test_pass_against_fail_comes_first(small: Path) -> None:
    assert [(pair.measured, pair.published) for pair in agree(small).disagreements] == [
        ("fail", "pass"),
        ("inconclusive", "pass"),
        ("fail", "inconclusive"),
    ]


def test_an_unknown_subject_is_refused(small: Path) -> None:
    with pytest.raises(CardgenError) as caught:
        agree(small, "c")
    assert str(caught.value) == "subject: got 'c'; expected one of a, b; choose one"


def test_an_unknown_format_is_refused(small: Path) -> None:
    with pytest.raises(CardgenError) as caught:
        write(agree(small), "xml")
    assert str(caught.value) == "format: got 'xml'; expected one of text, markdown, csv, json; choose one"


def test_csv_and_json_hold_every_pair_with_both_sources(small: Path) -> None:
    found = agree(small)
    rows = list(csv.DictReader(io.StringIO(write(found, "csv").decode())))
    whole = json.loads(write(found, "json"))
    assert list(rows[0]) == list(COLUMNS) == list(whole["pairs"][0])
    assert [row["key"] for row in rows] == [pair["key"] for pair in whole["pairs"]] == ["0" * 64] * 5
    assert whole["pairs"][4] == {
        "subject": "b",
        "method": "grad_cam",
        "metric": "deletion",
        "title": "Deletion",
        "attribute": "input_sensitivity",
        "measured": "fail",
        "published": "pass",
        "agree": False,
        "estimate": 0.2134,
        "low": 0.187,
        "high": 0.2398,
        "n": 200,
        "reason": "No better than noise.",
        "why": "",
        "key": "0" * 64,
        "paper": "https://example.org/deletion/0",
        "source": "https://example.org/deletion/0",
        "further_sources": "",
        "kind": "measured",
        "evaluated_on": "Photos, VGG",
        "summary": "deletion was pass.",
    }
    assert (rows[4]["agree"], rows[4]["low"]) == ("False", "0.187")
    assert whole["agreement"][0] == {
        "subject": "all",
        "compared": THREE,
        "pairs": 5,
        "agree": 2,
        "kappa": pytest.approx(1 / 6),
        "low": None,
        "high": None,
        "note": "fewer than 20 independent pairs, so no interval",
    }
    assert (whole["published"], whole["unpaired"]) == (7, {"descriptive": 1, "skipped": 1, "untested": 1})


def test_markdown_says_it_in_tables(small: Path) -> None:
    text = write(agree(small), "markdown").decode()
    assert text.startswith("<!-- Written by `cardgen agree --format markdown`; do not edit. -->\n# Measured against")
    assert (
        "\n| all | pass, fail or inconclusive | 2 of 5 (40 %) | 0.167; fewer than 20 independent pairs, so no interval |\n"
        in text
    )
    assert "\n| measured ↓, published → | 🟢 pass | 🟥 fail | 🟨 inconclusive |\n" in text
    assert "\n| 🟥 fail | 1 | 0 | 1 |\n" in text
    assert (
        "\nPublished verdicts: 7; with a measured one beside them: 4 "
        "(the others: 1 measured without a verdict, 1 skipped and 1 not measured).\n"
    ) in text
    row = next(line for line in text.splitlines() if line.startswith("| Grad-CAM | Deletion | b "))
    assert "🟥 fail: No better than noise" in row
    assert row.endswith(
        "| 🟢 pass: deletion was pass (on Photos; with VGG). [https://example.org/deletion/0](https://example.org/deletion/0) |"
    )
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert (html.count("<table>"), html.count("<tr>")) == (3, 1 + 6 + 1 + 3 + 1 + 3)


def test_what_would_be_markup_is_words(small: Path) -> None:
    publish(small, "lime", ("deletion", "fail"))
    nasty = "a | b <b>[x](http://y)</b>"
    write_record(small, record("deletion", subject="b", verdict="fail", p=0.9, reason=nasty))
    html = MarkdownIt("commonmark").enable("table").render(write(agree(small), "markdown").decode())
    assert "<b>" not in html
    assert html.count("<tr>") == 15
    assert "[x](http://y)" in " ".join(write(agree(small), "text", 200).decode().split())


def test_nothing_to_compare(tmp_path: Path) -> None:
    found = agree(write_world(tmp_path), "resnet-photos")
    assert [scope.kappa.note for scope in found.scopes][1] == "no such pair"
    (tmp_path / "none").mkdir()
    empty = agree(tmp_path / "none")
    assert "0 of 0 | none; no such pair |" in write(empty, "markdown").decode()
    assert "They disagree nowhere." in write(empty, "markdown").decode()
    assert (json.loads(write(empty, "json"))["pairs"], write(empty, "csv").decode().strip()) == ([], ",".join(COLUMNS))


def test_the_shipped_literature_is_compared_and_papers_are_cited(tmp_path: Path) -> None:
    found = agree(write_world(tmp_path))
    assert found.published == 86
    assert ("digits-cnn", "grad_cam", "model_weight_randomization", "fail", "pass") in told(found)
    assert "Arun et al. 2021, https://pubs.rsna.org/doi/10.1148/ryai.2021200267" in " ".join(
        write(found, "text", 400).decode().split()
    )


@pytest.mark.parametrize(
    ("authors", "said"),
    [
        (("Ada B. Lovelace",), "Lovelace 2001"),
        (("A X", "B Y"), "X and Y 2001"),
        (("A X", "B Y", "C Z"), "X et al. 2001"),
        ((), "u"),
    ],
)
def test_a_citation(authors: tuple[str, ...], said: str) -> None:
    assert citation(Paper(title="T", authors=authors, year=2001, url="u"), "u") == said


def test_the_command(small: Path) -> None:
    run = CliRunner()
    found = run.invoke(main, ["agree", "--evaluations", str(small)])
    assert found.exit_code == 0, found.output
    for part in ("Measured against published verdicts", "2 of 5 (40 %)", "Where they disagree", "Grad-CAM: Deletion"):
        assert part in found.output
    out = small / "out.md"
    assert (
        run.invoke(main, ["agree", "--evaluations", str(small), "--format", "markdown", "--out", str(out)]).output == ""
    )
    assert out.read_bytes() == write(agree(small), "markdown")
    assert (
        len(
            run.invoke(
                main, ["agree", "--evaluations", str(small), "--subject", "b", "--format", "csv"]
            ).output.splitlines()
        )
        == 2
    )
