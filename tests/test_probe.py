"""The batch size that a model is run with where nobody names one."""

import pytest
import torch
from torch import nn

from cardgen import probe
from cardgen.memory import ran_out

EXAMPLE = torch.zeros(1, 3, 2, 2)


@pytest.fixture
def timed(monkeypatch):
    """A stand-in for the stopwatch: seconds of one forward pass by batch size; the sizes asked for are kept."""

    def install(seconds):
        asked = []

        def throughput(model, example, size):
            asked.append(size)
            return size / seconds(size)

        monkeypatch.setattr(probe, "throughput", throughput)
        return asked

    return install


def found():
    return probe._search(nn.Identity(), EXAMPLE)


def test_the_smallest_of_sizes_about_as_fast_is_taken(timed):
    asked = timed(lambda size: 1e-4 * max(size, 16))
    assert found() == 16
    assert max(asked) == probe.LARGEST


def test_sizes_far_slower_end_the_search(timed):
    asked = timed(lambda size: 1e-4 * (size if size < 8 else 3 * size))
    assert found() == 1
    assert max(asked) == 8


def test_no_size_is_tried_after_one_whose_pass_takes_half_a_second(timed):
    asked = timed(lambda size: 0.2 * size)  # a large network on a CPU: 0.8 s at a batch of 4
    assert found() == 1
    assert asked == [1, 2, 4] * probe.ROUNDS


def test_a_single_sample_that_takes_long_is_a_batch(timed):
    asked = timed(lambda size: 3.0 * size)
    assert found() == 1
    assert asked == [1] * probe.ROUNDS


def test_memory_that_runs_out_ends_the_search(monkeypatch):
    def throughput(model, example, size):
        if size > 4:
            raise torch.OutOfMemoryError
        return 100.0 * size

    assert ran_out(torch.OutOfMemoryError())
    monkeypatch.setattr(probe, "throughput", throughput)
    assert found() == 4


def test_the_answer_is_kept_for_the_user(timed, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = timed(lambda size: 1e-4 * max(size, 32))
    assert [probe.batch_size(nn.Identity(), EXAMPLE) for _ in range(2)] == [32, 32]
    assert asked == [2**k for k in range(11)] * probe.ROUNDS
