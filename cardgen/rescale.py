"""DeepLIFT's rules, for a forward pass of samples with their references: gradients become differences over differences."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cardgen.rules import ruled

NEAR = 1e-6
"""Inputs closer than this to their reference take the derivative; the quotient would be rounding."""
ELEMENTWISE = (
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardtanh"),
    *("softplus", "softsign", "sigmoid", "hardsigmoid", "logsigmoid", "tanh", "hardshrink", "softshrink"),
    *("threshold", "clamp", "clamp_min", "clamp_max", "clip"),
)
POOLING: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "max_pool2d": F.max_pool2d_with_indices,
    "adaptive_max_pool2d": F.adaptive_max_pool2d_with_indices,
}


@contextmanager
def rescaled() -> Iterator[None]:
    """Inside, what requires gradients passes back, at every elementwise activation, (y − y₀)/(x − x₀) in the place of dy/dx.

    The first half of each tensor's rows are samples, the second half their references. Shrikumar, Greenside, Kundaje 2017, sections
    3.5.1 and 3.5.2: the linear and the rescale rule. Where x and x₀ are as good as equal it is the derivative. A maximum has several
    inputs, of which the paper says nothing: its change goes to the input that is the larger of the two maxima, in the sample if y ≥ y₀
    and else in the reference, so that contributions still add up. It acts on torch's functions, so activations may be modules or not,
    reused, or in place. Products of two activations, layer norms and other functions have no rule: there contributions do not add up to
    the difference of the outputs, and who asks must look.
    """
    with _Rules():
        yield


class _Rules(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").removesuffix("_")
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.requires_grad and x.ndim > 1 and len(x) % 2 == 0 and torch.is_grad_enabled():
            if name in ELEMENTWISE:
                return activation(func, x, args[1:], kwargs)
            if name in POOLING and not kwargs.get("return_indices"):
                return maximum(POOLING[name], x, args[1:], {k: v for k, v in kwargs.items() if k != "return_indices"})
        return func(*args, **kwargs)


def activation(func: Any, x: Tensor, rest: Any, kwargs: Any) -> Tensor:
    """An elementwise activation of samples and references, with the rescale rule on the way back."""
    leaf = x.detach().requires_grad_()
    held = leaf.clone()
    out = func(held, *rest, **kwargs)
    (slope,) = torch.autograd.grad(out.sum(), leaf)
    y = _passing(out.detach(), _quotient(_change(out.detach()), _change(leaf.detach()), slope[: len(x) // 2]), x)
    return x.copy_(y) if out is held else y


def maximum(pool: Callable[..., tuple[Tensor, Tensor]], x: Tensor, rest: Any, kwargs: Any) -> Tensor:
    """A max pool of samples and references, whose change goes back to the larger maximum."""
    y, at = pool(x.detach(), *rest, **kwargs)
    half = len(x) // 2
    change = _change(y)
    chosen = torch.where(change >= 0, at[:half], at[half:]).repeat(2, *(1 for _ in at.shape[1:]))
    inputs = x.flatten(-2).gather(-1, chosen.flatten(-2)).view_as(y)
    slope = _quotient(change, _change(inputs.detach()), torch.ones_like(y[:half]))
    return _passing(y, slope, inputs)


def _passing(y: Tensor, slope: Tensor, x: Tensor) -> Tensor:
    """The values of y, with the gradient slope · dx of both halves."""
    return ruled(x, y, lambda signal: (signal.reshape(2, *slope.shape) * slope).flatten(0, 1))


def _change(values: Tensor) -> Tensor:
    sample, reference = values.float().chunk(2)
    return sample - reference


def _quotient(above: Tensor, below: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(below.abs() < NEAR, otherwise, above / below).to(otherwise.dtype)
