"""How much of the bare model's speed is left when cardgen measures with it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.clock import median, seconds, sweep
from benchmarks.results import Result
from cardgen import explain, measure
from cardgen.forward import counted, prepared
from cardgen.methods.rise import random_masks
from cardgen.probe import LARGEST, batch_size
from cardgen.space import Space
from cardgen.subjects import digits_on_scenes as digits
from cardgen.subjects.networks import load_embedded, normalised

TARGET = 0.9
NEAR = 0.85
"""Batch sizes whose first rate is below this share of the best are not tried again, but for the one that cardgen uses."""


def efficiency(
    device: torch.device, *, n: int = 200, masked: int = 32, masks: int = 500, rounds: int = 5, at_least: float = 1.0
) -> Result:
    """Samples forwarded ÷ wall seconds ÷ the bare model's best rate, for deletion, insertion and RISE; the median of the rounds.

    Wall time is that of the whole call of `measure` or `explain`, from the user's tensors to the scores, in the batch size that the probe
    finds. The best rate is that of the batch size with the highest median over all sweeps; it is measured again in each round, just before
    what it is compared with.

    Args:
        device: where to measure.
        n: samples of deletion and insertion.
        masked: samples of RISE.
        masks: masks of RISE.
        rounds: repetitions.
        at_least: seconds of bare forward passes, for each batch size in each round.
    """
    model = load_embedded("digit-cnn").to(device)
    inputs, targets = samples(n, device)
    with fresh_cache():
        batch = batch_size(model, inputs[:1])
    runs = workloads(model, inputs, targets, batch, masked, masks)
    forwarded = {key: forward_count(model, run) for key, run in runs.items()}  # warms up, too

    batches = [2**i for i in range(LARGEST.bit_length())]
    first = sweep(model, inputs, batches, at_least / 4)
    likely = [size for size, rate in first.items() if rate >= NEAR * max(first.values()) or size == batch]
    bare: list[dict[int, float]] = []
    rates: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            bare.append(sweep(model, inputs, likely, at_least))
            rates[key].append(forwarded[key] / seconds(run, device))
    # the best size is that of the best median: the best of each sweep would be the luckiest of several noisy rates
    fastest = max(likely, key=lambda size: median([sweep[size] for sweep in bare if size in sweep]))
    found = {
        key: [rate / sweep[fastest] for rate, sweep in zip(rates[key], bare[place :: len(runs)], strict=True)]
        for place, key in enumerate(runs)
    }
    medians = {key: median(shares) for key, shares in found.items()}
    rows = [
        {
            "workload": key,
            "samples forwarded": forwarded[key],
            "efficiency": medians[key],
            "lowest": min(found[key]),
            "highest": max(found[key]),
        }
        for key in runs
    ]
    best = [sweep[fastest] for sweep in bare]
    settings = {"model": "digit-cnn", "image": list(inputs.shape[1:]), "n": n, "rise_n": masked, "rise_masks": masks}
    return Result(
        "efficiency",
        f"at least {TARGET} of the bare model's best rate",
        min(medians.values()) >= TARGET,
        {**settings, "rounds": rounds, "batch": batch},
        rows,
        {"first_sweep": first, "sweeps": bare, "efficiency": found},
        [
            f"bare model: {median(best):.0f} samples a second at best, in batches of {likely}; cardgen's probe chose {batch}"
        ],
    )


def samples(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images in the model's space, and their digits."""
    scenes = digits.assemble("test", n=n)
    return normalised(torch.from_numpy(scenes.images)).to(device), torch.from_numpy(scenes.digits).to(device)


def workloads(
    model: nn.Module, inputs: Tensor, targets: Tensor, batch: int, masked: int, masks: int
) -> dict[str, Callable[[], object]]:
    """The calls that are timed. RISE draws its masks anew each time."""
    draws = torch.Generator().manual_seed(0)
    maps = torch.rand(inputs[:, 0].shape, generator=draws).to(inputs.device)
    common = {"batch": batch, "space": Space.normalised(digits.MEAN, digits.STD)}

    def rise() -> object:
        random_masks.cache_clear()
        return explain("rise", model, inputs[:masked], targets[:masked], n_masks=masks, **common)

    return {
        "deletion": partial(measure, "deletion", model, inputs, targets, maps=maps, **common),
        "insertion": partial(measure, "insertion", model, inputs, targets, maps=maps, **common),
        "rise": rise,
    }


def forward_count(model: nn.Module, run: Callable[[], object]) -> int:
    """Samples that pass through the model in one run."""
    total = 0

    def add(count: int) -> None:
        nonlocal total
        total += count

    with prepared(model), counted(model, add):
        run()
    return total


@contextmanager
def fresh_cache() -> Iterator[None]:
    """An empty cache, so that the probe looks for a batch size now and not on some earlier, busier day."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, XDG_CACHE_HOME=folder):
        yield
