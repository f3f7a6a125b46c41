"""The batch size: a power of two that is fast and fits, found once a model, shape and device."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import prepared
from cardgen.memory import free, ran_out
from cardgen.records import write_atomic
from cardgen.timing import synchronise

LARGEST = 1024
ROUNDS = 3
SECONDS = 0.1
FAR_BELOW = 0.5
LONG_ENOUGH = 0.5
"""Seconds of one forward pass from which on larger batches gain nothing that is worth the wait, and the memory, of trying them."""
NEAR = 0.97
"""Among sizes about as fast as the best the smallest is taken: it needs less memory, and large ones slow down in long runs."""


def batch_size(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> int:
    """The smallest power of two whose throughput of forward passes is close to the best.

    The answer is cached for the user (model's shapes, input shape, dtype, device, threads), so that all runs on a machine cut their
    work alike and give the same bits. Sizes whose throughput is far below the best, that take long, or that do not fit into memory, end
    the search.
    """
    parts = [
        type(model).__name__,
        [tuple(p.shape) for p in model.parameters()],
        tuple(example.shape),
        str(example.dtype),
        torch.cuda.get_device_name(example.device) if example.is_cuda else "cpu",
        torch.get_num_threads(),
        torch.__version__,
    ]
    key = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]
    file = cache_folder() / "batch.json"
    known: dict[str, int] = _load(file)
    if key not in known:
        known = {**known, key: _search(model, example)}
        with suppress(CardgenError):  # a home that cannot be written costs a search a run, and no run
            write_atomic(file, json.dumps(known, sort_keys=True))
    return known[key]


def cache_folder() -> Path:
    """Where batch sizes are kept for the user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cardgen"


def _load(file: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _search(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> int:
    """Every size is timed once a round and its best round counts, so that a moment's load on the machine does not decide."""
    rates: dict[int, float] = {}
    with prepared(model), torch.no_grad():
        for _ in range(ROUNDS):
            for size, rate in _rates(model, example):
                rates[size] = max(rate, rates.get(size, 0.0))
    enough = NEAR * max(rates.values(), default=0.0)
    return min((size for size, rate in rates.items() if rate >= enough), default=1)


def _rates(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> Iterator[tuple[int, float]]:
    """Throughput of growing powers of two, until it is far below the best, one pass takes long enough, or memory has run out."""
    best, size = 0.0, 1
    while size <= LARGEST:
        try:
            rate = throughput(model, example, size)
        except Exception as error:
            if not ran_out(error):
                raise
            free()
            return
        yield size, rate
        best = max(best, rate)
        if rate < FAR_BELOW * best or size / rate > LONG_ENOUGH:
            return
        size *= 2


def throughput(model: nn.Module, example: Float[Tensor, "1 c h w"], size: int) -> float:
    """Samples a second of the bare model at one batch size: the best of several runs, each long enough to time."""
    inputs = example.expand(size, -1, -1, -1).contiguous()
    model(inputs)
    best, spent = float("inf"), 0.0
    while spent < SECONDS:
        synchronise(example.device)
        start = time.perf_counter()
        model(inputs)
        synchronise(example.device)
        seconds = time.perf_counter() - start
        best, spent = min(best, seconds), spent + seconds
    return size / best
