"""SmoothGrad-Squared: the squared gradient averaged over noisy copies of the input."""

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
        yield slopes(model, inputs + noise, targets).square() / n_samples


@method(
    key="smoothgrad_squared",
    title="SmoothGrad-Squared",
    source=Source(paper="Hooker et al. 2019", url="https://arxiv.org/abs/1806.10758", where="section 4.1"),
    access="gradients",
    reduction="max_abs",
    signed=False,
    random=True,
    ranges={"n_samples": (10, 50, 200), "noise_level": (0.05, 0.15, 0.3)},
    terms=terms,
    passes=lambda parameters: 2 * parameters["n_samples"],
)
def smoothgrad_squared(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int = 50,
    noise_level: float = 0.15,
) -> Float[Tensor, "n c h w"]:
    """1/N Σ_k (∂s_c(x + ε_k)/∂x)² with ε_k ~ N(0, σ²), squared value by value; never negative.

    The map is the largest value over channels. The noise is SmoothGrad's own (`cardgen.noisy`): the same seed gives the same noisy
    gradients, so that SmoothGrad-Squared is VarGrad plus the square of SmoothGrad, and what differs between the three maps is not the
    draws. Hooker et al. write the sum over the copies; the mean, as the authors of SmoothGrad compute it, is the same map up to the
    factor N. They took 15 copies; the default is SmoothGrad's, so that the two compare. Units: (logit per unit of input)².
    Hooker, Erhan, Kindermans, Kim 2019, section 4.1, here over plain gradients.

    Args:
        n_samples: noisy copies N of each input.
        noise_level: σ as a share of each channel's range in the inputs' space.

    Raises:
        CardgenError: no noisy copies are asked for, or the inputs leave their space.
    """
    require_samples("smoothgrad_squared", n_samples)
    total = torch.zeros(inputs.shape, device=inputs.device)
    for rows, copies in noisy_copies(inputs, context, n_samples, noise_level):
        add(total, rows, gradients(model, copies, targets[rows]).square())
    return total / n_samples
