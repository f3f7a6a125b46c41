"""Backward passes by rules of a method's own, put on torch's functions as a model calls them.

Functions are caught, not modules: so a rule reaches plain functions, modules that run several times and those that work in place alike, and
the model stays as it is. What has no rule and is not known to be harmless is refused, with the module in which it happens.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cardgen.errors import CardgenError
from cardgen.forward import logits
from cardgen.repair import TOLERANCE, Unhooked, hooked

Function = Callable[..., Any]
Back = Callable[[Tensor], Tensor]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOVES = _names(
    "_Ruled AccumulateGrad View UnsafeView ReshapeAlias Permute Transpose T Squeeze Unsqueeze Expand Clone Alias Slice Select Split "
    "SplitWithSizes SafeSplit Unbind Unfold ConstantPadNd ReflectionPad2D ReplicationPad2D ToCopy CopySlices CopyBackwards Cat Stack Roll "
    "Flip Repeat Index IndexSelect Gather AsStrided PixelShuffle PixelUnshuffle ChannelShuffle"
)
"""Nodes of torch's graph that only move values about."""
SUMS = _names(
    "Add Sub Rsub Neg Mean Sum AvgPool2D AdaptiveAvgPool2D MkldnnAdaptiveAvgPool2D UpsampleNearest2D UpsampleBilinear2D "
    "UpsampleBicubic2D UpsampleBilinear2DAa"
)
"""Nodes that add, average or interpolate."""
SCALES = frozenset(["Mul", "Div"])
"""Nodes that are linear where only one operand, for a quotient the numerator, depends on the image."""
LAYERS = _names(
    "Convolution ConvolutionOverrideable MkldnnConvolution Addmm Mm Bmm Baddbmm Mv Linear MkldnnLinear NativeBatchNorm CudnnBatchNorm "
    "MiopenBatchNorm"
)
"""Nodes with weights, linear in evaluation mode where only their input depends on the image."""


class _Ruled(torch.autograd.Function):
    """Any value computed from an input, with a backward pass of one's own."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, value: Callable[[], Tensor], back: Back) -> Tensor:
        context.back = back
        return value()

    @staticmethod
    def backward(context: Any, *signals: Tensor) -> Any:
        with torch.no_grad():
            return context.back(signals[0]), None, None


def ruled(inputs: Tensor, value: Tensor, back: Back) -> Tensor:
    """A value computed from `inputs` on which `back` says what goes back to them."""
    found: Tensor = _Ruled.apply(inputs, lambda: value, back)
    return found


class Rules(TorchFunctionMode):
    """Catches the functions that a model calls; subclasses give the rules. Each forward pass starts with `begin`.

    Attributes:
        title: of the method, for messages.
        expected: what it can do, for messages.
        allowed: nodes of torch's graph that need no rule.
    """

    title = ""
    expected = ""
    allowed: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[nn.Module, str] = {}
        self.running: list[nn.Module] = []
        self.seen: set[Any] = set()

    def begin(self, inputs: Tensor) -> None:
        """Forget the last forward pass."""
        self.seen.clear()

    def end(self) -> None:
        """What is to be checked when a forward pass is over."""
        self.seen.clear()

    def rule(self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A function's value with the rule's backward pass; None where the function has no rule. Names come without underscores."""
        raise NotImplementedError

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        value = self.rule(name, func, args, kwargs) if args else None
        value = func(*args, **kwargs) if value is None else value
        self._check(name, value)
        return value

    def on(self, model: nn.Module) -> AbstractContextManager[None]:
        """Follow which module runs, to name it in messages."""
        inner = model.model if isinstance(model, Unhooked) else model
        self.names = {module: name for name, module in inner.named_modules()}
        self.running = []
        return hooked(list(self.names), self.running.append, lambda _: self.running.pop())

    def refuse(self, what: str) -> CardgenError:
        """The error that says what in which module has no rule."""
        module = self.running[-1] if self.running else None
        name = self.names.get(module, "") if module else ""
        where = f"{type(module).__name__} ({name})" if name else "the model itself"
        return CardgenError(
            f"{self.title} has no rule for {what} in {where}; expected {self.expected}; leave {self.title} out"
        )

    def _check(self, name: str, value: Any) -> None:
        """Refuse what the function put into torch's graph without a rule."""
        new = [tensor.grad_fn for tensor in tensors(value) if tensor.grad_fn is not None]
        while new:
            node = new.pop()
            if node in self.seen:
                continue
            self.seen.add(node)
            sources = [source for source, _ in node.next_functions]
            kind = kind_of(node)
            if kind not in self.allowed or getattr(node, "_saved_training", False):
                raise self.refuse(name)
            if kind in SCALES | LAYERS and (
                sum(source is not None for source in sources) > 1 or (kind == "Div" and sources[0] is None)
            ):
                raise self.refuse(f"{name.strip('_')} of two parts that both depend on the image")
            new += [source for source in sources if source is not None]


class Ruled(nn.Module):
    """A model whose forward passes are recorded under rules.

    Args:
        model: in evaluation mode, frozen.
        rules: of one method.
    """

    def __init__(self, model: nn.Module, rules: Rules) -> None:
        super().__init__()
        self.model, self.rules = model, rules

    def forward(self, inputs: Float[Tensor, "n c h w"]) -> Any:
        self.rules.begin(inputs)
        with self.rules.on(self.model), self.rules:
            found = self.model(inputs)
        self.rules.end()
        return found


def require_same(model: nn.Module, rules: Rules, example: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """The logits under the rules, with their graph, unless the model has something without a rule or computes something else under them.

    Raises:
        CardgenError: it does; activations do not work in place under rules, so what they would have overwritten is read as it was.
    """
    with torch.enable_grad():
        found = logits(Ruled(Unhooked(model), rules), example.detach().clone().requires_grad_())
    with torch.no_grad():
        wanted = logits(Unhooked(model), example)
    slack = max(TOLERANCE, 16 * torch.finfo(example.dtype).eps) * float(wanted.abs().max())
    if not torch.allclose(found.detach(), wanted, rtol=0, atol=slack, equal_nan=True):
        raise CardgenError(
            f"under the rules of {rules.title} the model gives other outputs, as what an activation overwrites is read again; "
            f"expected activations whose result is used; rewrite that part of the model"
        )
    return found


def kind_of(node: Any) -> str:
    """What a node of torch's graph does, without numbers and namespaces."""
    return re.sub(r"Backward\d*$", "", node.name().split("::")[-1])


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, in lists and tuples too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
