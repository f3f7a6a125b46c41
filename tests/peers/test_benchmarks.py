"""The benchmarks run, keep strict JSON, and say when there is no peer."""

import json
import sys

import pytest
import torch

from benchmarks.host_time import MODEL, OURS, PEER, host_time, ratio_of_best
from benchmarks.results import save

pytestmark = pytest.mark.peers
CPU = torch.device("cpu")


def tiny_run():
    return host_time(CPU, n=2, batches=(2,), rounds=1)


def test_both_sides_are_timed_and_kept(tmp_path):
    pytest.importorskip("quantus")
    result = tiny_run()
    assert {row["what"] for row in result.rows} == {MODEL, OURS, PEER}
    assert result.met in (True, False)
    kept = json.loads(save(result, CPU, tmp_path).read_text())
    assert kept["packages"]["quantus"]
    assert kept["rows"][0]["ms a sample"] > 0


def test_without_a_peer_nothing_is_claimed(monkeypatch):
    monkeypatch.setitem(sys.modules, "quantus", None)
    result = tiny_run()
    assert {row["what"] for row in result.rows} == {MODEL, OURS}
    assert result.met is None
    assert result.notes[0].startswith("Quantus is not installed")


def test_each_side_counts_in_its_best_batch():
    spent = {(OURS, 4): [3.0, 2.0, 9.0], (OURS, 8): [4.0], (PEER, 4): [30.0], (PEER, 8): [20.0, 10.0, 90.0]}
    assert ratio_of_best(spent) == pytest.approx(3 / 20)
    assert ratio_of_best({(OURS, 4): [1.0]}) is None
