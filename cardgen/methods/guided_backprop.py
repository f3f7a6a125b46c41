"""Guided backpropagation: a backward pass that keeps only what is positive at every ReLU."""

from captum.attr import GuidedBackprop
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.rectified import pulled_back, rectifiers_only


@method(
    key="guided_backprop",
    title="Guided Backpropagation",
    source=Source(paper="Springenberg et al. 2015", url="https://arxiv.org/abs/1412.6806", where="section 4"),
    access="internals",
    reduction="max_abs",
    signed=False,
    fits=rectifiers_only("guided backprop"),
    passes=lambda parameters: 2,
)
def guided_backprop(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n c h w"]:
    """The gradient of s_c, but at every ReLU y = max(h, 0) the signal back is [h > 0] max(∂s_c/∂y, 0), signed.

    Springenberg, Dosovitskiy, Brox, Riedmiller 2015, section 4. The paper shows the signed result as a colour image and defines no
    map. Its sign says that a colour should rise or fall, not that the pixel speaks for or against the class, so the map is the
    largest magnitude over channels, as for gradients. Units: those of a gradient, logit per unit of input, though it is none.

    captum's rule, on a copy of the model (`cardgen.rectified`).
    """
    return pulled_back(GuidedBackprop, model, inputs, targets, context)
