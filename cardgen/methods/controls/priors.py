"""Priors: maps that know the data and not the model. They never decide a verdict; a method that beats none of them is said so."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.methods import Context, method
from cardgen.methods.controls.noise import SOURCE


@method(key="centred_gaussian", title="Centred Gaussian", source=SOURCE, access="none", signed=False, control="prior")
def centred_gaussian(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """exp(−r²/2σ²) around the image's centre, σ a quarter of each side: photographers centre their subjects."""
    h, w = inputs.shape[2:]
    rows = ((torch.arange(h, device=inputs.device) - (h - 1) / 2) / (h / 4))[:, None]
    columns = ((torch.arange(w, device=inputs.device) - (w - 1) / 2) / (w / 4))[None, :]
    return torch.exp(-(rows**2 + columns**2) / 2).expand(len(inputs), 1, h, w)


@method(
    key="edges",
    title="Edge detector",
    source=SOURCE,
    access="none",
    signed=False,
    control="prior",
)
def edges(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """Magnitude of the Sobel gradient (1–2–1, not normalised) of the mean over channels, mirrored about the outermost pixels."""
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], device=inputs.device)
    grey = F.pad(inputs.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="reflect")
    across, down = (F.conv2d(grey, k[None, None]) for k in (kernel, kernel.T))
    return (across**2 + down**2).sqrt()


@method(
    key="input_magnitude",
    title="Input magnitude",
    source=SOURCE,
    access="none",
    signed=False,
    control="prior",
)
def input_magnitude(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """|mean over channels of x − mean|: the distance of each pixel from the data's mean."""
    return _away(inputs, context)


def _away(inputs: Float[Tensor, "n c h w"], context: Context) -> Float[Tensor, "n 1 h w"]:
    context.space.check(inputs)
    difference = inputs.float() - context.space.colour("mean", inputs).float()
    return difference.mean(1, keepdim=True).abs()
