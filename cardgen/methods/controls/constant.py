"""The flat map: what a broken method returns."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.methods import Context, method
from cardgen.methods.controls.noise import SOURCE


@method(key="constant", title="Constant", source=SOURCE, access="none", signed=False, control="flat")
def constant(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """One everywhere."""
    return torch.ones_like(inputs[:, :1], dtype=torch.float32)
