"""Class activation: what methods share that weight the feature maps of a layer and enlarge the sum."""

from collections.abc import Callable, Iterator

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.features import features_and_gradients, last_features
from cardgen.methods import Context, Terms

Combine = Callable[[Float[Tensor, "n k u v"], Float[Tensor, "n k u v"]], Float[Tensor, "n u v"]]
"""From feature maps A^k and ∂s_c/∂A^k to one map a sample, at the feature maps' size."""


def layer_of(model: nn.Module, inputs: Float[Tensor, "n c h w"], context: Context) -> str:
    """The layer that was named, or the last convolutional features."""
    return context.layer or context.once("last features", model, lambda: last_features(model, inputs[:1]))


def enlarged(maps: Float[Tensor, "m u v"], inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "m 1 h w"]:
    """Maps at the size of the inputs, bilinear without aligned corners."""
    return F.interpolate(maps[:, None], size=inputs.shape[2:], mode="bilinear", align_corners=False)


def weighted(maps: Float[Tensor, "n k u v"], weights: Float[Tensor, "n k"]) -> Float[Tensor, "n u v"]:
    """ReLU(Σ_k w_k A^k)."""
    return (weights[:, :, None, None] * maps).sum(1).relu()


def explained(
    combine: Combine,
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    graph: bool = False,
) -> Float[Tensor, "n 1 h w"]:
    """The map that `combine` makes of a layer's feature maps and their gradients, in float32, enlarged; with `graph` it keeps its own."""
    layer = layer_of(model, inputs, context)
    maps, gradients = features_and_gradients(model, inputs, targets, layer, graph=graph)
    return enlarged(combine(maps.float(), gradients.float()), inputs)


def terms_of(combine: Combine) -> Terms:
    """`Method.terms` of a method that `explained` makes: the map, with its graph."""

    def terms(
        model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
    ) -> Iterator[Float[Tensor, "n 1 h w"]]:
        yield explained(combine, model, inputs, targets, context, graph=True)

    return terms
