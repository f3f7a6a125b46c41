"""Out of memory: seen for what it is, and survived with half the batch."""

from dataclasses import replace

import numpy as np
import pytest
import small_runs
import torch
from small_runs import loaded, made_metric, only, run

from cardgen.memory import ran_out
from cardgen.scores import Scores


def cpu_failure():
    """What torch raises on a CPU when memory ends."""
    try:
        torch.empty(2**62, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("such a tensor cannot exist")


def test_real_failures_are_recognised():
    assert ran_out(cpu_failure())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert ran_out(MemoryError())


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory"), KeyError("x")])
def test_others_are_not(error):
    assert not ran_out(error)


def hungry(most, seen):
    """A metric that needs memory in proportion to the batch: more than `most` samples at once do not fit."""

    def measure(study):
        maps = study.maps()
        seen.append(study.subject.batch)
        if study.subject.batch > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Scores(maps.double().mean((1, 2)).numpy(), np.ones(study.n, dtype=bool), study.flat())

    return measure


def test_the_batch_is_halved_until_the_job_fits_and_stays_so(tmp_path, monkeypatch):
    seen = []
    only(monkeypatch, ("vanilla_gradients", "noise"), [made_metric("hungry", hungry(4, seen)), made_metric("later")])
    of = loaded(batch=16)
    outcome = run(of, tmp_path)
    assert outcome.errors == []
    assert seen == [16, 8, 4]
    found = {record.metric: record for record in outcome.written}
    assert {key: record.provenance.batch for key, record in found.items()} == {"hungry": 4, "later": 4}


def test_the_same_scores_as_with_a_small_batch_from_the_start(tmp_path, monkeypatch):
    only(monkeypatch, ("vanilla_gradients", "noise"), [made_metric("hungry", hungry(4, []))])
    halved = run(loaded(batch=16), tmp_path / "a").written[0]
    small = run(loaded(batch=4), tmp_path / "b").written[0]
    assert halved.estimate == pytest.approx(small.estimate, abs=1e-6)
    assert halved.key == small.key


def test_where_one_sample_does_not_fit_the_failure_is_a_record_and_others_go_on(tmp_path, monkeypatch):
    only(monkeypatch, ("vanilla_gradients", "noise"), [made_metric("hungry", hungry(0, [])), made_metric("later")])
    outcome = run(loaded(), tmp_path)
    assert [record.metric for record in outcome.errors] == ["hungry"]
    assert "out of memory" in outcome.errors[0].reason
    assert {record.metric: record.verdict for record in outcome.written}["later"] == "descriptive"


def test_maps_computed_before_are_not_computed_again(tmp_path, monkeypatch):
    only(monkeypatch, ("vanilla_gradients", "noise"), [made_metric("hungry", hungry(4, []))])
    of = loaded(batch=16)
    with small_runs.forwards(of.subject.model) as seen:
        run(of, tmp_path)
    # 24 samples forwards and back, in segments; the picture's six are among them
    assert sum(seen) == 48


def test_a_halved_subject_shares_what_is_computed():
    subject = loaded(batch=5).subject
    assert (subject.halved().batch, subject.halved().memo) == (2, subject.memo)
    assert replace(subject, batch=1).halved().batch == 1
