"""Attention of the last layer: what a vision transformer's class token attends to."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.attention import each_layer, find_tokens, patches
from cardgen.methods import Context, method
from cardgen.records import Source


def terms(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Iterator[Float[Tensor, "n 1 h w"]]:
    """The map, with its graph."""
    yield _map(model, inputs)


@method(
    key="vit_attention",
    title="Last-Layer Attention",
    source=Source(paper="Caron et al. 2021", url="https://arxiv.org/abs/2104.14294", where="figure 1"),
    access="internals",
    signed=False,
    class_specific=False,
    fits=find_tokens,
    terms=terms,
    passes=lambda parameters: 1,
)
def vit_attention(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """(1/H) Σ_h A_h[class, patch] of the last layer, upsampled to the input (bilinear, align_corners=False).

    A_h = softmax(Q_h K_hᵀ / √d) are the weights of head h. Never negative; units: the share of the class token's attention that a patch
    gets, which sums to 1 with that of the extra tokens. The target has no part in it: one map for all classes.
    Caron et al. 2021, figure 1, of the transformer of Dosovitskiy et al. 2021 (arXiv:2010.11929).

    The paper looks at heads one by one, in figure 4 cut at 60 % of their mass, and the authors' code enlarges patches as squares; here
    heads are averaged, as is usual where one map is wanted, nothing is cut, and the map is smooth. Figure 6 of Dosovitskiy et al. is
    attention rollout.
    Where the head reads two tokens (distilled DeiT), it is the mean of their rows; where it averages the patches and no class token is
    read, the mean of all patches' rows: what patches attend to on average.
    """
    with torch.no_grad():
        return _map(model, inputs)


def _map(model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    tokens = find_tokens(model, inputs[:1])
    layers: list[Tensor] = []

    def take(weights: Float[Tensor, "n heads t t"]) -> None:
        layers[:] = [weights.mean(1)]

    each_layer(model, inputs, take)
    return patches(layers[0], tokens, inputs)
