"""Grad-CAM++: feature maps weighted by their positive gradients, pixel by pixel."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import explained, terms_of, weighted
from cardgen.methods import Context, method
from cardgen.records import Source


def combine(maps: Float[Tensor, "n k u v"], gradients: Float[Tensor, "n k u v"]) -> Float[Tensor, "n u v"]:
    """The map at the feature maps' size."""
    below = 2 + gradients * maps.sum((2, 3), keepdim=True)
    alphas = torch.where(below == 0, 0, 1 / torch.where(below == 0, 1, below))
    return weighted(maps, (alphas * gradients.relu()).sum((2, 3)))


@method(
    key="grad_cam_plus_plus",
    title="Grad-CAM++",
    source=Source(paper="Chattopadhyay et al. 2018", url="https://arxiv.org/abs/1710.11063", where="section 3"),
    access="features",
    signed=False,
    terms=terms_of(combine),
    passes=lambda parameters: 2,
)
def grad_cam_plus_plus(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """ReLU(Σ_k w_k A^k), w_k = Σ_p α_p ReLU(g_p), α_p = g_p² / (2 g_p² + g_p³ Σ_q A^k_q), enlarged (bilinear, align_corners=False).

    g = ∂s_c/∂A^k at the pixels p of the feature maps A^k of `context.layer`, by default the last convolutional ones. Never negative;
    units: logits. Chattopadhyay, Sarkar, Howlader, Balasubramanian 2018, section 3, whose class score is exp(s_c): that makes its second
    and third derivatives g² and g³, up to the factor exp(s_c). The factor is one a sample, so it scales the map and changes nothing else;
    it is left out, as exp overflows in float32 where a logit exceeds 88.

    α is computed as 1 / (2 + g Σ_q A^k_q), the same wherever g is not zero: where it is, nothing is weighted. α is 0 where this
    denominator is 0, which takes feature maps with negative values. No ε is added: one of 1e-6 to the paper's own denominator, which is
    of the order of g², changes maps where gradients are small, as behind a softmax. The authors' code also divides the α of each feature
    map by their sum, which the paper does not; torchcam 0.5 has g² in the place of α, as what it divides is a copy.
    """
    return explained(combine, model, inputs, targets, context)
