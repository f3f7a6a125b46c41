"""What methods that optimise a mask share: its gradient in batches, and its two penalties."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.errors import CardgenError
from cardgen.forward import logits, with_classes

Loss = Callable[[Float[Tensor, "n *chw"], slice], Float[Tensor, ""]]
"""The sum of some terms of a loss, of which each belongs to one sample, from the masks and where these terms are among all."""


def slope(loss: Loss, masks: Float[Tensor, "n *chw"], terms: int, batch: int) -> Float[Tensor, "n *chw"]:
    """The gradient with respect to the masks of the sum of all terms of a loss, `batch` terms at once."""
    leaf = masks.detach().requires_grad_()
    total = torch.zeros_like(leaf, requires_grad=False)
    for start in range(0, terms, batch):
        part = slice(start, min(start + batch, terms))
        with torch.enable_grad():
            total += torch.autograd.grad(loss(leaf, part), leaf)[0]
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
    """Masks at the image's size, bilinear: by a matrix a side, a fifth of the time that torch takes on CPUs to do and undo it."""
    down, across = (
        F.interpolate(torch.eye(cells, device=masks.device)[None], size=length, mode="linear", align_corners=False)[0]
        for cells, length in zip(masks.shape[2:], size, strict=True)
    )
    return down.T @ masks @ across


def windows(
    pictures: Float[Tensor, "p c u v"],
    numbers: Int[Tensor, " n"],
    tops: Int[Tensor, " n"],
    lefts: Int[Tensor, " n"],
    size: Sequence[int],
) -> Float[Tensor, "n c h w"]:
    """Windows of one size, each of one of the pictures, with its upper left corner at a pixel."""
    found: Tensor = pictures.unfold(2, size[0], 1).unfold(3, size[1], 1)[numbers, :, tops, lefts]
    return found


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
