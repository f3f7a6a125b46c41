"""Eigen-CAM: feature maps projected onto their first principal component, whatever the class."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import enlarged, layer_of
from cardgen.features import features_and_scores
from cardgen.methods import Context, method
from cardgen.records import Source


@method(
    key="eigen_cam",
    title="Eigen-CAM",
    source=Source(paper="Muhammad & Yeasin 2020", url="https://arxiv.org/abs/2008.00299", where="section III"),
    access="features",
    signed=False,
    class_specific=False,
    passes=lambda parameters: 1,
)
def eigen_cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """Σ_k v_k A^k with v the first right singular vector of the matrix [u·v, k] of feature maps, enlarged (bilinear, not aligned).

    A^k are the feature maps of `context.layer`, by default the last convolutional ones: the one weighted sum of unit length that has most
    energy. No class is asked for, so all classes have the same map. Units: the feature maps'. Muhammad & Yeasin 2020, section III.

    The matrix is not centred, as in the paper; pytorch-grad-cam subtracts each feature map's mean first, which gives another map. v is
    defined up to its sign: the one is taken with which the map's sum is not negative. Not signed: where feature maps are never negative,
    as after a ReLU, neither is the map, up to rounding, which is cut off; elsewhere values below 0 speak against nothing.
    """
    maps, _ = features_and_scores(model, inputs, targets, layer_of(model, inputs, context))
    rows = maps.float().flatten(2).transpose(1, 2)
    projected = projection(rows)
    projected = torch.where(projected.sum(1, keepdim=True) < 0, -projected, projected)
    projected = torch.where((maps < 0).flatten(1).any(1, keepdim=True), projected, projected.relu())
    return enlarged(projected.view(-1, *maps.shape[2:]), inputs)


def projection(rows: Float[Tensor, "n p k"]) -> Float[Tensor, "n p"]:
    """Each matrix times its first right singular vector, up to sign: from the smaller of its two products with itself."""
    if rows.shape[1] > rows.shape[2]:
        _, directions = torch.linalg.eigh(rows.mT @ rows)
        return torch.einsum("npk,nk->np", rows, directions[..., -1])
    squares, directions = torch.linalg.eigh(rows @ rows.mT)
    found: Tensor = squares[:, -1:].clamp(min=0).sqrt() * directions[..., -1]
    return found
