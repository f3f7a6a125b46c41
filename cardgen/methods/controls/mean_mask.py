"""The average mask: where objects are in this data, whatever the image."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.methods import Context, method
from cardgen.methods.controls.noise import SOURCE


@method(
    key="mean_mask",
    title="Average mask",
    source=SOURCE,
    access="none",
    signed=False,
    control="prior",
    needs=("masks",),
)
def mean_mask(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """How often each pixel is inside the mask, over all samples of the subject: the same map for every sample.

    A sample's own mask is one of those averaged, so with few samples the map says something of that sample too.
    """
    if context.mean_mask is None:
        raise CardgenError(
            "the average mask needs ground-truth masks; the data has none; give masks= or a masks/ folder"
        )
    return context.mean_mask.to(inputs.device).expand(len(inputs), 1, -1, -1)
