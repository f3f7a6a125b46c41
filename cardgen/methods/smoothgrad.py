"""SmoothGrad: the gradient averaged over noisy copies of the input."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.forward import slopes
from cardgen.methods import Context, method
from cardgen.noisy import add, gradients, noises, noisy_copies, require_samples
from cardgen.records import Source


def terms(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int,
    noise_level: float,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """The share of each noisy copy, with its graph."""
    for noise in noises(inputs, context, n_samples, noise_level):
        yield slopes(model, inputs + noise, targets) / n_samples


@method(
    key="smoothgrad",
    title="SmoothGrad",
    source=Source(paper="Smilkov et al. 2017", url="https://arxiv.org/abs/1706.03825", where="section 2"),
    access="gradients",
    reduction="max_abs",
    signed=False,
    random=True,
    ranges={"n_samples": (10, 50, 200), "noise_level": (0.05, 0.15, 0.3)},
    terms=terms,
    passes=lambda parameters: 2 * parameters["n_samples"],
)
def smoothgrad(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int = 50,
    noise_level: float = 0.15,
) -> Float[Tensor, "n c h w"]:
    """1/N Σ_k ∂s_c(x + ε_k)/∂x with ε_k ~ N(0, σ²), signed; the map is the largest magnitude over channels, taken after the mean.

    σ is `noise_level` times the range of each channel in the inputs' space; the authors' code takes the range of each image. Noisy
    inputs are not clamped, as in the paper. The gradients themselves are averaged, as the paper writes; the authors' code squares
    them unless told otherwise, which is SmoothGrad-Squared (Hooker et al. 2019). The noise of a sample is its own, and the first draws
    of a larger N are those of a smaller one. Units: logit per unit of input. Smilkov, Thorat, Kim, Viégas, Wattenberg 2017, section 2.

    Args:
        n_samples: noisy copies N of each input.
        noise_level: σ as a share of the range.

    Raises:
        CardgenError: no noisy copies are asked for, or the inputs leave their space.
    """
    require_samples("smoothgrad", n_samples)
    total = torch.zeros(inputs.shape, device=inputs.device)
    for rows, copies in noisy_copies(inputs, context, n_samples, noise_level):
        add(total, rows, gradients(model, copies, targets[rows]))
    return total / n_samples
