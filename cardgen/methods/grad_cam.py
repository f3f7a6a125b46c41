"""Grad-CAM: feature maps weighted by their mean gradient."""

from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.features import features_and_gradients, last_features
from cardgen.methods import Context, method
from cardgen.records import Source


def terms(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Iterator[Float[Tensor, "n 1 h w"]]:
    """The map, with its graph."""
    layer = context.layer or last_features(model, inputs[:1])
    yield _map(*features_and_gradients(model, inputs, targets, layer, graph=True), inputs)


@method(
    key="grad_cam",
    title="Grad-CAM",
    source=Source(paper="Selvaraju et al. 2017", url="https://arxiv.org/abs/1610.02391", where="equations 1 and 2"),
    access="features",
    signed=False,
    terms=terms,
    passes=lambda parameters: 2,
)
def grad_cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """ReLU(Σ_k α_k A^k) with α_k the mean over pixels of ∂s_c/∂A^k, upsampled to the input (bilinear, align_corners=False).

    A^k are the feature maps of `context.layer`, by default the last convolutional ones. Never negative; units: logits.
    Selvaraju et al. 2017, equations 1 and 2.
    """
    maps, gradients = features_and_gradients(model, inputs, targets, context.layer or last_features(model, inputs[:1]))
    return _map(maps, gradients, inputs)


def _map(
    maps: Float[Tensor, "n k u v"], gradients: Float[Tensor, "n k u v"], inputs: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n 1 h w"]:
    weights = gradients.mean((2, 3), keepdim=True)
    cam = (weights * maps).sum(1, keepdim=True).relu()
    return F.interpolate(cam, size=inputs.shape[2:], mode="bilinear", align_corners=False)
