"""A classifier's feature maps from shallow to deep, one layer a resolution: what masking networks read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.features import Call, executed, last_features
from cardgen.forward import logits

LEVELS = 4
"""Resolutions at most, the lowest ones: the number of halvings between the first maps of a ResNet or a VGG and its last."""


def feature_layers(model: nn.Module, example: Float[Tensor, "n c h w"]) -> list[str]:
    """The last layer to return feature maps at each of the four lowest resolutions, from the shallowest to the last features.

    Of the modules that run until the last convolutional features (`last_features`) it takes those that return more than one pixel, and
    for each size in pixels the last of them. A module that runs several times counts where it last runs, as its last maps are what
    can be had of it; a Sequential, which returns what its last module does, leaves the place to that one.

    Raises:
        CardgenError: the model has no convolutional features, as `last_features` has it.
    """
    last = last_features(model, example)
    calls = executed(model, example)
    end = max(i for i, call in enumerate(calls) if call.name == last)
    layers: dict[tuple[int, ...], str] = {}
    for i, call in enumerate(calls[: end + 1]):
        again = any(later.module is call.module for later in calls[i + 1 :])
        if _is_map(call) and not again and not isinstance(call.module, nn.Sequential):
            layers.pop(call.shape[2:], None)  # so that the order is that of the last layers
            layers[call.shape[2:]] = call.name
    return list(layers.values())[-LEVELS:]


def _is_map(call: Call) -> bool:
    return bool(call.name) and len(call.shape) == 4 and call.shape[2] * call.shape[3] > 1


@torch.no_grad()
def features_and_logits(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], layers: Sequence[str]
) -> tuple[list[Float[Tensor, "n _ _ _"]], Float[Tensor, "n k"]]:
    """The feature maps of some layers in float32, and the scores, of one forward pass; of a module that runs several times, its last maps.

    Raises:
        CardgenError: the model has no such layer, or one that returns no feature maps.
    """
    kept: dict[str, object] = {}
    with _kept(model, layers, kept):
        scores = logits(model, inputs)
    found: list[Tensor] = []
    for layer in layers:
        maps = kept.get(layer)
        if not isinstance(maps, Tensor) or maps.ndim != 4:
            raise CardgenError(
                f"layer {layer!r} gave no feature maps; expected [n, channels, h, w], as of the model that the masking network was trained "
                "for; train one for this model"
            )
        found.append(maps.float())
    return found, scores


@contextmanager
def _kept(model: nn.Module, layers: Sequence[str], kept: dict[str, object]) -> Iterator[None]:
    modules = dict(model.named_modules())
    missing = [layer for layer in layers if layer not in modules]
    if missing:
        raise CardgenError(
            f"the model has no layer {missing[0]!r}; expected the layers {', '.join(layers)} of the model that the masking network was "
            "trained for; train one for this model"
        )

    def keep(layer: str, output: object) -> None:
        # a copy: what comes next may work in place
        kept[layer] = output.clone() if isinstance(output, Tensor) else output

    handles = [
        modules[layer].register_forward_hook(lambda _, __, output, layer=layer: keep(layer, output)) for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
