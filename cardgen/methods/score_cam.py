"""Score-CAM: feature maps weighted by the class's score of the image seen through each of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import enlarged, layer_of, weighted
from cardgen.errors import CardgenError
from cardgen.features import features_and_scores
from cardgen.forward import variant_scores
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import substrate


@method(
    key="score_cam",
    title="Score-CAM",
    source=Source(paper="Wang et al. 2020", url="https://arxiv.org/abs/1910.01279", where="algorithm 1"),
    access="features",
    signed=False,
    ranges={"weights": ("softmax", "probability"), "background": ("mean", "black", "blur")},
    passes=lambda parameters: parameters["channels"] + 1,
)
def score_cam(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    weights: str = "softmax",
    background: str = "mean",
) -> Float[Tensor, "n 1 h w"]:
    """ReLU(Σ_k w_k A^k), enlarged, w = softmax over k of s_c(x ⊙ M_k) − s_c(x_b), with M_k the enlarged A^k stretched to [0, 1].

    A^k are the feature maps of `context.layer`, by default the last convolutional ones; they are enlarged bilinearly, with
    align_corners=False, before they are stretched. x_b is the background, shown where M_k is 0.
    The increase of confidence counts as s_c(x ⊙ M_k) − s_c(x_b), not the reverse, as a tutorial prints; as a softmax does not see what
    all have in common, x_b needs no forward pass. Never negative; units: the feature maps'. Wang et al. 2020, algorithm 1.

    The authors' code takes f_c(x ⊙ M_k), the softmax probability over classes, as the weight: `weights="probability"`. It multiplies the
    normalised image by the mask, so that its background is the data's mean. A feature map that is constant, as a silent one is, cannot be
    stretched: its weight is 0 here, as in the authors' code. torchcam 0.5 stretches before it enlarges, and lets silent feature maps
    share in the softmax.

    Args:
        weights: softmax (the paper's algorithm) or probability (the authors' code).
        background: what the mask hides behind, as a substrate.

    Raises:
        CardgenError: other weights.
    """
    if weights not in ("softmax", "probability"):
        raise CardgenError(
            f"score_cam: weights are {weights!r}; expected 'softmax' or 'probability'; choose one of these"
        )
    maps, _ = features_and_scores(model, inputs, targets, layer_of(model, inputs, context))
    maps = maps.float()
    hidden = substrate(background, inputs, context.space)
    visible = inputs - hidden

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        large = enlarged(maps[i, first:last], inputs)
        low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
        masks = (large - low) / torch.where(high > low, high - low, 1)
        torch.addcmul(hidden[i], masks.to(inputs.dtype), visible[i], out=out)

    scores = variant_scores(model, inputs, targets, maps.shape[1], write, context.batch)
    varied = maps.amax((2, 3)) > maps.amin((2, 3))
    if weights == "softmax":
        factors = scores[..., 0].masked_fill(~varied, -torch.inf).softmax(1).nan_to_num(0)
    else:
        factors = scores[..., 1].exp() * varied
    return enlarged(weighted(maps, factors), inputs)
