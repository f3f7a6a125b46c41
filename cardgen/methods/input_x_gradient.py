"""Input × gradient: each input value times the slope of the class score in it."""

from collections.abc import Iterator

from captum.attr import InputXGradient
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.forward import slopes, target_logits
from cardgen.methods import Context, method
from cardgen.records import Source


def terms(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Iterator[Float[Tensor, "n c h w"]]:
    """The product, with its graph."""
    yield inputs * slopes(model, inputs, targets)


@method(
    key="input_x_gradient",
    title="Input × Gradient",
    source=Source(paper="Shrikumar et al. 2016", url="https://arxiv.org/abs/1605.01713"),
    access="gradients",
    terms=terms,
    passes=lambda parameters: 2,
)
def input_x_gradient(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n c h w"]:
    """x ⊙ ∂s_c(x)/∂x, signed; the map is the sum over channels.

    x is what the model takes, after normalisation, as in captum and Quantus: a value is zero at the data's mean and not at black, and
    the map moves when the same image is normalised otherwise. Complete only for networks without biases and with ReLU-like units,
    where the attributions sum to s_c(x). Units: logits. Shrikumar, Greenside, Shcherbina, Kundaje 2016.
    """
    found: Tensor = InputXGradient(lambda batch: target_logits(model, batch, targets)).attribute(
        inputs.detach().clone().requires_grad_()
    )
    return found
