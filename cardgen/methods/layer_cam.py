"""LayerCAM: feature maps weighted by their positive gradients at each pixel."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import explained, terms_of
from cardgen.methods import Context, method
from cardgen.records import Source


def combine(maps: Float[Tensor, "n k u v"], gradients: Float[Tensor, "n k u v"]) -> Float[Tensor, "n u v"]:
    """The map at the feature maps' size."""
    return (gradients.relu() * maps).sum(1).relu()


@method(
    key="layer_cam",
    title="LayerCAM",
    source=Source(paper="Jiang et al. 2021", url="https://doi.org/10.1109/TIP.2021.3089943", where="section III"),
    access="features",
    signed=False,
    terms=terms_of(combine),
    passes=lambda parameters: 2,
)
def layer_cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """ReLU(Σ_k ReLU(∂s_c/∂A^k) ⊙ A^k), enlarged (bilinear, align_corners=False).

    A^k are the feature maps of `context.layer`, by default the last convolutional ones; each of their pixels has a weight of its own, so
    that maps of earlier layers, which are finer, still point at the class. Never negative; units: logits. Jiang, Zhang, Hou, Cheng, Wei
    2021, section III. The paper also adds up maps of several layers, after a tanh for the early ones; here it is one layer, as it is.
    """
    return explained(combine, model, inputs, targets, context)
