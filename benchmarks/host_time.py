"""What a forwarded sample costs beside the model: cardgen's deletion against Quantus' pixel flipping on a model that is nearly free."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clock import median, one_thread, taking_turns
from benchmarks.results import Result
from cardgen import measure
from cardgen.forward import prepared

TARGET = 1 / 5
STEPS = 48
"""Steps of both curves. Quantus takes a fixed number of input values a step, which must divide the pixels: 3 · 224² / 48 = 3 136 does."""
SIZE = 224
MODEL, OURS, PEER = "model alone", "cardgen deletion", "Quantus PixelFlipping"
WITHOUT_PEER = "Quantus is not installed, so there is no peer to compare with; `make bench` installs it"


def host_time(device: torch.device, *, n: int = 64, batches: Sequence[int] = (4, 32), rounds: int = 5) -> Result:
    """Milliseconds a forwarded sample of a deletion curve at 3 × 224 × 224, all in; the median of rounds that take turns.

    Nothing is subtracted; the model's own milliseconds stand beside the totals. Both curves remove the same share a step, rank the same
    maps, replace pixels by the same grey, and run on one thread. Each side counts in the batch size that suits it best.

    Args:
        device: where to measure.
        n: images.
        batches: batch sizes to try.
        rounds: repetitions.
    """
    draws = torch.Generator().manual_seed(0)
    inputs = torch.rand(n, 3, SIZE, SIZE, generator=draws).to(device)
    maps = torch.rand(n, SIZE, SIZE, generator=draws).to(device)
    targets = (torch.arange(n) % 10).to(device)
    model = nearly_free().to(device)
    runs: dict[tuple[str, int], Callable[[], object]] = {}
    for batch in batches:
        runs[MODEL, batch] = alone(model, inputs, batch)
        runs[OURS, batch] = deletion(model, inputs, targets, maps, batch)
        if peer := pixel_flipping(model, inputs, targets, maps, batch):
            runs[PEER, batch] = peer
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = taking_turns(runs, device, rounds)
    forwards = n * STEPS
    spent = {run: [1000 * second / forwards for second in seconds] for run, seconds in times.items()}
    settings = {"model": "channel means, linear layer", "image": [3, SIZE, SIZE], "n": n, "steps": STEPS}
    ratio = ratio_of_best(spent)
    return Result(
        "host_time",
        f"at most {TARGET:g} of the peer's time a forwarded sample",
        None if ratio is None else ratio <= TARGET,
        {**settings, "rounds": rounds, "threads": 1},
        [row(run, spent) for run in sorted(spent)],
        {f"{what}, batch {batch}": values for (what, batch), values in spent.items()},
        [
            WITHOUT_PEER
            if ratio is None
            else f"totals, each in its best batch: cardgen takes {ratio:.3f} of Quantus' time"
        ],
    )


def nearly_free() -> nn.Module:
    """A classifier that does next to nothing: the mean of each channel, then ten linear scores."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10)).eval()


def alone(model: nn.Module, inputs: Tensor, batch: int) -> Callable[[], object]:
    """As many samples as a curve forwards, through the bare model."""

    def run() -> None:
        with prepared(model), torch.no_grad():
            for _ in range(STEPS):
                for start in range(0, len(inputs), batch):
                    model(inputs[start : start + batch])

    return run


def deletion(model: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor, batch: int) -> Callable[[], object]:
    """A run of ours, from the user's tensors to scores."""
    return lambda: measure("deletion", model, inputs, targets, maps=maps, steps=STEPS, batch=batch)


def pixel_flipping(
    model: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor, batch: int
) -> Callable[[], object] | None:
    """A run of the peer, in the settings that cost it least: no normalisation, no warnings, a constant baseline; None without Quantus."""
    try:
        import quantus
    except ModuleNotFoundError as error:
        if error.name != "quantus":
            raise
        return None
    flip = quantus.PixelFlipping(
        features_in_step=inputs[0].numel() // STEPS, perturb_baseline=0.5, normalise=False, disable_warnings=True
    )
    arguments = {
        "x_batch": inputs.cpu().numpy(),
        "y_batch": targets.cpu().numpy(),
        "a_batch": maps[:, None].cpu().numpy(),
        "channel_first": True,
        "device": str(inputs.device),
        "batch_size": batch,
    }
    return lambda: flip(model=model, **arguments)


def ratio_of_best(spent: Mapping[tuple[str, int], Sequence[float]]) -> float | None:
    """Our lowest median over batch sizes, over the peer's; None without a peer."""
    best = {what: min(median(values) for (name, _), values in spent.items() if name == what) for what, _ in spent}
    return best[OURS] / best[PEER] if PEER in best else None


def row(run: tuple[str, int], spent: Mapping[tuple[str, int], Sequence[float]]) -> dict[str, Any]:
    """A line of the table."""
    what, batch = run
    return {
        "what": what,
        "batch": batch,
        "ms a sample": median(spent[run]),
        "model's own": median(spent[MODEL, batch]),
        "lowest": min(spent[run]),
        "highest": max(spent[run]),
    }
