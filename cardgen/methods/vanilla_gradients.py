"""Vanilla gradients: how the class score answers to each pixel."""

from collections.abc import Iterator

from captum.attr import Saliency
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.forward import slopes, target_logits
from cardgen.methods import Context, method
from cardgen.records import Source


def terms(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Iterator[Float[Tensor, "n c h w"]]:
    """The gradient, with its graph."""
    yield slopes(model, inputs, targets)


@method(
    key="vanilla_gradients",
    title="Vanilla Gradients",
    source=Source(paper="Simonyan et al. 2014", url="https://arxiv.org/abs/1312.6034", where="section 3"),
    access="gradients",
    reduction="max_abs",
    signed=False,
    terms=terms,
    passes=lambda parameters: 2,
)
def vanilla_gradients(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n c h w"]:
    """∂s_c(x)/∂x: the gradient of the class's logit in each input value, signed; the map is the largest magnitude over channels.

    Simonyan, Vedaldi, Zisserman 2014, section 3. Units: logit per unit of input.
    """
    saliency = Saliency(lambda batch: target_logits(model, batch, targets))
    found: Tensor = saliency.attribute(inputs.detach().clone().requires_grad_(), abs=False)
    return found
