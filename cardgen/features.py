"""Feature maps and their gradients: what methods of class activation share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import logits, target_logits
from cardgen.registry import unknown
from cardgen.repair import Unhooked, hooked


class Call(NamedTuple):
    """A module that ran in a forward pass, and the shape of what it returned."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    node: Any  # of torch's graph, at which the output is made; None if there is none


def last_features(model: nn.Module, example: Float[Tensor, "n c h w"]) -> str:
    """The module whose output is the last convolutional feature map, after its normalisation and activation.

    It is the output of the last convolution executed that has more than one pixel, and then of the last module after it, blocks
    included, of the same size in pixels: a VGG's final ReLU before the pool, a ResNet's last block, a DenseNet's normalisation after its
    last block. What has no part in the scores, a decoder beside the classifier say, does not count.

    Raises:
        CardgenError: the model executes no such convolution, or goes on from there with layers on tokens, as vision transformers do: their
            only convolution cuts the image into patches.
    """
    calls = executed(model, example)
    convolutions = [
        i
        for i, call in enumerate(calls)
        if isinstance(call.module, nn.Conv2d) and len(call.shape) == 4 and call.shape[2] * call.shape[3] > 1
    ]
    if not convolutions:
        raise CardgenError(
            "the model executes no Conv2d with more than one pixel of output; methods that need features expect a "
            "convolutional network; name a layer whose output is [n, channels, h, w] with layer=, or leave these methods out"
        )
    size = calls[convolutions[-1]].shape[2:]
    after = [
        call for call in calls[convolutions[-1] :] if call.name and len(call.shape) == 4 and call.shape[2:] == size
    ]
    chosen = after.pop()
    while isinstance(chosen.module, nn.Sequential) and after and after[-1].name.startswith(f"{chosen.name}."):
        chosen = after.pop()  # a Sequential returns what its last module does: name that module
    tokens = next(filter(_on_tokens, calls[calls.index(chosen) + 1 :]), None)
    if tokens:
        raise CardgenError(
            f"after its last convolution ({calls[convolutions[-1]].name}) the model goes on with layers on tokens ({tokens.name}); "
            "methods that need features expect a convolutional network; name a layer whose output is [n, channels, h, w] with layer=, or "
            "leave these methods out"
        )
    return chosen.name


def executed(model: nn.Module, example: Float[Tensor, "n c h w"]) -> list[Call]:
    """The modules that a forward pass executes, in the order in which they return; those that have no part in the scores are left out."""
    calls: list[Call] = []
    handles = []
    for name, module in model.named_modules():
        handles.append(
            module.register_forward_hook(
                lambda m, _, out, name=name: calls.append(Call(name, m, tuple(getattr(out, "shape", ())), _node(out)))
            )
        )
    try:
        with torch.enable_grad():
            # not model(example): this pass is no measurement, and hooks that count are not to see it
            scores = logits(Unhooked(model), example.detach().clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    behind = _behind(scores)
    return [call for call in calls if call.node is None or not behind or call.node in behind]


def _node(output: object) -> Any:
    """Where in torch's graph an output is made, or what it is a view of: what then works in place gives a view another node."""
    if not isinstance(output, Tensor):
        return None
    return output._base.grad_fn if output._base is not None else output.grad_fn


def _behind(scores: Tensor) -> set[Any]:
    """The nodes of torch's graph from which scores are made."""
    found: set[Any] = set()
    waiting = [scores.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [source for source, _ in node.next_functions]
    return found


def _on_tokens(call: Call) -> bool:
    """Whether a call mixes or maps tokens, of which each image has many."""
    return isinstance(call.module, nn.MultiheadAttention) or (
        isinstance(call.module, nn.Linear) and len(call.shape) > 2
    )


def check_layer(model: nn.Module, example: Float[Tensor, "n c h w"], layer: str) -> None:
    """Whether a layer gives feature maps, found out by running the model.

    Raises:
        CardgenError: no such layer, or one whose output is no feature map.
    """
    _outputs(model, example, layer)


def channels(model: nn.Module, example: Float[Tensor, "n c h w"], layer: str) -> int:
    """How many feature maps a layer has."""
    return _outputs(model, example, layer)[-1].shape[1]


def _outputs(model: nn.Module, example: Tensor, layer: str) -> list[Tensor]:
    """What a layer returns, a call; the last is a feature map."""
    kept: list[Tensor] = []
    handle = _named(model, layer).register_forward_hook(lambda _, __, output: kept.append(output))
    try:
        with torch.no_grad():
            model.forward(example)
    finally:
        handle.remove()
    _check_maps(layer, kept)
    return kept


def leaves_after(model: nn.Module, example: Float[Tensor, "n c h w"], layer: str) -> list[str]:
    """What runs after a layer, as "Linear (head)": modules without children, in the order of their calls."""
    names = {module: name for name, module in model.named_modules()}
    calls: list[nn.Module] = []
    with torch.no_grad(), hooked(list(names), lambda _: None, calls.append):
        model.forward(example)
    last = max(i for i, module in enumerate(calls) if names[module] == layer)
    return [f"{type(m).__name__} ({names[m]})" for m in calls[last + 1 :] if not any(True for _ in m.children())]


def _named(model: nn.Module, layer: str) -> nn.Module:
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        raise CardgenError(f"the model's layers: {unknown('layer', layer, list(modules))}")
    return modules[layer]


def _check_maps(layer: str, outputs: Sequence[object]) -> None:
    """Refuse a layer whose last output is no feature map."""
    last = outputs[-1] if outputs else None
    if not isinstance(last, Tensor) or last.ndim != 4:
        found = (
            f"an output of shape {tuple(last.shape)}"
            if isinstance(last, Tensor)
            else f"an output of type {type(last).__name__}"
        )
        found = found if outputs else "no output: it is never executed"
        raise CardgenError(
            f"layer {layer!r} has {found}; expected feature maps [n, channels, h, w]; name a convolutional layer with layer="
        )


@contextmanager
def _cut(module: nn.Module, kept: list[Tensor], graph: bool) -> Iterator[None]:
    def hook(_: nn.Module, __: object, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            kept.append(output)  # no feature map: for the message
            return None
        kept.append(output if graph else output.detach().requires_grad_())
        return kept[-1].clone()  # what comes next may work in place

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def slopes_at(
    maps: Float[Tensor, "n k u v"], score: Float[Tensor, ""], layer: str, *, graph: bool = False
) -> Float[Tensor, "n k u v"]:
    """∂score/∂A of a layer's feature maps A.

    Raises:
        CardgenError: the score is not made from them.
    """
    found: Tensor | None = None
    if score.requires_grad:
        found = torch.autograd.grad(score, maps, create_graph=graph, allow_unused=True)[0]
    if found is None:
        raise CardgenError(
            f"layer {layer!r} has no part in the model's scores, or none that gradients can follow; expected feature maps from which they "
            "are made; name another layer with layer="
        )
    return found


def features_and_gradients(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], layer: str, *, graph: bool = False
) -> tuple[Float[Tensor, "n k u v"], Float[Tensor, "n k u v"]]:
    """Feature maps A^k of a layer and ∂s_c/∂A^k, in one forward pass and a backward pass that ends at the layer.

    A module that runs several times gives its last feature maps. With `graph` both keep theirs, back to inputs that require gradients.

    Raises:
        CardgenError: no such layer, or one whose output is no feature map or has no part in the scores.
    """
    kept: list[Tensor] = []
    with torch.enable_grad(), _cut(_named(model, layer), kept, graph):
        score = target_logits(model, inputs, targets).sum()
        _check_maps(layer, kept)
        gradients = slopes_at(kept[-1], score, layer, graph=graph)
    return kept[-1] if graph else kept[-1].detach(), gradients


@torch.no_grad()
def features_and_scores(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], layer: str
) -> tuple[Float[Tensor, "n k u v"], Float[Tensor, " n"]]:
    """Feature maps A^k of a layer and s_c, in one forward pass; a module that runs several times gives its last feature maps.

    Raises:
        CardgenError: no such layer, or one whose output is no feature map.
    """
    kept: list[Tensor] = []
    with _cut(_named(model, layer), kept, graph=True):
        scores = target_logits(model, inputs, targets)
    _check_maps(layer, kept)
    return kept[-1], scores


@contextmanager
def replaced(
    model: nn.Module, example: Float[Tensor, "1 c h w"], layer: str, replace: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """In every forward pass the layer's feature maps are what `replace` makes of a copy of them; of several calls only the last ones.

    One sample tells how often the layer runs in a pass.

    Raises:
        CardgenError: no such layer, or one whose output is no feature map.
    """
    calls, call = len(_outputs(model, example, layer)), 0

    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor | None:
        nonlocal call
        call = call % calls + 1
        return replace(output.clone()) if call == calls else None

    handle = _named(model, layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
