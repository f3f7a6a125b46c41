"""Excitation backprop: the chance that a random walk down the network, along what excites each unit, passes through a place."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.errors import CardgenError
from cardgen.features import check_layer, features_and_gradients, last_features
from cardgen.forward import target_logits
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.relevance import Layer, Positive, negated, positive_rule, share
from cardgen.rules import Ruled, require_same
from cardgen.space import UNNORMALISED


class _Excitation(Positive):
    """Chances in the place of relevance. The first layer on the way back is the classifier, where they start at one."""

    title = "excitation backprop"

    def __init__(self, contrastive: bool) -> None:
        super().__init__(UNNORMALISED)
        self.contrastive, self.top = contrastive, True

    def begin(self, inputs: Tensor) -> None:
        super().begin(inputs)
        self.top = True

    def layer(self, name: str, layer: Layer, relevance: Tensor) -> Tensor:
        if not self.top:
            return positive_rule(layer, relevance)
        self.top = False
        chances = share(relevance, relevance.sum(list(range(1, relevance.ndim)), keepdim=True))
        found = positive_rule(layer, chances)
        return found - positive_rule(negated(layer), chances) if self.contrastive else found


def stage_before(model: nn.Module, example: Float[Tensor, "n c h w"]) -> str:
    """The last module whose feature maps, none of them negative, have at least twice the height and width of the last ones.

    Of modules that run several times none; the last features themselves if there is no other.
    """
    last = last_features(model, example)
    calls: list[tuple[str, Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: calls.append((name, output)) if isinstance(output, Tensor) else None
        )
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            model.forward(example)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in calls]
    height, width = dict(calls)[last].shape[2:]
    for name, maps in reversed(calls[: names.index(last)]):
        if maps.ndim == 4 and maps.shape[2] >= 2 * height and maps.shape[3] >= 2 * width:
            if names.count(name) == 1 and bool((maps >= 0).all()):
                return name
    return last


def require_excitation(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model with something for which there is no rule between the feature maps and the scores.

    Raises:
        CardgenError: such a model, or one without feature maps, or whose scores are sums over several classifiers.
    """
    layer = stage_before(model, example)
    rules = _Excitation(False)
    require_same(model, Ruled(model, rules, unseen=True), example)
    target = torch.zeros(1, dtype=torch.int64, device=example.device)
    maps, signals = features_and_gradients(Ruled(model, rules, unseen=True), example, target, f"model.{layer}")
