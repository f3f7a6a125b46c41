"""Integrated gradients with SmoothGrad: integrated gradients averaged over noisy copies of the input."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.forward import slopes
from cardgen.methods import Context, method
from cardgen.methods.integrated_gradients import path_integral, quadrature
from cardgen.noisy import add, noises, noisy_copies, require_samples
from cardgen.records import Source
from cardgen.space import substrate


def terms(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int,
    noise_level: float,
    steps: int,
    baseline: str,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """The share of each quadrature node of each noisy copy, with its graph."""
    for noise in noises(inputs, context, n_samples, noise_level):
        for node, weight in quadrature(steps):
            # anew for each term, whose graph is freed before the next
            start = substrate(baseline, inputs, context.space)
            away = inputs + noise - start
            yield weight / n_samples * away * slopes(model, start + node * away, targets)


@method(
    key="ig_smoothgrad",
    title="Integrated Gradients with SmoothGrad",
    source=Source(paper="Adebayo et al. 2018", url="https://arxiv.org/abs/1810.03292", where="appendix A.6"),
    access="gradients",
    random=True,
    ranges={
        "n_samples": (5, 25, 50),
        "noise_level": (0.05, 0.15, 0.3),
        "steps": (10, 25, 50),
        "baseline": ("black", "white", "grey", "mean", "blur"),
    },
    terms=terms,
    passes=lambda parameters: 2 * parameters["n_samples"] * parameters["steps"],
)
def ig_smoothgrad(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int = 25,
    noise_level: float = 0.15,
    steps: int = 25,
    baseline: str = "black",
) -> Float[Tensor, "n c h w"]:
    """1/N Σ_k IG(x + ε_k), ε_k ~ N(0, σ²), with IG(z) = (z − x̄) ⊙ ∫₀¹ ∂s_c(x̄ + α(z − x̄))/∂x dα; signed, units: logits.

    The whole attribution is averaged, its factor z − x̄ as well as its gradients, as the paper's formula and the library of Smilkov et
    al. do. Only the input is noisy: the baseline x̄ is one image for all copies, also where it is the blurred input. The attributions
    sum to the mean of s_c(x + ε_k) less s_c(x̄), so the method is not complete for x itself and claims nothing of the kind; without
    noise it is integrated gradients. Noise and σ are SmoothGrad's (`cardgen.noisy`), quadrature is that of integrated gradients.
    Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, appendix A.5 and A.6 (their IG-SG), after Smilkov et al. 2017, section 3.
    The papers give no counts for the two together; the defaults are those of that library, 25 copies and 25 steps.

    Args:
        n_samples: noisy copies N of each input.
        noise_level: σ as a share of each channel's range in the inputs' space.
        steps: quadrature nodes of each copy.
        baseline: x̄, as a substrate: black, white, grey, mean, zero, blur.

    Raises:
        CardgenError: no noisy copies are asked for, or the inputs leave their space.
    """
    require_samples("ig_smoothgrad", n_samples)
    start = substrate(baseline, inputs, context.space)
    total = torch.zeros(inputs.shape, device=inputs.device)
    for rows, copies in noisy_copies(inputs, context, n_samples, noise_level):
        add(total, rows, path_integral(model, copies, start[rows], targets[rows], steps, context.batch).float())
    return total / n_samples
