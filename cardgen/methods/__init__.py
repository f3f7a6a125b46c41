"""Saliency methods, one a file. `METHODS` maps keys to them; the `method` decorator registers a function and returns it unchanged.

A method is a function `explain(model, inputs, targets, context, *, hyperparameters=defaults)` that returns float attributions
`[n, c, h, w]`, or `[n, 1, h, w]` where it is spatial by nature: signed where the method is, not normalised. It gets a model in
evaluation mode with frozen parameters, and a chunk of samples that its `context` describes.
"""

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import ValidationError
from torch import Tensor, nn

from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.facts import Facts
from cardgen.forward import all_finite
from cardgen.recipes import Sibling
from cardgen.records import Access, MethodEntry, Source, Value
from cardgen.registry import Registry, unknown
from cardgen.space import UNNORMALISED, Space
from cardgen.subjects.black_box import BlackBox

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """What a method may know beside model, inputs and targets.

    Attributes:
        ids: the samples' names; with `seed` they name the generators of random methods.
        seed: the run's seed.
        space: bounds and mean of the inputs' channels.
        batch: samples to forward at once.
        masks: ground truth, for the planted-truth control only.
        mean_mask: the mean of all samples' masks, for the prior of that name only.
        layer: the layer whose feature maps methods of class activation take; found if None.
        masker: the masking network that was trained for the model, for methods whose map it makes.
        kept: what `once` worked out in this run.
    """

    ids: Sequence[str]
    seed: int = 0
    space: Space = UNNORMALISED
    batch: int = 32
    masks: Bool[Tensor, "n h w"] | None = None
    layer: str | None = None
    mean_mask: Float[Tensor, "h w"] | None = None
    masker: nn.Module | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def part(self, chunk: slice) -> "Context":
        """The context of a chunk of the samples."""
        return replace(self, ids=self.ids[chunk], masks=None if self.masks is None else self.masks[chunk])

    def once(self, name: str, model: nn.Module, compute: Callable[[], T]) -> T:
        """Something of the model that serves all chunks of a run: worked out for the first one. While it is kept, weights must stay."""
        key = (name, model)
        if key not in self.kept:
            self.kept[key] = compute()
        found: T = self.kept[key]
        return found

    def generators(self, purpose: str, draw: int = 0) -> list[torch.Generator]:
        """One generator a sample. `purpose` holds the method's key; nothing about weights, targets or batch goes in."""
        return [generator(self.seed, purpose, draw, sample) for sample in self.ids]


Explain = Callable[..., Float[Tensor, "n _ h w"]]
Terms = Callable[..., Iterable[Float[Tensor, "n _ h w"]]]
"""Called as the method itself is, with inputs that require gradients: tensors that sum to its attributions, each with its own graph."""
Ranges = Mapping[str, tuple[Value, ...]]
Fits = Callable[[nn.Module, Float[Tensor, "1 c h w"]], object]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """A registered method: its entry in the catalogue, its function, and what `method` was told of it.

    Of a method in a file of the user's own, `code` is the file's digest, and `facts` are those that lie beside it.
    """

    entry: MethodEntry
    function: Explain
    passes: Callable[[Mapping[str, Any]], int]
    needs: tuple[str, ...] = ()
    complete: str = ""
    ranges: Ranges = field(default_factory=dict)
    fits: Fits = lambda model, example: None
    terms: Terms | None = None
    class_specific: bool = True
    siblings: tuple[Sibling, ...] = ()
    code: str = ""
    facts: Facts | None = None

    @property
    def defaults(self) -> dict[str, Value]:
        """Hyperparameters and their defaults."""
        return keyword_defaults(self.function)

    def parameters(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """Defaults with `given` in their place; an unknown name is refused with the nearest."""
        return merged(self.entry.key, self.defaults, given)


CHANNELS = 512
"""Feature maps of a layer that nobody has looked at: as many as the last ones of a ResNet-18 and of a VGG-16."""


@dataclass(frozen=True)
class Explainer:
    """A method with its hyperparameters, on a layer of so many feature maps."""

    method: Method
    parameters: Mapping[str, Value]
    channels: int = CHANNELS

    @property
    def passes(self) -> int:
        """Samples forwarded for one map."""
        return self.method.passes({**self.parameters, "channels": self.channels})

    def variations(self) -> list["Explainer"]:
        """The same with one hyperparameter at another value of its declared range, for each in turn."""
        return [
            replace(self, parameters={**self.parameters, name: value})
            for name, values in self.method.ranges.items()
            for value in values
            if value != self.parameters[name]
        ]


METHODS: Registry[Method] = Registry("cardgen.methods")


def method(
    *,
    key: str,
    title: str,
    source: Source,
    access: Access,
    reduction: str = "sum",
    signed: bool = True,
    random: bool = False,
    control: str = "",
    needs: tuple[str, ...] = (),
    complete: str = "",
    ranges: Ranges | None = None,
    fits: Fits = lambda model, example: None,
    terms: Terms | None = None,
    class_specific: bool = True,
    siblings: tuple[Sibling, ...] = (),
    version: int = 1,
    passes: Callable[[Mapping[str, Any]], int] = lambda parameters: 0,
) -> Callable[[F], F]:
    """Register a saliency method; raise `version` whenever its numbers move.

    Args:
        key: the name on the command line, and of its facts file and card.
        title: the name people read.
        source: the paper.
        access: what it needs of the model: outputs, gradients, features (convolutional layers) or internals.
        reduction: how attributions become a map: "sum" over channels, or "max_abs", the maximum of absolute values.
        signed: whether the map's sign means evidence for and against.
        random: whether it draws random numbers.
        control: for controls, what kind: noise, prior, flat, truth, or held_out (for calibration alone).
        needs: what the subject must have: masks.
        complete: the hyperparameter that names the baseline against which the method claims completeness; empty where it claims none.
        ranges: values over which people set each hyperparameter, for hyperparameter_dependence.
        fits: raises CardgenError where the method cannot explain the model; the words up to the first `;` become the reason.
        terms: the same attributions as a sum of tensors that autograd follows back to the inputs, where they are differentiable and
            the derivative is not zero by nature.
        class_specific: whether the map is of one class; false for methods that give one map for all.
        siblings: networks that are trained for the model and that the method takes.
        version: of the numbers.
        passes: samples forwarded (a backward pass counts as one) for one map, from the hyperparameters and, under `channels`, the number
            of the layer's feature maps.

    Raises:
        CardgenError: a field of another kind than is expected, or a key that is taken.
    """
    fields = {"key": key, "title": title, "source": source, "access": access, "reduction": reduction}
    try:
        entry = MethodEntry(**fields, signed=signed, random=random, control=control, version=version)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise CardgenError(f"method {key!r}: {first['loc'][0]}: {first['msg']}; got {first['input']!r:.80}") from None

    def register(function: F) -> F:
        _require_call(key, function)
        made = Method(entry, function, passes, needs, complete, ranges or {}, fits, terms, class_specific, siblings)
        METHODS.add(key, made)
        return function

    return register


def _require_call(key: str, function: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called as methods are.

    Raises:
        CardgenError: it does not take the four arguments, a hyperparameter is not keyword-only, or has no default that a record can hold.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    keywords: dict[str, object] = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    more = [p.name for p in parameters[4:] if p.kind is p.POSITIONAL_OR_KEYWORD]
    if more:
        raise CardgenError(
            f"method {key!r}: {more[0]} can be given by place; expected keyword-only hyperparameters, which records and budgets know; "
            f"write *, before it"
        )
    try:
        signature.bind("model", "inputs", "targets", "context", **keywords)
    except TypeError as error:
        raise CardgenError(
            f"method {key!r}: {error}; expected a function (model, inputs, targets, context, *, hyperparameters); mend its parameters"
        ) from None
    for name, default in keywords.items():
        if not isinstance(default, bool | int | float | str | None):
            said = "has no default" if default is inspect.Parameter.empty else f"is {default!r:.80} by default"
            raise CardgenError(
                f"method {key!r}: {name} {said}; expected a number, a text, True, False or None, which records can hold; give it one"
            )


def keyword_defaults(function: Callable[..., Any]) -> dict[str, Value]:
    """The keyword-only parameters of a plug-in and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def merged(owner: str, defaults: Mapping[str, Value], given: Mapping[str, Value]) -> dict[str, Value]:
    """Defaults with `given` in their place; an unknown name is refused with the nearest."""
    for name in given:
        if name not in defaults:
            raise CardgenError(f"{owner}: {unknown('parameter', name, defaults)}")
    return {**defaults, **given}


def reduced(attributions: Float[Tensor, "n c h w"], reduction: str) -> Float[Tensor, "n h w"]:
    """The map of attributions: their sum over channels, or the maximum over channels of their absolute value."""
    return attributions.abs().amax(1) if reduction == "max_abs" else attributions.sum(1)


def attributions(
    chosen: Method,
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    parameters: Mapping[str, Value],
) -> Float[Tensor, "n _ h w"]:
    """Explain all samples, in chunks of `context.batch`, with a model that is already prepared.

    Raises:
        CardgenError: the method returned something that is no attribution of these inputs.
    """
    parts: list[Tensor] = []
    context = replace(context, kept={})
    for start in range(0, len(inputs), context.batch):
        chunk = slice(start, start + context.batch)
        # copies, so that a method that writes into what it gets does not change the images for all that come after
        given = inputs[chunk].clone(), targets[chunk].clone()
        part = chosen.function(model, *given, context.part(chunk), **parameters)
        parts.append(_checked(chosen.entry.key, part, inputs[chunk]))
    return torch.cat(parts)


def _checked(key: str, found: object, inputs: Tensor) -> Tensor:
    n, c, h, w = inputs.shape
    if not isinstance(found, Tensor):
        raise CardgenError(
            f"{key} returned {type(found).__name__}; expected a tensor of shape ({n}, {c} or 1, {h}, {w})"
        )
    found = found.detach()
    if tuple(found.shape) not in ((n, c, h, w), (n, 1, h, w)):
        raise CardgenError(f"{key} returned shape {tuple(found.shape)}; expected ({n}, {c} or 1, {h}, {w})")
    if not all_finite(found):
        raise CardgenError(f"{key} returned NaN or infinities; expected finite attributions; check the model's outputs")
    return found.float()


def require_fit(chosen: Method, model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model that a method cannot explain.

    Raises:
        CardgenError: a black box, where more than outputs is needed, or whatever the method itself asks for.
    """
    access = chosen.entry.access
    if access not in ("none", "outputs") and isinstance(model, BlackBox):
        raise CardgenError(
            f"needs the model's {access}, and the model is a black box that gives only outputs; choose a method that needs outputs alone"
        )
    chosen.fits(model, example)


def real_methods(keys: Sequence[str] | None = None) -> list[str]:
    """Keys of the methods that are no controls."""
    return [key for key in (keys or METHODS) if not METHODS[key].entry.control]
