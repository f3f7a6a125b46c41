"""Integrated gradients: the gradient summed along a straight path from a baseline to the input."""

from collections.abc import Iterator

import numpy as np
from captum.attr import IntegratedGradients
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
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
    for node, weight in quadrature(steps):
        # anew for each term, whose graph is freed before the next
        start = substrate(baseline, inputs, context.space)
        away = inputs - start
        yield weight * away * slopes(model, start + node * away, targets)


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
    start = substrate(baseline, inputs, context.space)
    return path_integral(model, inputs, start, targets, steps, context.batch)


def path_integral(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    start: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    steps: int,
    batch: int,
) -> Float[Tensor, "n c h w"]:
    """The attributions of inputs, at most `batch` of them, against baselines of their own.

    Raises:
        CardgenError: no quadrature nodes are asked for.
    """
    if steps < 1:
        raise CardgenError(f"the integral from the baseline has {steps} steps; expected at least 1; choose more")
    found: Tensor = IntegratedGradients(lambda points: with_classes(logits(model, points), targets)).attribute(
        inputs, baselines=start, target=targets, n_steps=steps, method="gausslegendre", internal_batch_size=batch
    )
    return found


def quadrature(steps: int) -> list[tuple[float, float]]:
    """Gauss–Legendre nodes on [0, 1] and their weights, which sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return [((1 + float(node)) / 2, float(weight) / 2) for node, weight in zip(nodes, weights, strict=True)]
