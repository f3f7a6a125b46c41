"""What methods that optimise a mask share: its gradient in batches, and its two penalties."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.errors import CardgenError
from cardgen.forward import logits, with_classes

Loss = Callable[[Float[Tensor, "n *chw"], Int[Tensor, " b"]], Float[Tensor, ""]]
"""The sum of some terms of a loss, of which each belongs to one sample, from the masks and the terms' numbers."""


def slope(loss: Loss, masks: Float[Tensor, "n *chw"], terms: int, batch: int) -> Float[Tensor, "n *chw"]:
    """The gradient with respect to the masks of the sum of all terms of a loss, `batch` terms at once."""
    leaf = masks.detach().requires_grad_()
    total = torch.zeros_like(leaf, requires_grad=False)
    for start in range(0, terms, batch):
        numbers = torch.arange(start, min(start + batch, terms), device=leaf.device)
        with torch.enable_grad():
            total += torch.autograd.grad(loss(leaf, numbers), leaf)[0]
    return total


def log_probability(
    model: nn.Module, inputs: Float[Tensor, "b c h w"], targets: Int[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """log f_c, with its graph."""
    return with_classes(logits(model, inputs), targets).log_softmax(1).gather(1, targets[:, None])[:, 0]


def mixed(
    under: Float[Tensor, "b c h w"], over: Float[Tensor, "b c h w"], share: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """under + share (over − under), mixed in float32 whatever the images' type, which the result has."""
    return torch.lerp(under.float(), over.float(), share).to(under.dtype)


def enlarged(masks: Float[Tensor, "n c u v"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """Masks at the image's size, bilinear."""
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=False)


def variation(masks: Float[Tensor, "n 1 u v"], power: int) -> Float[Tensor, " n"]:
    """Σ |m(p) − m(q)|^power over neighbours p and q, down and across."""
    down, across = masks.diff(dim=2), masks.diff(dim=3)
    return down.abs().pow(power).flatten(1).sum(1) + across.abs().pow(power).flatten(1).sum(1)


def require_positive(key: str, **counts: int) -> None:
    """Refuse hyperparameters that count something and are below 1.

    Raises:
        CardgenError: one is.
    """
    for name, value in counts.items():
        if value < 1:
            raise CardgenError(f"{key}: {name} is {value}; expected at least 1; choose more")


def require_weights(key: str, **weights: float) -> None:
    """Refuse weights of penalties below 0.

    Raises:
        CardgenError: one is.
    """
    for name, value in weights.items():
        if value < 0:
            raise CardgenError(f"{key}: {name} is {value:g}; expected a weight of at least 0; choose such")
