"""Integrated gradients: the gradient summed along a straight path from a baseline to the input."""

from collections.abc import Iterator

import numpy as np
from captum.attr import IntegratedGradients
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.forward import logits, slopes, with_classes
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import substrate


def terms(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    steps: int,
    baseline: str,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """The share of each quadrature node, with its graph."""
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        # anew for each term, whose graph is freed before the next
        start = substrate(baseline, inputs, context.space)
        away = inputs - start
        yield float(weight) / 2 * away * slopes(model, start + (1 + float(node)) / 2 * away, targets)


@method(
    key="integrated_gradients",
    title="Integrated Gradients",
    source=Source(paper="Sundararajan et al. 2017", url="https://arxiv.org/abs/1703.01365", where="section 3"),
    access="gradients",
    complete="baseline",
    ranges={"steps": (20, 50, 200), "baseline": ("black", "white", "grey", "mean", "blur")},
    terms=terms,
    passes=lambda parameters: 2 * parameters["steps"],
)
def integrated_gradients(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    steps: int = 50,
    baseline: str = "black",
) -> Float[Tensor, "n c h w"]:
    """(x − x̄) ⊙ ∫₀¹ ∂s_c(x̄ + α(x − x̄))/∂x dα, by Gauss–Legendre quadrature with `steps` nodes.

    Complete: the attributions of a sample sum to s_c(x) − s_c(x̄), up to quadrature. Signed; units: logits.
    Sundararajan, Taly, Yan 2017, equation 1. The paper's Riemann sum needs several times the nodes for the same error.

    Args:
        steps: quadrature nodes.
        baseline: x̄, as a substrate: black (the paper's), white, grey, mean, zero, blur.
    """
    found: Tensor = IntegratedGradients(lambda batch: with_classes(logits(model, batch), targets)).attribute(
        inputs,
        baselines=substrate(baseline, inputs, context.space),
        target=targets,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=context.batch,
    )
    return found
