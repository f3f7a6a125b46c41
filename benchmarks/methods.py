"""What a map of each saliency method costs beside the bare passes that it makes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clock import median, seconds
from benchmarks.efficiency import fresh_cache, samples
from benchmarks.results import Result
from cardgen import explain
from cardgen.budgets import BUDGETS, sized
from cardgen.errors import CardgenError
from cardgen.features import last_features
from cardgen.forward import prepared
from cardgen.maskers import KINDS
from cardgen.methods import METHODS, real_methods, require_fit
from cardgen.probe import batch_size
from cardgen.space import Space
from cardgen.subjects import digits_on_scenes as digits
from cardgen.subjects.embedded_maskers import load_embedded_masker
from cardgen.subjects.networks import load_embedded

FORWARD = 0.9
"""Goal for methods whose cost is forward passes: the bare passes' time ÷ the method's."""
GRADIENT = 1 / 1.2
"""Goal for methods that go backward."""
Run = Callable[[], object]


def methods(
    device: torch.device, *, n: int = 128, enough: int = 4000, rounds: int = 3, only: Sequence[str] = ()
) -> Result:
    """Time of the bare passes ÷ wall time of `explain`, for every method on the embedded subject; the median of the rounds.

    The bare passes are as many forward passes, and forward and backward passes to the inputs of the same model with frozen parameters, as
    the method makes, in batches of the size that the probe finds; they are timed in the same round, just before. Monte Carlo
    sizes are those of the quick budget.

    Args:
        device: where to measure.
        n: images, fewer where a method makes more than `enough` passes for them.
        enough: passes that are enough to be timed.
        rounds: repetitions.
        only: keys of methods; all if empty.
    """
    model = load_embedded("digit-cnn").to(device)
    inputs, targets = samples(n, device)
    with fresh_cache():
        batch = batch_size(model, inputs[:1])
    rows, raw, notes = [], {}, []
    for key in only or real_methods():
        reason = unfit(key, model, inputs)
        if reason:
            notes.append(f"{key} is left out: {reason}")
            continue
        row, found = _timed(key, model, inputs, targets, batch, enough, rounds)
        rows.append(row)
        raw[key] = found
    settings = {"model": "digit-cnn", "image": list(inputs.shape[1:]), "n": n, "rounds": rounds, "batch": batch}
    return Result(
        "methods",
        f"bare passes take at least {FORWARD} of the time of methods that go forward, {GRADIENT:.2f} of those that go backward",
        all(row["met"] for row in rows),
        settings,
        rows,
        {"efficiency": raw},
        notes,
    )


def unfit(key: str, model: nn.Module, inputs: Tensor) -> str:
    """Why a method cannot explain the model; empty where it can."""
    try:
        with prepared(model):
            require_fit(METHODS[key], model, inputs[:1])
            if METHODS[key].entry.access == "features":
                last_features(model, inputs[:1])
    except CardgenError as error:
        return error.what
    return ""


def _timed(
    key: str, model: nn.Module, inputs: Tensor, targets: Tensor, batch: int, enough: int, rounds: int
) -> tuple[dict[str, Any], list[float]]:
    sizes = sized(METHODS[key].defaults, BUDGETS["quick"].method)
    masker = load_embedded_masker(key).to(inputs.device) if key in KINDS else None
    space = Space.normalised(digits.MEAN, digits.STD)
    common: Mapping[str, Any] = {"batch": batch, "space": space, "masker": masker, **sizes}
    forward, backward = _passes(model, partial(explain, key, model, inputs[:1], targets[:1], **common))
    n = max(1, min(len(inputs), enough // max(1, forward + 2 * backward)))
    run = partial(explain, key, model, inputs[:n], targets[:n], **common)
    run()
    spent, found = [], []
    for _ in range(rounds):
        floor = bare(model, inputs, n * forward, batch, slope=False) + bare(
            model, inputs, n * backward, batch, slope=True
        )
        spent.append(seconds(run, inputs.device))
        found.append(floor / spent[-1])
    goal = GRADIENT if backward else FORWARD
    return {
        "method": key,
        "forwards a map": forward,
        "forwards and backwards a map": backward,
        "seconds a map": median(spent) / n,
        "efficiency": median(found),
        "lowest": min(found),
        "highest": max(found),
        "met": median(found) >= goal,
    }, found


def bare(model: nn.Module, inputs: Tensor, count: int, batch: int, *, slope: bool) -> float:
    """Seconds that the model alone takes for `count` samples, forward or forward and backward, in full batches."""
    if not count:
        return 0.0
    rows = torch.arange(min(batch, count), device=inputs.device) % len(inputs)
    full = inputs[rows].clone().requires_grad_(slope)
    repeats = -(-count // len(rows))

    def passes() -> None:
        for _ in range(repeats):
            scores = model(full).amax(1)
            if slope:
                torch.autograd.grad(scores.sum(), full)

    with prepared(model), torch.set_grad_enabled(slope):
        model(full)
        return seconds(passes, inputs.device) * count / (repeats * len(rows))


def _passes(model: nn.Module, run: Run) -> tuple[int, int]:
    """Samples that pass forward alone, and those that come back, in one run."""
    seen = [0, 0]

    def hook(_: nn.Module, arguments: tuple[Any, ...], output: object) -> None:
        seen[torch.is_grad_enabled()] += len(arguments[0])

    with _watched(model, hook):
        run()
    return seen[0], seen[1]


@contextmanager
def _watched(model: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    handle = model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A Markdown table of all methods, with what was measured of each."""
    found = {row["method"]: row for row in rows}
    yield "| method | key | paper | needs | random | forward passes | and backward | efficiency |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for key in real_methods():
        entry, row = METHODS[key].entry, found.get(key)
        cells = [entry.title, f"`{key}`", f"[{entry.source.paper}]({entry.source.url})", entry.access]
        cells.append("yes" if entry.random else "no")
        if row:
            cells += [str(row["forwards a map"]), str(row["forwards and backwards a map"]), f"{row['efficiency']:.2f}"]
        else:
            cells += ["–"] * 3
        yield f"| {' | '.join(cells)} |"
