"""Activation map: the plain mean of the feature maps, whatever the class; a baseline for class activation."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import enlarged, layer_of, terms_of
from cardgen.features import features_and_scores
from cardgen.methods import Context, method
from cardgen.records import Source


@method(
    key="activation_map",
    title="Activation Map",
    source=Source(
        paper="Gomez & Mouchère 2023", url="https://doi.org/10.1117/1.JEI.32.2.020801", where="activation map"
    ),
    access="features",
    signed=False,
    class_specific=False,
    terms=terms_of(lambda maps, gradients: maps.mean(1)),
    passes=lambda parameters: 1,
)
def activation_map(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """1/K Σ_k A^k, enlarged (bilinear, align_corners=False): where the K feature maps are active, for no class in particular.

    A^k are the feature maps of `context.layer`, by default the last convolutional ones. It has no weights, so what a weighted sum of the
    same feature maps adds is its lead over this map. Not signed: its values are those of the feature maps, which are never negative after
    a ReLU, and where they are negative that speaks against nothing. Units: the feature maps'. Gomez & Mouchère 2023.
    """
    maps, _ = features_and_scores(model, inputs, targets, layer_of(model, inputs, context))
    return enlarged(maps.float().mean(1), inputs)
