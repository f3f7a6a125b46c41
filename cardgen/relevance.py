"""Relevance propagation: rules by which a layer's relevance is shared among its inputs.

A signal g goes back such that activation ⊙ g is relevance: so what torch adds up where a tensor is read twice, and splits at additions in
proportion to the summands, is right as it stands (a modified gradient, as in Montavon et al. 2019). In front of the first layer, where the
image may be moved, cut, padded or normalised, the signal is the relevance itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cardgen.errors import CardgenError
from cardgen.forward import target_logits
from cardgen.rules import MOVES, SCALES, SUMS, Function, Ruled, Rules, kind_of, ruled, tensors
from cardgen.space import Space

WEIGHTED = ("linear", "conv1d", "conv2d", "conv3d")
ARITHMETIC = (
    *("add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide", "truediv", "rtruediv"),
    *("neg", "negative"),
)
"""What normalises an image, pixel by pixel, by all of torch's names."""
JOINTS = ("cat", "concat", "concatenate", "stack")
"""What puts an image together from parts of it, channel by channel say."""
RECTIFIERS = frozenset(["relu", "relu6"])
RISING = RECTIFIERS | {"leaky_relu", "elu", "selu", "celu", "tanh", "softsign"}
"""Activations that rise through zero: a sign stays what it is."""
POOLS = frozenset(["MaxPool2DWithIndices", "MkldnnMaxPool2D", "AdaptiveMaxPool2D"])
"""Maxima, whose relevance the winner takes: torch's own backward pass."""
SLOPED = SCALES | {"Add", "Sub", "Rsub", "Neg", "Sum"}
"""Nodes of torch's graph whose backward pass would change how much relevance the image gets."""
AVERAGES = ("avg_pool2d", "adaptive_avg_pool2d", "mean", "sum")


@dataclass(frozen=True)
class Layer:
    """A call of a convolution or a linear layer."""

    function: Function
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    rest: tuple[Any, ...]
    options: dict[str, Any]

    @classmethod
    def called(cls, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Layer":
        """From the arguments that torch's function got."""
        options = dict(kwargs)
        weight = args[1] if len(args) > 1 else options.pop("weight")
        bias = args[2] if len(args) > 2 else options.pop("bias", None)
        return cls(function, args[0], weight, bias, args[3:], options)

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found: Tensor = self.function(inputs, weight, bias, *self.rest, **self.options)
        return found

    def merged(self, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> "Layer":
        """The same layer with the batch normalisation after it."""
        scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
        shift = (0 if self.bias is None else self.bias) - mean
        moved = shift * scale + (0 if bias is None else bias)
        return replace(self, weight=self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1)), bias=moved)


def share(relevance: Tensor, total: Tensor) -> Tensor:
    """relevance / total; nothing where there is nothing to share it among."""
    return relevance / total.masked_fill(total == 0, torch.inf)


def pulled(function: Callable[..., Tensor], points: tuple[Tensor, ...], relevance: Tensor) -> tuple[Tensor, ...]:
    """Σ_j ∂total_j/∂point · relevance_j / total_j for the total that `function` makes of each of the points."""
    with torch.enable_grad():
        points = tuple(point.detach().requires_grad_() for point in points)
        total = function(*points)
        return torch.autograd.grad(total, points, share(relevance, total.detach()))


def epsilon_rule(layer: Layer, relevance: Tensor, epsilon: float) -> Tensor:
    """LRP-ε: Σ_j w_ij R_j / (z_j + ε sign z_j), which times a_i is the relevance. Bach et al. 2015, equation 58."""

    def stable(inputs: Tensor) -> Tensor:
        z = layer(inputs, layer.weight, layer.bias)
        return z + torch.where(z < 0, -epsilon, epsilon)

    return pulled(stable, (layer.inputs,), relevance)[0]


def positive_rule(layer: Layer, relevance: Tensor, bias: Tensor | None = None) -> Tensor:
    """Relevance in proportion to what speaks for: (a_i w_ij)⁺ / (Σ_i (a_i w_ij)⁺ + b). With a ≥ 0 the z⁺-rule."""
    up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    inputs = layer.inputs.detach()
    if not bool((inputs < 0).any()):
        return pulled(lambda on: layer(on, up, bias), (inputs,), relevance)[0]
    on, off = pulled(
        lambda on, off: layer(on, up, bias) + layer(off, down), (inputs.clamp(min=0), inputs.clamp(max=0)), relevance
    )
    return torch.where(inputs < 0, off, on)


def negated(layer: Layer) -> Layer:
    """The layer with the other sign: what speaks against is what speaks for it."""
    return replace(layer, weight=-layer.weight, bias=None if layer.bias is None else -layer.bias)


def alpha_beta_rule(layer: Layer, relevance: Tensor, alpha: float) -> Tensor:
    """LRP-αβ with β = α − 1: α of the relevance to what speaks for, −β to what speaks against. Bach et al. 2015, equation 60."""

    def positive(part: Layer) -> Tensor:
        return positive_rule(part, relevance, None if part.bias is None else part.bias.clamp(min=0))

    found = alpha * positive(layer)
    return found if alpha == 1 else found - (alpha - 1) * positive(negated(layer))


def bounded_rule(layer: Layer, relevance: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The z^B-rule, for inputs between bounds: relevance in proportion to x_i w_ij − l_i w_ij⁺ − h_i w_ij⁻. Montavon et al. 2017."""
    up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    points = (layer.inputs.detach(), low, high)
    shares = pulled(lambda x, l, h: layer(x, layer.weight) - layer(l, up) - layer(h, down), points, relevance)  # noqa: E741
    return sum((point * share_ for point, share_ in zip(points, shares, strict=True)), torch.zeros_like(low))


def by_sign(value: Tensor, relevance: Tensor, rule: Callable[[Tensor, bool], Tensor]) -> Tensor:
    """What `rule` says of the relevance of positive values, and of that of negative ones by what makes them so.

    Below zero no ReLU lets a value have relevance. Where none comes after a layer, a negative value is a positive one with all weights
    to and from it negated, and is to share as that would.
    """
    below = torch.where(value < 0, relevance, 0)
    if not bool(below.any()):
        return rule(relevance, False)
    return rule(relevance - below, False) + rule(below, True)


class Relevance(Rules):
    """Rules for networks of convolutions, linear layers, batch normalisation right after them, and activations.

    Args:
        space: bounds of the inputs, for the first layers.
    """

    activations = RISING
    allowed = MOVES | SUMS | SCALES | POOLS
    expected = (
        "convolutions and linear layers, batch normalisation right after them, activations that rise through zero (ReLU, tanh), pooling "
        "and additions"
    )

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.layers: dict[int, tuple[Tensor, str, Layer]] = {}
        self.images: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def layer(self, name: str, layer: Layer, relevance: Tensor, value: Tensor) -> Tensor:
        """What goes back to the inputs of a layer that gave `value`: a signal that times them is their relevance."""
        raise NotImplementedError

    def first_layer(self, layer: Layer, relevance: Tensor, value: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The relevance of the values that a layer reads from the image."""
        return bounded_rule(layer, relevance, low, high)

    def begin(self, inputs: Tensor) -> None:
        super().begin(inputs)
        if inputs.requires_grad:
            low, high = (self.space.colour(name, inputs).expand_as(inputs) for name in ("black", "white"))
            self.images = {id(inputs): (inputs, low, high)}

    def end(self) -> None:
        super().end()
        if self.images and not self.layers:
            raise CardgenError(
                f"{self.title} finds no convolution or linear layer in the model; expected {self.expected}; leave {self.title} out"
            )
        self.layers, self.images = {}, {}

    def rule(self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        at = args[0]
        if name == "hardtanh" and (kwargs.get("min_val"), kwargs.get("max_val")) == (0, 6):
            name = "relu6"  # as nn.ReLU6 calls it
        read = [tensor for tensor in tensors([*args, *kwargs.values()]) if tensor.requires_grad]
        if any(id(tensor) in self.images for tensor in read):
            if name in JOINTS and all(id(tensor) in self.images for tensor in read):
                return self._joined(function, args, kwargs)
            if len(read) > 1 or read[0] is not at:
                raise self.refuse(f"{name} of the image itself and something else")
            if name not in WEIGHTED:
                return self._prepared(name, function, args, kwargs)
        if not isinstance(at, Tensor) or not at.requires_grad:
            return None
        if name in WEIGHTED and len(read) == 1:
            layer = Layer.called(function, args, kwargs)
            return self._weighted(name, layer, layer(at.detach(), layer.weight, layer.bias))
        # a layer's output that something has worked on in place is no longer its output
        if function is F.batch_norm and id(at) in self.layers and getattr(at.grad_fn, "weighted", False):
            return self._merged(*args, **kwargs)
        if name in self.activations:
            # a copy, as the function may work in place
            return _activated(at, function(at.detach().clone(), *args[1:], **kwargs))
        return None

    def _prepared(self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The image on its way to the first layer, with its bounds; what normalises it leaves relevance where it is."""
        image, low, high = self.images[id(args[0])]
        if name in ARITHMETIC:
            value = ruled(image, function(image.detach().clone(), *args[1:], **kwargs), lambda signal: signal)
        else:
            value = function(*args, **kwargs)
            self._require_whole(name, value, image)
        parts = [part for part in tensors(value) if part.requires_grad]
        if parts:
            bounds = [list(tensors(function(bound.clone(), *args[1:], **kwargs))) for bound in (low, high)]
            for part, one, other in zip(parts, *bounds, strict=True):
                self.images[id(part)] = (part, torch.minimum(one, other), torch.maximum(one, other))
        return value

    def _joined(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Parts of the image put together, constants among them too, with their bounds."""
        parts, *rest = args
        value: Tensor = function(parts, *rest, **kwargs)
        bounds = [[self.images.get(id(part), (part, part, part))[side] for part in parts] for side in (1, 2)]
        low, high = (function(bound, *rest, **kwargs) for bound in bounds)
        self.images[id(value)] = (value, low, high)
        return value

    def _require_whole(self, name: str, value: Any, image: Tensor) -> None:
        """Refuse what torch would hand relevance back through by a slope, or in full to every summand."""
        nodes = [part.grad_fn for part in tensors(value) if part.grad_fn is not None]
        seen = {image.grad_fn, *nodes}
        while nodes:
            node = nodes.pop()
            if kind_of(node) in SLOPED:
                raise self.refuse(f"{name} of the image itself")
            new = [source for source, _ in node.next_functions if source is not None and source not in seen]
            seen.update(new)
            nodes += new

    def _weighted(self, name: str, layer: Layer, value: Tensor) -> Tensor:
        kept = value.clone()  # what comes next may work in place
        if id(layer.inputs) in self.images:
            _, low, high = self.images[id(layer.inputs)]
            found = ruled(layer.inputs, value, lambda signal: self.first_layer(layer, kept * signal, kept, low, high))
        else:
            found = ruled(layer.inputs, value, lambda signal: self.layer(name, layer, kept * signal, kept))
        found.grad_fn.weighted = True  # type: ignore[union-attr]
        self.layers[id(found)] = (found, name, layer)
        return found

    def _merged(
        self,
        at: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor | None:
        _, name, layer = self.layers[id(at)]
        if training:
            return None
        value = F.batch_norm(at.detach(), mean, variance, weight, bias, eps=eps)
        return self._weighted(name, layer.merged(mean, variance, weight, bias, eps), value)


class Positive(Relevance):
    """Rules for networks of ReLUs by which only what speaks for a unit shares its relevance: no share is negative.

    What speaks for the score is what raises it, also where it is negative: from the score down to the first layer on the way back, which
    is the `top`.
    """

    activations = RECTIFIERS
    allowed = MOVES | SCALES | POOLS
    expected = "convolutions and linear layers, batch normalisation right after them, ReLU, pooling and additions"

    def begin(self, inputs: Tensor) -> None:
        super().begin(inputs)
        self.top = True

    def layer(self, name: str, layer: Layer, relevance: Tensor, value: Tensor) -> Tensor:
        return self._signed(
            value, relevance, lambda part, below: positive_rule(negated(layer) if below else layer, part)
        )

    def first_layer(self, layer: Layer, relevance: Tensor, value: Tensor, low: Tensor, high: Tensor) -> Tensor:
        bounded = lambda part, below: bounded_rule(negated(layer) if below else layer, part, low, high)  # noqa: E731
        return self._signed(value, relevance, bounded)

    def _signed(self, value: Tensor, relevance: Tensor, rule: Callable[[Tensor, bool], Tensor]) -> Tensor:
        top, self.top = self.top, False
        return rule(relevance, False) if top else by_sign(value, relevance, rule)

    def positive_sum(self, inputs: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A sum or an average that hands its relevance to summands of its own sign, those of the score to positive ones, in proportion."""
        here = inputs.detach()
        value = function(here)
        kept = value.clone()  # what comes next may work in place

        def share_of(relevance: Tensor, below: bool) -> Tensor:
            chosen = here < 0 if below else here > 0
            return torch.where(chosen, pulled(function, (here * chosen,), relevance)[0], 0)

        def back(signal: Tensor) -> Tensor:
            return share_of(kept * signal, False) if self.top else by_sign(kept, kept * signal, share_of)

        return ruled(inputs, value, back)

    def rule(self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = super().rule(name, function, args, kwargs)
        at, *rest = args
        if found is not None or not isinstance(at, Tensor) or not at.requires_grad or id(at) in self.images:
            return found
        if name in AVERAGES:
            return self.positive_sum(at, lambda summands: function(summands, *rest, **kwargs))
        if name == "add" and isinstance(rest[0], Tensor) and rest[0].requires_grad and "alpha" not in kwargs:
            shape = (at.detach() + rest[0].detach()).shape
            return self.positive_sum(torch.stack([at.expand(shape), rest[0].expand(shape)]), lambda pair: pair.sum(0))
        return None


def _activated(inputs: Tensor, value: Tensor) -> Tensor:
    """An activation's relevance is its input's."""
    factor = share(value, inputs.detach())
    return ruled(inputs, value, lambda signal: signal * factor)


def relevance_of(
    model: Ruled, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """R, which the score s_c starts with its own value."""
    with torch.enable_grad():
        inputs = inputs.detach().clone().requires_grad_()
        return torch.autograd.grad(target_logits(model, inputs, targets).sum(), inputs)[0].float()
