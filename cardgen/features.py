"""Feature maps and their gradients: what methods of class activation share."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import target_logits
from cardgen.registry import unknown


def last_features(model: nn.Module, example: Float[Tensor, "n c h w"]) -> str:
    """The module whose output is the last convolutional feature map, after its normalisation and activation.

    It is the last convolution executed whose output has more than one pixel, and then on to the last module after it that keeps the
    shape (batch norm, ReLU): a VGG's final ReLU before the pool, a ResNet's last block's ReLU.

    Raises:
        CardgenError: the model executes no such convolution.
    """
    calls: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    handles = []
    for name, module in model.named_modules():
        if not any(True for _ in module.children()):
            handles.append(
                module.register_forward_hook(
                    lambda m, _, out, name=name: calls.append((name, m, tuple(getattr(out, "shape", ()))))
                )
            )
    try:
        with torch.no_grad():
            model.forward(example)  # not model(example): this pass is no measurement, and hooks that count are not to see it
    finally:
        for handle in handles:
            handle.remove()
    convolutions = [
        i
        for i, (_, m, shape) in enumerate(calls)
        if isinstance(m, nn.Conv2d) and len(shape) == 4 and shape[2] * shape[3] > 1
    ]
    if not convolutions:
        raise CardgenError(
            "the model executes no Conv2d with more than one pixel of output; methods that need features expect a "
            "convolutional network; name a layer whose output is [n, channels, h, w] with layer=, or leave these methods out"
        )
    chosen = convolutions[-1]
    while chosen + 1 < len(calls) and calls[chosen + 1][2] == calls[chosen][2]:
        chosen += 1
    return calls[chosen][0]


@contextmanager
def _cut(module: nn.Module, kept: list[Tensor]) -> Iterator[None]:
    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # what comes next may work in place

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def features_and_gradients(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], layer: str
) -> tuple[Float[Tensor, "n k u v"], Float[Tensor, "n k u v"]]:
    """Feature maps A^k of a layer and ∂s_c/∂A^k, in one forward pass and a backward pass that ends at the layer.

    A module that runs several times gives its last feature maps.

    Raises:
        CardgenError: no such layer, or one whose output is no feature map.
    """
    kept: list[Tensor] = []
    modules = dict(model.named_modules())
    if layer not in modules:
        raise CardgenError(f"the model's layers: {unknown('layer', layer, list(modules))}")
    with torch.enable_grad(), _cut(modules[layer], kept):
        score = target_logits(model, inputs, targets).sum()
        if not kept or kept[-1].ndim != 4:
            found = f"an output of shape {tuple(kept[-1].shape)}" if kept else "no output: it is never executed"
            raise CardgenError(
                f"layer {layer!r} has {found}; expected feature maps [n, channels, h, w]; name a convolutional layer with layer="
            )
        (gradients,) = torch.autograd.grad(score, kept[-1])
    return kept[-1].detach(), gradients
