"""Excitation backprop: the chance that a random walk down the network, along what excites each unit, passes through a place."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.features import check_layer, features_and_gradients, last_features
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.relevance import Layer, Positive, negated, positive_rule, share
from cardgen.rules import Ruled, require_same
from cardgen.space import UNNORMALISED


class _Excitation(Positive):
    """Chances in the place of relevance. The first layer on the way back gives the scores: there they start at one."""

    title = "excitation backprop"

    def __init__(self, contrastive: bool) -> None:
        super().__init__(UNNORMALISED)
        self.contrastive = contrastive

    def layer(self, name: str, layer: Layer, relevance: Tensor, value: Tensor) -> Tensor:
        if not self.top:
            return super().layer(name, layer, relevance, value)
        self.top = False
        chances = share(relevance, relevance.sum(list(range(1, relevance.ndim)), keepdim=True))
        found = positive_rule(layer, chances)
        return found - positive_rule(negated(layer), chances) if self.contrastive else found


def stage_before(model: nn.Module, example: Float[Tensor, "n c h w"]) -> str:
    """The last module whose feature maps, none of them negative, have at least twice the height and width of the last ones.

    Of modules that run several times none; the last features themselves if there is no other. That maps are not negative is seen on images
    of noise, the same for all of a size: on a dark image, say, maps can be so by chance, and a sample is to have its layer in any batch.
    """
    last = last_features(model, example)
    calls: list[tuple[str, tuple[int, ...], bool]] = []

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            calls.append((name, tuple(output.shape[2:]), bool((output >= 0).all())))

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in model.named_modules()
    ]
    noise = torch.randn(4, *example.shape[1:], generator=generator("excitation_backprop", "layer")).to(example)
    try:
        with torch.no_grad():
            model.forward(noise)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _, _ in calls]
    at = len(names) - 1 - names[::-1].index(last)
    height, width = calls[at][1]
    for name, size, rectified in reversed(calls[:at]):
        if size[0] >= 2 * height and size[1] >= 2 * width and rectified and names.count(name) == 1:
            return name
    return last


def require_excitation(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model with something for which there is no rule, without feature maps, or with scores from several classifiers.

    Raises:
        CardgenError: such a model.
    """
    stage_before(model, example)
    scores = require_same(model, _Excitation(contrastive=False), example)
    waiting: list[Any] = [scores.grad_fn]
    classifiers = set()
    while waiting:
        node = waiting.pop()
        if getattr(node, "weighted", False):
            classifiers.add(node)
        else:
            waiting += [source for source, _ in node.next_functions if source is not None]
    if len(classifiers) > 1:
        raise CardgenError(
            "excitation backprop starts at the one layer that gives the scores, and the model's scores come from several; expected one "
            "linear layer or convolution before them; leave excitation backprop out"
        )


@method(
    key="excitation_backprop",
    title="Excitation Backprop",
    source=Source(paper="Zhang et al. 2016", url="https://arxiv.org/abs/1608.00507", where="sections 3.2 and 3.3"),
    access="internals",
    signed=False,
    ranges={"contrastive": (True, False)},
    fits=require_excitation,
    passes=lambda parameters: 2,
)
def excitation_backprop(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    contrastive: bool = True,
) -> Float[Tensor, "n 1 h w"]:
    """Σ over channels of the chance P(a_i) that a walk from the class's score passes through activation a_i of a layer, upsampled.

    From a unit j the walk goes on to an input i that excites it with chance P(a_i | a_j) = a_i w_ij / Σ_i a_i w_ij over the inputs with
    w_ij > 0, so P(a_i) = Σ_j P(a_i | a_j) P(a_j), and P = 1 at the score. Contrastive: at the inputs of the last layer, the chances of
    the same score with all its weights negated are subtracted; the difference goes on down, and what is negative in the map is set to
    zero, as in the authors' code. Never negative. Units: chance, before upsampling (bilinear, align_corners=False; the authors' code is
    bicubic, which swings below zero). Zhang, Lin, Brandt, Shen, Sclaroff 2016, equations 1 to 4 and section 3.3.

    The layer is `context.layer`. The paper chooses one by hand a network (pool2 of GoogLeNet, in the middle of it); by default here it is
    the last layer with rectified maps of at least twice the height and width of the last convolutional ones.

    For what the paper's networks do not have: batch normalisation right after a layer is merged into it, and summands share chances in
    proportion, those of another sign than the sum getting none. The authors' code for residual networks hands all chances of a sum to
    its second summand, and leaves batch normalisation out of account. An activation below zero excites along negative weights, and is
    excited by what makes it negative. Chances are lost where a unit gets nothing of its sign from any input.

    Args:
        contrastive: whether what would speak against the class as well is taken off.

    Raises:
        CardgenError: no such layer, or one that gives no feature maps.
    """
    layer = context.layer or context.once("stage before", model, lambda: stage_before(model, inputs[:1]))
    if layer not in dict(model.named_modules()):
        check_layer(model, inputs[:1], layer)
    ruled = Ruled(model, _Excitation(contrastive))
    maps, signals = features_and_gradients(ruled, inputs, targets, f"model.{layer}")
    chances = (maps * signals).float().sum(1, keepdim=True).clamp(min=0)
    return F.interpolate(chances, size=inputs.shape[2:], mode="bilinear", align_corners=False)
