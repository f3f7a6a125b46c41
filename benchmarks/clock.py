"""Rates and times that can be compared: the runs take turns, so that a slow moment of the machine meets all of them."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cardgen.forward import prepared
from cardgen.timing import synchronise

K = TypeVar("K", bound=Hashable)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one run."""
    synchronise(device)
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


def taking_turns(runs: Mapping[K, Callable[[], object]], device: torch.device, rounds: int) -> dict[K, list[float]]:
    """Wall times of each run in each round, after one run of each to warm up."""
    for run in runs.values():
        run()
    times: dict[K, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return times


def forward_rate(model: nn.Module, inputs: Tensor, batch: int, at_least: float) -> float:
    """Samples a second that the bare model forwards in batches of one size, over `at_least` seconds; the mean, no best of several."""
    rows = torch.arange(batch, device=inputs.device) % len(inputs)
    full = inputs[rows]
    samples = 0
    with prepared(model), torch.no_grad():
        model(full)
        synchronise(inputs.device)
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < at_least:
            model(full)
            synchronise(inputs.device)
            samples += batch
    return samples / spent


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: what the host does is then one clock's time, and no thread waits for another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def sweep(model: nn.Module, inputs: Tensor, batches: list[int], at_least: float) -> dict[int, float]:
    """The bare model's rate at each batch size; sizes that do not fit into memory are left out."""
    rates = {}
    for batch in batches:
        try:
            rates[batch] = forward_rate(model, inputs, batch, at_least)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
    return rates


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(np.median(values))
