"""Deconvolution: a backward pass in which every ReLU rectifies the signal instead of gating it."""

from captum.attr import Deconvolution
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.rectified import pulled_back, rectifiers_only


@method(
    key="deconvolution",
    title="Deconvolution",
    source=Source(paper="Zeiler & Fergus 2014", url="https://arxiv.org/abs/1311.2901", where="section 2.1"),
    access="internals",
    reduction="max_abs",
    signed=False,
    fits=rectifiers_only("deconvolution"),
    passes=lambda parameters: 2,
)
def deconvolution(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n c h w"]:
    """The gradient of s_c, but at every ReLU y = max(h, 0) the signal back is max(∂s_c/∂y, 0), whatever h was; signed.

    Zeiler, Fergus 2014, section 2.1, as Springenberg et al. 2015 (section 4) and Simonyan et al. 2014 (section 4) write it for the
    score of a class: transposed convolutions, and unpooling at the places that max pooling chose, are what a gradient does there anyway.
    The original starts from the activation of one unit in a feature map, all others set to zero; here from the class's logit with the
    signal 1, which changes a map by a factor. Layers that the paper's network lacks, batch normalisation and shortcuts say, pass signals
    back as a gradient does. The map is the largest magnitude over channels, for the reasons given at guided backpropagation, which also
    keeps the ReLU's gate [h > 0]. Units: those of a gradient, logit per unit of input, though it is none.

    What the image is enters by max pooling's choices alone (and by gates that are no ReLU): without any, as in residual networks that
    only stride, one class has the same map for all images. That is the method, as Springenberg et al. observe; it is no fault here.

    captum's rule, on a copy of the model (`cardgen.rectified`).
    """
    return pulled_back(Deconvolution, model, inputs, targets, context)
