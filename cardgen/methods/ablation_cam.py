"""Ablation-CAM: feature maps weighted by how far the score drops without each of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import enlarged, layer_of, weighted
from cardgen.features import features_and_scores, replaced
from cardgen.forward import variant_logits
from cardgen.methods import Context, method
from cardgen.records import Source


@method(
    key="ablation_cam",
    title="Ablation-CAM",
    source=Source(
        paper="Desai & Ramaswamy 2020", url="https://doi.org/10.1109/WACV45572.2020.9093360", where="section 3"
    ),
    access="features",
    signed=False,
    passes=lambda parameters: parameters["channels"] + 1,
)
def ablation_cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """ReLU(Σ_k w_k A^k), w_k = (s_c − s_c without A^k) / |s_c|, enlarged (bilinear, align_corners=False).

    A^k are the feature maps of `context.layer`, by default the last convolutional ones; one at a time is set to zero, everywhere, and the
    model runs on from there. Never negative; units: the feature maps'. Desai & Ramaswamy 2020, section 3.

    The paper divides by s_c, as it explains predictions, whose logits are positive; of a negative one that would turn the map upside
    down, so here it is the magnitude, and 1 where the logit is 0. Either way it is one factor a sample. All of the model runs again for
    each feature map, in batches that are full across samples: which part of a network comes after a layer cannot be cut out safely.
    """
    layer = layer_of(model, inputs, context)
    maps, whole = features_and_scores(model, inputs, targets, layer)
    without: list[int] = []

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        out.copy_(inputs[i].expand_as(out))
        without.extend(range(first, last))

    def ablate(batch: Tensor) -> Tensor:
        rows = torch.arange(len(batch), device=batch.device)
        batch[rows, torch.tensor(without, device=batch.device)] = 0
        without.clear()
        return batch

    with replaced(model, inputs[:1], layer, ablate):
        left = variant_logits(model, inputs, targets, maps.shape[1], write, context.batch)
    weights = (whole[:, None] - left) / torch.where(whole == 0, 1, whole.abs())[:, None]
    return enlarged(weighted(maps.float(), weights), inputs)
