"""XGrad-CAM: feature maps weighted by their gradients where they are active."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import explained, terms_of, weighted
from cardgen.methods import Context, method
from cardgen.records import Source


def combine(maps: Float[Tensor, "n k u v"], gradients: Float[Tensor, "n k u v"]) -> Float[Tensor, "n u v"]:
    """The map at the feature maps' size."""
    total = maps.sum((2, 3))
    product = (gradients * maps).sum((2, 3))
    return weighted(maps, torch.where(total == 0, 0, product / torch.where(total == 0, 1, total)))


@method(
    key="xgrad_cam",
    title="XGrad-CAM",
    source=Source(paper="Fu et al. 2020", url="https://arxiv.org/abs/2008.02312", where="section 3"),
    access="features",
    signed=False,
    terms=terms_of(combine),
    passes=lambda parameters: 2,
)
def xgrad_cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """ReLU(Σ_k w_k A^k), w_k = Σ_p A^k_p g_p / Σ_p A^k_p, enlarged (bilinear, align_corners=False).

    g = ∂s_c/∂A^k at the pixels p of the feature maps A^k of `context.layer`, by default the last convolutional ones: Grad-CAM's mean of
    the gradient, but weighted by the activation. So it is Grad-CAM where the gradient is the same at all pixels, as before global average
    pooling. Never negative; units: logits. Fu, Hu, Dong, Guo, Gao, Li 2020, section 3.

    A feature map whose values sum to exactly 0, as a silent one does, gets the weight 0; the authors' code adds 1e-6 to the sum and
    torchcam 1e-8, which changes the weights of feature maps that are hardly active. Where values can be negative, as before an
    activation, the sum may come near 0 and the weight become large: the method is made for feature maps after a ReLU.
    """
    return explained(combine, model, inputs, targets, context)
