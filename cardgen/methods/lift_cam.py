"""LIFT-CAM: feature maps weighted by what DeepLIFT says each contributes to the score."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen.class_activation import enlarged, layer_of, weighted
from cardgen.errors import CardgenError
from cardgen.features import last_features, leaves_after, replaced, slopes_at
from cardgen.forward import target_logits
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.repair import Unhooked
from cardgen.rescale import rescaled


class Lifted(NamedTuple):
    """Feature maps, the contribution of each to the score, and whether those of a sample add up to the score's change."""

    maps: Float[Tensor, "n k u v"]
    contributions: Float[Tensor, "n k"]
    complete: Bool[Tensor, " n"]


def lifted(model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], layer: str) -> Lifted:
    """C_k = Σ_p m_p A^k_p, with m DeepLIFT's multipliers from feature maps of zeros, where s_c(A) − s_c(0) should be Σ_k C_k."""
    n = len(inputs)
    kept: list[Tensor] = []

    def halved(maps: Tensor) -> Tensor:
        kept.append(maps[:n].detach().requires_grad_())
        return torch.cat([kept[-1], torch.zeros_like(kept[-1])])

    with torch.enable_grad(), replaced(model, inputs[:1], layer, halved), rescaled():
        scores = target_logits(model, torch.cat([inputs, inputs]), torch.cat([targets, targets]))
        multipliers = slopes_at(kept[-1], scores[:n].sum(), layer)
    maps, scores = kept[-1].detach(), scores.detach()
    contributions = (multipliers.float() * maps.float()).sum((2, 3))
    apart = (contributions.sum(1) - scores[:n] + scores[n:]).abs()
    eps = torch.finfo(maps.dtype).eps
    rounding = eps**0.5 * contributions.abs().sum(1) + 16 * eps * scores.view(2, n).abs().sum(0)
    return Lifted(maps.float(), contributions, apart <= rounding)


def require_rules(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model that computes something after its last features for which DeepLIFT has no rule.

    Raises:
        CardgenError: it does; or it has no last features.
    """
    layer = last_features(model, example)
    target = torch.zeros(1, dtype=torch.int64, device=example.device)
    if not lifted(Unhooked(model), example, target, f"model.{layer}").complete.all():
        after = ", ".join(leaves_after(model, example, layer)) or "functions outside modules"
        raise _no_rule(f"{layer} ({after})")


def _no_rule(place: str) -> CardgenError:
    return CardgenError(
        f"DeepLIFT has no rule for something that the model computes after {place}: contributions do not add up to the score's change; "
        "expected linear layers, elementwise activations and pooling; name a later layer, or leave lift_cam out"
    )


@method(
    key="lift_cam",
    title="LIFT-CAM",
    source=Source(paper="Jung & Oh 2021", url="https://arxiv.org/abs/2102.05228", where="LIFT-CAM"),
    access="features",
    signed=False,
    fits=require_rules,
    passes=lambda parameters: 4,
)
def lift_cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """ReLU(Σ_k C_k A^k), C_k the contribution of A^k to s_c by DeepLIFT, from a reference of zeros; enlarged (bilinear, not aligned).

    A^k are the feature maps of `context.layer`, by default the last convolutional ones. DeepLIFT runs on the rest of the network, with
    its rescale rule (`cardgen.rescale`), and a feature map's contributions are summed over its pixels, so that Σ_k C_k = s_c(A) − s_c(0).
    On a linear head C_k is the Shapley value of A^k, which it estimates elsewhere. Never negative; units: logits times the feature
    maps'. Jung & Oh 2021.

    Own rules, on samples and references in one batch: captum's DeepLift, which the authors' code calls, needs every activation to be a
    module that is used once, and loses the rule of a max pooling that directly follows one. The sum is checked for every sample.

    Raises:
        CardgenError: contributions do not add up, so DeepLIFT has no rule for something after the layer.
    """
    layer = layer_of(model, inputs, context)
    maps, contributions, complete = lifted(model, inputs, targets, layer)
    if not complete.all():
        raise _no_rule(layer)
    return enlarged(weighted(maps, contributions), inputs)
