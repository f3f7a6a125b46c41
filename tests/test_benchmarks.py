"""What the benchmark of the methods counts and writes."""

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.ensemble import ensemble
from benchmarks.methods import bare, lines, methods
from benchmarks.results import FOLDER
from cardgen.methods import real_methods

PAGE = Path(__file__).resolve().parent.parent / "docs" / "methods.md"
CPU = torch.device("cpu")


def test_passes_are_counted_apart():
    result = methods(CPU, n=3, enough=60, rounds=1, only=("vanilla_gradients", "rise", "vit_attention"))
    rows = {row["method"]: (row["forwards a map"], row["forwards and backwards a map"]) for row in result.rows}
    assert rows == {"vanilla_gradients": (0, 1), "rise": (500, 0)}
    assert [note.partition(":")[0] for note in result.notes] == ["vit_attention is left out"]
    assert all(0 < row["lowest"] <= row["efficiency"] <= row["highest"] for row in result.rows)


def test_bare_passes_that_fill_no_batch_are_timed_by_their_share(monkeypatch):
    seen = []
    model = torch.nn.Flatten()
    model.register_forward_hook(lambda m, a, o: seen.append(len(o)))
    monkeypatch.setattr("benchmarks.methods.seconds", lambda run, device: run() or 1.0)
    assert bare(model, torch.rand(2, 1, 2, 2), 6, 4, slope=False) == pytest.approx(6 / 8)
    assert seen == [4, 4, 4]  # one to warm up
    assert bare(model, torch.rand(2, 1, 2, 2), 0, 4, slope=True) == 0


def test_both_ways_to_train_many_models_are_timed():
    result = ensemble(CPU, members=2, n=4, rounds=1)
    rows = {row["way"]: row["seconds"] for row in result.rows}
    assert set(rows) == {"together", "one after another"}
    ratio = rows["one after another"] / rows["together"]
    assert result.notes == [f"together is {ratio:.2f} times as fast as one after another"]
    assert result.met == (ratio < 1)
    assert result.claim == "the way that fit_ensemble chooses here, one after another, is the faster one"


def test_the_table_of_the_page_is_the_one_that_was_measured():
    text = PAGE.read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- table -->\n(.*?)<!-- /table -->", text, re.DOTALL)
    rows = json.loads((FOLDER / "methods.json").read_text(encoding="utf-8"))["rows"]
    assert table.splitlines() == list(lines(rows)), "run python -m benchmarks methods, and put its table into the page"
    assert all(f"`{key}`" in table for key in real_methods())
