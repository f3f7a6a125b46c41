"""Compressed copies of a model: its smallest weights at zero, or all of them rounded to eight bits."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.repair import copied

PRUNED = 0.5
"""Share of weights at zero."""
LEVELS = 127
Kept = Mapping[str, Bool[Tensor, "..."]]


def smallest(model: nn.Module, share: float = PRUNED) -> Kept:
    """Which weights of convolutions and linear layers stay, by the parameter's name, when the smallest `share` of them all goes.

    Their magnitudes are compared over the whole network. Han et al. 2015.

    Raises:
        CardgenError: no such layer.
    """
    weights = _weights(model)
    if not weights:
        raise CardgenError("the model has no convolution or linear layer; expected one at least to prune; leave it out")
    magnitudes = torch.cat([weight.detach().abs().flatten().float() for weight in weights.values()])
    order = magnitudes.argsort(stable=True)
    keep = torch.ones_like(magnitudes, dtype=torch.bool)
    keep[order[: int(share * len(order))]] = False
    parts = torch.split(keep, [weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def at_zero(kept: Kept) -> Callable[[nn.Module], None]:
    """Puts all other weights of a model to zero, as after every step of training."""

    def apply(model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, mask in kept.items():
                parameters[name].mul_(mask)

    return apply


def int8(model: nn.Module) -> nn.Module:
    """A copy whose weights of convolutions and linear layers are rounded to −127…127 times one scale an output channel.

    w' = round(w / s) · s, s = max|w| / 127 of the channel. Activations stay as they are: kernels on integers have no gradients, which
    most saliency methods take.
    """
    other = copied(model)
    with torch.no_grad():
        for weight in _weights(other).values():
            scale = weight.abs().flatten(1).amax(1).clamp_min(torch.finfo(weight.dtype).tiny) / LEVELS
            scale = scale.view(-1, *[1] * (weight.ndim - 1))
            weight.copy_((weight / scale).round() * scale)
    return other


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of convolutions and linear layers, by name; one that two layers share, once."""
    layers = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in layers}
