"""Other networks that compute the same function: the same weights in another arrangement, or the same activation in other words.

A rewrite takes a model and one sample and returns a changed copy whose modules keep their names. What may be rewritten is read off
one recorded forward pass, so any model that runs will do; whoever uses a rewrite compares outputs first.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.dataflow import Call, Flow, recorded
from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.repair import copied

Rewrite = Callable[[nn.Module, Float[Tensor, "1 c h w"]], nn.Module]
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
PIXELWISE = {
    *("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *(
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "clamp",
        "dropout",
        "dropout2d",
        "contiguous",
        "clone",
        "mul",
        "div",
    ),
}
POOLS = {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
FLATTENING = {"flatten", "reshape", "view"}


def folded_batch_norms(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> nn.Module:
    """Batch norms folded into the layers before them: W' = W·γ/√(σ² + ε), b' = (b − μ)·γ/√(σ² + ε) + β.

    Folded are those with running statistics that alone take the output of a convolution or linear layer, both run once; an
    `nn.Identity` takes their place.

    Raises:
        CardgenError: there is none, or the model cannot be copied.
    """
    other = copied(model)
    modules = dict(other.named_modules())
    pairs = [(modules[layer], modules[norm]) for layer, norm in _normalised(recorded(other, example), modules)]
    if not pairs:
        raise CardgenError(
            "no batch norm directly after a convolution or linear layer; expected one at least to fold; leave this rewrite out"
        )
    for layer, norm in pairs:
        _fold(layer, norm)
        _swap(other, norm, nn.Identity())
    return other


def permuted_channels(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> nn.Module:
    """The output channels of hidden layers in a random order, and the inputs of whatever takes them in the same order.

    Permuted are convolutions and linear layers whose channels reach further convolutions and linear layers through batch norms,
    depthwise convolutions, pools, flattening and pixelwise functions only; not those that a residual connection adds to others.

    Raises:
        CardgenError: there is none, or the model cannot be copied.
    """
    other = copied(model)
    modules = dict(other.named_modules())
    flow = recorded(other, example)
    walk = _Walk(flow, modules)
    paths = {name: path for name in flow.once if (path := walk.path(name)) is not None}
    if not paths:
        raise CardgenError(
            "no hidden layer whose channels only reach further layers; expected one at least to permute; leave this rewrite out"
        )
    for name, path in paths.items():
        order = _order(name, path.channels)
        for carrier in (name, *path.carriers):
            _reorder(modules[carrier], order, dim=0)
        for taker, block in path.takers.items():
            _reorder(modules[taker], (order[:, None] * block + torch.arange(block)).flatten(), dim=1)
    return other


class Difference(nn.Module):
    """x − min(x, 0): the rectifier in other words, with the rectifier's gradient, 0 at x = 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.masked_fill(x > 0, 0)


def rewritten_relus(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> nn.Module:
    """x − min(x, 0) in the place of every `nn.ReLU`.

    Raises:
        CardgenError: no such module runs, or the model cannot be copied.
    """
    other = copied(model)
    for relu in [module for module in other.modules() if type(module) is nn.ReLU]:
        _swap(other, relu, Difference())
    if _rectified(recorded(other, example)) == _rectified(recorded(model, example)):
        raise CardgenError("no nn.ReLU module that runs; expected one at least to rewrite; leave this rewrite out")
    return other


REWRITES: Mapping[str, Rewrite] = {
    "folded_batch_norms": folded_batch_norms,
    "permuted_channels": permuted_channels,
    "rewritten_relus": rewritten_relus,
}


def _rectified(flow: Flow) -> int:
    return sum(call.name in ("relu", "relu_") for call in flow.calls)


def _normalised(flow: Flow, modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, str]]:
    """Layers and the batch norms that alone take their outputs."""
    for layer, call in flow.once.items():
        takers = flow.takers[call.outputs[0]]
        if _channel_axis(modules[layer], call) != 1 or len(takers) != 1:
            continue
        norm = takers[0].module
        if norm in flow.once and type(modules[norm]) in NORMS and modules[norm].running_mean is not None:
            yield layer, norm


def _fold(layer: Any, norm: Any) -> None:
    values = {name: value.detach().double() for name, value in norm.state_dict().items()}
    scale = (values["running_var"] + norm.eps).rsqrt() * values.get("weight", 1.0)
    weight, bias = layer.weight.detach(), 0.0 if layer.bias is None else layer.bias.detach().double()
    bias = (bias - values["running_mean"]) * scale + values.get("bias", 0.0)
    layer.weight = nn.Parameter((weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))).to(weight.dtype))
    layer.bias = nn.Parameter(bias.to(weight.dtype))


def _swap(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another's place, under every name it has."""
    for parent in list(root.modules()):
        for name in [name for name, child in parent._modules.items() if child is old]:
            setattr(parent, name, new)


def _channel_axis(module: nn.Module, call: Call) -> int | None:
    """The axis of the output along which a layer's rows lie; None for what is no plain convolution or linear layer."""
    if isinstance(module, nn.Conv2d) and call.name == "conv2d":
        return 1
    if isinstance(module, nn.Linear) and call.name == "linear":
        return len(call.after) - 1
    return None


@dataclass
class _Path:
    """Where a layer's channels go: through carriers, to takers, with how many inputs in a row each channel fills there."""

    channels: int
    carriers: list[str] = field(default_factory=list)
    takers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Walk:
    """Follows channels through a network.

    Their place is the axis that they lie along, and how many entries in a row each fills there.
    """

    flow: Flow
    modules: Mapping[str, nn.Module]

    def path(self, name: str) -> _Path | None:
        """The path of a layer's output channels to all layers that take them; None where some end elsewhere."""
        module, call = self.modules[name], self.flow.once[name]
        axis = _channel_axis(module, call)
        if axis is None or not _ungrouped(module) or call.after[axis] < 2:
            return None
        path = _Path(call.after[axis])
        return path if self._reaches(call.outputs[0], (axis, 1), path) else None

    def _reaches(self, value: int, place: tuple[int, int], path: _Path) -> bool:
        """Whether a value's channels end in layers only; one that nothing takes, as the model's output, does not."""
        takers = self.flow.takers.get(value, [])
        return bool(takers) and all(self._passes(call, place, path) for call in takers)

    def _passes(self, call: Call, place: tuple[int, int], path: _Path) -> bool:
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return False
        if not call.module:
            moved = _moved(call, place)
            return moved is not None and self._reaches(call.outputs[0], moved, path)
        if call.module not in self.flow.once:
            return False
        module, (axis, block) = self.modules[call.module], place
        if _carries(module, call) and place == (1, 1):
            path.carriers.append(call.module)
            return self._reaches(call.outputs[0], place, path)
        path.takers[call.module] = block
        fits = block == 1 or isinstance(module, nn.Linear)
        return axis == _channel_axis(module, call) and _ungrouped(module) and fits


def _ungrouped(module: nn.Module) -> bool:
    return getattr(module, "groups", 1) == 1


def _carries(module: nn.Module, call: Call) -> bool:
    """Whether a module treats each channel on its own: a batch norm, or a depthwise convolution."""
    if isinstance(module, nn.Conv2d) and call.name == "conv2d":
        return module.groups == module.in_channels == module.out_channels > 1
    return call.name == "batch_norm" and len(call.before) in (2, 4)


def _moved(call: Call, place: tuple[int, int]) -> tuple[int, int] | None:
    """Where a function without weights leaves the channels; None if that is not known."""
    if call.name in PIXELWISE:
        return place
    if len(call.before) != 4 or place != (1, 1):
        return None
    if call.name in POOLS or (call.name == "mean" and _pixels_only(call)):
        return place
    if call.name in FLATTENING and call.after == (call.before[0], math.prod(call.before[1:])):
        return 1, math.prod(call.before[2:])
    return None


def _pixels_only(call: Call) -> bool:
    """Whether a mean runs over height and width, and nothing else."""
    dims = call.named.get("dim", call.options[0] if call.options else None)
    return isinstance(dims, list | tuple) and {dim % 4 for dim in dims} == {2, 3}


def _order(name: str, channels: int) -> Tensor:
    """A random order that is not the one they have."""
    order = torch.randperm(channels, generator=generator("equivalent", name))
    return order if not torch.equal(order, torch.arange(channels)) else order.flip(0)


def _reorder(module: nn.Module, order: Tensor, dim: int) -> None:
    """Put the rows of all parameters and buffers, or the columns of the weight, in an order."""
    tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    for name, tensor in tensors.items():
        if tensor.ndim > dim and (dim == 0 or name == "weight"):
            tensor.data = tensor.data.index_select(dim, order.to(tensor.device))
