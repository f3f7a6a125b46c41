"""Guided Grad-CAM: guided backpropagation where Grad-CAM says that the class is."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.methods import Context, method
from cardgen.methods.grad_cam import grad_cam
from cardgen.methods.guided_backprop import guided_backprop
from cardgen.records import Source
from cardgen.rectified import rectifiers_only


@method(
    key="guided_grad_cam",
    title="Guided Grad-CAM",
    source=Source(paper="Selvaraju et al. 2017", url="https://arxiv.org/abs/1610.02391", where="section 3.2"),
    access="features",
    reduction="max_abs",
    signed=False,
    fits=rectifiers_only("guided Grad-CAM"),
    passes=lambda parameters: 4,
)
def guided_grad_cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n c h w"]:
    """G ⊙ L: guided backpropagation G [n, c, h, w] times Grad-CAM L [n, 1, h, w], enlarged to the input; signed as G is.

    L is never negative and taken at `context.layer`, by default the last convolutional features. The map is the largest magnitude over
    channels, as for guided backpropagation: that of G times L. Zero wherever Grad-CAM is. Units have no meaning.
    Selvaraju et al. 2017, section 3.2 (guided Grad-CAM), enlarges L bilinearly, as here. captum's GuidedGradCam takes the nearest cell
    unless told, rectifies shortcuts around ReLUs too, and hooks the layer and the ReLUs of the model as it is, in place or not.
    """
    return guided_backprop(model, inputs, targets, context) * grad_cam(model, inputs, targets, context)
