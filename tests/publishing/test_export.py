"""Exports, each read back by the tool that it is for."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from markdown_it import MarkdownIt
from publishing_fixtures import METHODS, record, some_records, write_method, write_record, write_subject, write_world

from cardgen.aggregator import load_all, rows, verdicts
from cardgen.cli import main
from cardgen.errors import CardgenError
from cardgen.export import COLUMNS, export


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "evaluations")


def loaded(data: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(data)
    return found


def test_a_row_in_full(tmp_path: Path) -> None:
    write_subject(tmp_path)
    write_method(tmp_path, "grad_cam")
    write_record(tmp_path, record("deletion", versions={"method": 2, "metric": 3}, budget="standard"))
    (row,) = loaded(export(tmp_path, "json"))
    assert row == {
        "subject": "digits-cnn",
        "model": "cnn",
        "data": "digits",
        "method": "grad_cam",
        "metric": "deletion",
        "title": "Deletion",
        "attribute": "input_sensitivity",
        "verdict": "pass",
        "own_verdict": "pass",
        "why": "",
        "reason": "Beats every noise control; the least beaten is smooth noise 7×7.",
        "advice": "",
        "estimate": 0.2134,
        "low": 0.187,
        "high": 0.2398,
        "quantity": "area under the curve",
        "unit": "",
        "direction": "lower",
        "effect": 1.234,
        "p": 0.0001,
        "n": 200,
        "flat": 0,
        "budget": "standard",
        "rule": "vs_noise",
        "method_version": 2,
        "metric_version": 3,
        "stale": "",
        "source": "https://example.org/deletion",
        "key": "0" * 64,
    }
    assert list(row) == list(COLUMNS)


def test_every_record_is_a_row_and_no_control_is(world: Path) -> None:
    found = loaded(export(world, "json"))
    places = [(row["subject"], row["method"], row["metric"]) for row in found]
    assert sorted(places) == sorted((r.subject, r.method, r.metric) for r in some_records())
    assert {row["method"] for row in found} == METHODS.keys()


def test_the_verdict_is_the_final_one_beside_the_records_own(world: Path) -> None:
    evidence = load_all(world)
    finals = {(row.subject, row.method, row.metric): row.final for row in rows(verdicts(evidence.records))}
    found = loaded(export(world, "json"))
    assert all(row["verdict"] == finals[row["subject"], row["method"], row["metric"]] for row in found)
    other = [row for row in found if row["verdict"] != row["own_verdict"]]
    assert other
    assert all((row["own_verdict"], row["verdict"]) == ("pass", "inconclusive") and row["why"] for row in other)


def test_the_three_tables_say_the_same(world: Path) -> None:
    from_json = loaded(export(world, "json"))
    from_parquet = pd.read_parquet(io.BytesIO(export(world, "parquet")))
    from_csv = pd.read_csv(io.BytesIO(export(world, "csv")), keep_default_na=False, dtype=str)
    assert list(from_csv) == list(from_parquet) == list(COLUMNS)
    assert len(from_csv) == len(from_parquet) == len(from_json)
    for at, row in enumerate(from_json):
        for name, value in row.items():
            text, cell = from_csv.loc[at, name], from_parquet.loc[at, name]
            if value is None:
                assert (text, pd.isna(cell)) == ("", True)
            else:
                assert (type(value)(text), type(value)(cell)) == (value, value)


def test_numbers_are_numbers_in_parquet(world: Path) -> None:
    table = pd.read_parquet(io.BytesIO(export(world, "parquet")))
    assert (str(table["estimate"].dtype), str(table["n"].dtype)) == ("Float64", "Int64")
    assert table["p"].isna().sum() == sum(row["p"] is None for row in loaded(export(world, "json")))


def test_what_a_spreadsheet_would_run_is_text(tmp_path: Path) -> None:
    write_subject(tmp_path)
    write_method(tmp_path, "grad_cam")
    reason = '=HYPERLINK("https://evil.org","a, b")\n| x'
    write_record(tmp_path, record("deletion", reason=reason, estimate=-0.5))
    (row,) = csv.DictReader(io.StringIO(export(tmp_path, "csv").decode()))
    assert (row["reason"], row["estimate"]) == (f"'{reason}", "-0.5")
    assert loaded(export(tmp_path, "json"))[0]["reason"] == reason


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_nothing_measured_is_an_empty_table(tmp_path: Path, kind: str) -> None:
    data = export(tmp_path, kind)
    if kind == "json":
        assert loaded(data) == []
    elif kind == "csv":
        assert data.decode() == ",".join(COLUMNS) + "\n"
    else:
        assert (len(pd.read_parquet(io.BytesIO(data))), list(pd.read_parquet(io.BytesIO(data)))) == (0, list(COLUMNS))


def test_one_subject_alone(world: Path) -> None:
    assert {row["subject"] for row in loaded(export(world, "json", "resnet-photos"))} == {"resnet-photos"}


def test_the_same_records_give_the_same_bytes(world: Path) -> None:
    assert all(export(world, kind, "digits-cnn") == export(world, kind, "digits-cnn") for kind in ("csv", "json", "hf"))


def split(data: bytes) -> tuple[dict[str, Any], str]:
    found = re.fullmatch(r"---\n(.*?)\n---\n(.*)", data.decode(), re.DOTALL)
    assert found
    return yaml.safe_load(found[1]), found[2]


def test_a_model_card_s_metadata(world: Path) -> None:
    header, _ = split(export(world, "hf", "resnet-photos"))
    data = {"type": "digits", "name": "digits"}
    assert header == {
        "tags": ["interpretability", "saliency-cards"],
        "model-index": [
            {
                "name": "cnn",
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": data,
                        "metrics": [{"type": "accuracy", "value": 0.975, "name": "Accuracy"}],
                    },
                    {
                        "task": {"type": "image-classification", "name": "Saliency"},
                        "dataset": data,
                        "metrics": [
                            {"type": "deletion", "value": 0.2134, "name": "Deletion of Grad-CAM: inconclusive"}
                        ],
                    },
                ],
            }
        ],
    }


def test_the_hub_s_own_reader_takes_the_metadata(world: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(export(world, "hf", "digits-cnn").decode())
    results = {found.metric_name: found for found in card.data.eval_results}
    assert card.data.model_name == "cnn"
    assert card.data.tags == ["interpretability", "saliency-cards"]
    insertion = results["Insertion of Grad-CAM: fail"]
    assert (insertion.metric_type, insertion.metric_value, insertion.dataset_type) == ("insertion", 0.3, "digits")
    assert results["Accuracy"].metric_value == 0.975
    assert not [name for name in results if "Infidelity of Grad-CAM" in name]  # skipped: no score


def test_a_model_card_s_section(world: Path) -> None:
    _, text = split(export(world, "hf", "digits-cnn"))
    assert text.startswith("\n## Model Examination\n\n")
    assert "on Subject digits-cnn (200 samples; accuracy 0.975, 95 % interval 0.943 to 0.989)." in text
    assert f"| RISE | 1 🟢 | ▫️ | ▫️ | ▫️ | ▫️ | 1 of {len(load_all(world).metrics)} |\n" in text
    assert "\n- RISE (1 pass) passes Deletion.\n" in text
    assert (
        "\n- Grad-CAM (1 pass, 2 fail, 1 open, 3 descriptive, 1 skipped, 1 stopped with an error) passes Deletion; "
        "fails Insertion and Model Weight Randomization; stays open on Sensitivity.\n"
    ) in text
    assert "[Deletion](https://example.org/deletion)" in text
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert (html.count("<h2>"), html.count("<table>"), html.count("<li>")) == (1, 1, 3)


def test_a_model_whose_accuracy_nobody_knows(tmp_path: Path) -> None:
    write_subject(tmp_path, accuracy=None, accuracy_interval=None, health="unknown")
    header, text = split(export(tmp_path, "hf"))
    assert header == {"tags": ["interpretability", "saliency-cards"]}
    assert "accuracy not known" in text
    assert text.endswith("No method has been measured yet.\n")


def test_hostile_words_stay_words_in_a_model_card(tmp_path: Path) -> None:
    nasty = '"\n---\n# <b>| @me'
    write_subject(tmp_path, title=nasty, model=nasty, data=nasty)
    write_method(tmp_path, "grad_cam")
    write_record(tmp_path, record("deletion"))
    header, text = split(export(tmp_path, "hf"))
    assert header["model-index"][0]["name"] == nasty
    assert header["model-index"][0]["results"][0]["dataset"]["type"] == nasty
    assert "<b>" not in text
    assert "@me" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hf",), "hf speaks of one model, and there are 2 subjects; expected one of digits-cnn, resnet-photos; choose it "
                  "with --subject"),
        (("csv", "digits"), "subject: got 'digits'; expected one of digits-cnn, resnet-photos; choose one"),
        (("xml",), "format: got 'xml'; expected one of hf, csv, parquet, json; choose one"),
    ],
)  # fmt: skip
def test_what_is_refused(world: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(CardgenError) as caught:
        export(world, *arguments)
    assert str(caught.value) == message


def test_parquet_without_pyarrow_says_what_to_install(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", missing)
    with pytest.raises(CardgenError) as caught:
        export(world, "parquet")
    assert str(caught.value) == (
        "parquet needs pyarrow, which is not installed; expected it beside cardgen; run `pip install pyarrow`, "
        "or choose csv or json"
    )


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "hf"])
def test_the_command_prints_or_writes_the_bytes(world: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "there" / f"verdicts.{kind}"
    given = ["export", "--evaluations", str(world), "--format", kind, "--subject", "digits-cnn"]
    printed = CliRunner().invoke(main, given)
    assert printed.exception is None, printed.exception
    assert (printed.exit_code, printed.stdout_bytes) == (0, export(world, kind, "digits-cnn"))
    written = CliRunner().invoke(main, [*given, "--out", str(out)])
    assert (written.exit_code, written.output, out.read_bytes()) == (0, "", printed.stdout_bytes)


def test_export_and_verify_need_no_torch(world: Path) -> None:
    import subprocess

    code = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
        "from cardgen.cli import main; main()"
    )  # fmt: skip
    for arguments in (["export", "--format", "json"], ["verify", "--cards", str(world / "none")]):
        found = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--evaluations", str(world)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (found.stderr, found.returncode) == ("", 0 if arguments[0] == "export" else 1)
