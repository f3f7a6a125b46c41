"""Noisy copies of every sample, and gradients at many points of each, in batches that run on from one sample to the next."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import target_logits
from cardgen.methods import Context

PURPOSE = "smoothgrad"
"""What the noise is drawn for: one name, so that all statistics of noisy gradients are of the same gradients."""


def require_samples(key: str, n_samples: int, least: int = 1) -> None:
    """Refuse a number of samples that is too small for the method `key`."""
    if n_samples < least:
        raise CardgenError(f"{key}: n_samples is {n_samples}; expected at least {least}; choose more")


def batches(samples: int, copies: int, size: int) -> Iterator[list[int]]:
    """Batch by batch the sample of each copy; a sample's copies follow one another, and only the last batch may not be full."""
    count = samples * copies
    for start in range(0, count, size):
        yield [job // copies for job in range(start, min(start + size, count))]


def noisy_copies(
    inputs: Float[Tensor, "n c h w"], context: Context, n_samples: int, noise_level: float
) -> Iterator[tuple[list[int], Float[Tensor, "b c h w"]]]:
    """x + ε_k, ε_k ~ N(0, σ²), in batches, with the sample that each is a copy of.

    σ is `noise_level` times the range of each channel in the inputs' space. The noise of a sample is its own, and the first draws of
    more copies are those of fewer.

    Raises:
        CardgenError: the inputs leave their space.
    """
    context.space.check(inputs)
    sigma = noise_level * context.space.range(inputs)
    draws = context.generators(PURPOSE)
    for rows in batches(len(inputs), n_samples, context.batch):
        yield rows, inputs[rows] + sigma * _drawn(inputs, [draws[row] for row in rows])


def noises(
    inputs: Float[Tensor, "n c h w"], context: Context, n_samples: int, noise_level: float
) -> Iterator[Float[Tensor, "n c h w"]]:
    """The same ε_k, one copy of all samples after the other."""
    sigma = noise_level * context.space.range(inputs)
    draws = context.generators(PURPOSE)
    for _ in range(n_samples):
        yield sigma * _drawn(inputs, draws)


def _drawn(inputs: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(inputs.shape[1:], generator=draw) for draw in draws]).to(inputs)


def gradients(
    model: nn.Module, points: Float[Tensor, "b c h w"], targets: Int[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """∂s_c/∂x at every point, in float32."""
    with torch.enable_grad():
        score = target_logits(model, points.requires_grad_(), targets).sum()
        return torch.autograd.grad(score, points)[0].float()


def apart(rows: Sequence[int], values: Float[Tensor, "b ..."]) -> Iterator[tuple[int, Float[Tensor, "k ..."]]]:
    """Each sample in a batch of copies, with the values of its copies."""
    copies = Counter(rows)
    yield from zip(copies, torch.split(values, list(copies.values())), strict=True)


def add(total: Float[Tensor, "n ..."], rows: Sequence[int], values: Float[Tensor, "b ..."]) -> None:
    """Add to each sample's total the values of its copies."""
    for row, part in apart(rows, values):
        total[row] += part.sum(0)
