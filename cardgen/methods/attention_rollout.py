"""Attention rollout: attention of all layers multiplied, half of each token's weight staying where it is."""

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
    key="attention_rollout",
    title="Attention Rollout",
    source=Source(paper="Abnar and Zuidema 2020", url="https://arxiv.org/abs/2005.00928", where="equation 1"),
    access="internals",
    signed=False,
    class_specific=False,
    fits=find_tokens,
    terms=terms,
    passes=lambda parameters: 1,
)
def attention_rollout(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """Ã[class, patch] with Ã = B_L B_{L−1} … B_1 and B_l = ½ (A_l + I), upsampled to the input (bilinear, align_corners=False).

    A_l is layer l's attention, the mean over heads; I stands for the residual connection. Rows of B_l sum to 1, as do those of Ã. Never
    negative; units: the share of the class token that a patch makes up, if attention were all that mixes tokens. The target has no part
    in it: one map for all classes. Abnar and Zuidema 2020, equation 1; on images Dosovitskiy et al. 2021, figure 6.

    The paper's authors average heads, as here. The well-known vit-explain (jacobgil) can take the heads' maximum or minimum instead and
    sets the smallest weights to 0 (its discard ratio, 0.9 by default): neither is in the papers, and both are left out.
    Where the head reads two tokens (distilled DeiT), it is the mean of their rows; where it averages the patches and no class token is
    read, the mean of all patches' rows.
    """
    with torch.no_grad():
        return _map(model, inputs)


def _map(model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    tokens = find_tokens(model, inputs[:1])
    rolled: list[Tensor] = []

    def take(weights: Float[Tensor, "n heads t t"]) -> None:
        mixed = (weights.mean(1) + torch.eye(weights.shape[-1], device=weights.device)) / 2
        rolled[:] = [mixed @ rolled[0] if rolled else mixed]

    each_layer(model, inputs, take)
    return patches(rolled[0], tokens, inputs)
