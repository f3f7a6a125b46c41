"""The planted truth: the ground-truth mask as a map, which must pass wherever truth is asked for."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.methods import Context, method
from cardgen.methods.controls.noise import SOURCE


@method(
    key="planted_truth",
    title="Planted truth",
    source=SOURCE,
    access="none",
    signed=False,
    control="truth",
    needs=("masks",),
)
def planted_truth(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """One inside the mask, zero outside."""
    if context.masks is None:
        raise CardgenError(
            "the planted truth needs ground-truth masks; the data has none; give masks= or a masks/ folder"
        )
    return context.masks[:, None].float().to(inputs.device)
