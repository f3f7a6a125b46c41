"""What a forwarded sample costs beside the model: cardgen's deletion against Quantus' pixel flipping on a model that is nearly free."""

import warnings
from collections.abc import Callable
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
BATCH = 32


def host_time(device: torch.device, *, n: int = 64, size: int = 224, batch: int = BATCH, rounds: int = 5) -> Result:
    """Milliseconds a forwarded sample of a deletion curve at 3 × 224 × 224, all in; the median of rounds that take turns.

    Nothing is subtracted. The model's own milliseconds, in batches of the same size, stand beside the totals. Both curves remove the same
    share a step, rank the same maps, replace pixels by the same grey, forward as many samples at once, and run on one thread.

    Args:
        device: where to measure.
        n: images.
        size: height and width.
        batch: samples to forward at once.
        rounds: repetitions.
    """
    draws = torch.Generator().manual_seed(0)
    inputs = torch.rand(n, 3, size, size, generator=draws).to(device)
    maps = torch.rand(n, size, size, generator=draws).to(device)
    targets = (torch.arange(n) % 10).to(device)
    model = nearly_free().to(device)
    runs: dict[str, Callable[[], object]] = {
        "model alone": lambda: alone(model, inputs, batch),
        "cardgen deletion": lambda: measure("deletion", model, inputs, targets, maps=maps, steps=STEPS, batch=batch),
    }
    notes = []
    peer = pixel_flipping(model, inputs, targets, maps, batch)
    if peer is None:
        notes.append("Quantus is not installed, so there is no peer to compare with; `make bench` installs it")
    else:
        runs["Quantus PixelFlipping"] = peer
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = taking_turns(runs, device, rounds)
    forwards = n * STEPS
    milliseconds = {name: [1000 * second / forwards for second in spent] for name, spent in times.items()}
    own = median(milliseconds["model alone"])
    rows: list[dict[str, Any]] = [
        {
            "what": name,
            "ms a forwarded sample": median(spent),
            "of which the model": own,
            "lowest": min(spent),
            "highest": max(spent),
        }
        for name, spent in milliseconds.items()
    ]
    met = None
    if peer is not None:
        ratios = [
            ours / theirs
            for ours, theirs in zip(times["cardgen deletion"], times["Quantus PixelFlipping"], strict=True)
        ]
        met = median(ratios) <= TARGET
        notes.append(f"cardgen takes {median(ratios):.3f} of Quantus' time a forwarded sample, totals, median of {rounds} rounds")
        milliseconds["ratio"] = ratios
    return Result(
        "host_time",
        f"at most {TARGET:g} of the peer's time a forwarded sample",
        met,
        {"model": "mean of each channel, linear layer to 10 classes", "image": [3, size, size], "n": n, "steps": STEPS, "batch": batch, "rounds": rounds, "threads": 1},
        rows,
        milliseconds,
        notes,
    )  # fmt: skip


def nearly_free() -> nn.Module:
    """A classifier that does next to nothing: the mean of each channel, then ten linear scores."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10)).eval()


def alone(model: nn.Module, inputs: Tensor, batch: int) -> None:
    """As many samples as a curve forwards, through the bare model."""
    with prepared(model), torch.no_grad():
        for _ in range(STEPS):
            for start in range(0, len(inputs), batch):
                model(inputs[start : start + batch])


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
    values = inputs[0].numel()
    flip = quantus.PixelFlipping(
        features_in_step=values // STEPS, perturb_baseline=0.5, normalise=False, disable_warnings=True
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
