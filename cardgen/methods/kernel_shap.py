"""Kernel SHAP: Shapley values of superpixels, from a weighted linear fit to coalitions of them."""

from math import comb

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import variant_logits
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.segments import counts, hiding, painted, superpixels
from cardgen.space import substrate


@method(
    key="kernel_shap",
    title="Kernel SHAP",
    source=Source(
        paper="Lundberg & Lee 2017", url="https://arxiv.org/abs/1705.07874", where="theorem 2, sections 2.4 and 4.1"
    ),
    access="outputs",
    random=True,
    complete="background",
    ranges={
        "n_perturbations": (250, 1000, 2000),
        "segments": (25, 50, 100),
        "background": ("mean", "grey", "black", "white", "blur"),
    },
    passes=lambda parameters: parameters["n_perturbations"] + 2,
)
def kernel_shap(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_perturbations: int = 1000,
    segments: int = 50,
    background: str = "mean",
) -> Float[Tensor, "n 1 h w"]:
    """The Shapley value φ_j of each of M superpixels, spread evenly over its pixels: φ_j / |superpixel j|.

    The game is v(z) = s_c(x_z), x_z the image with the background in the superpixels that are not in the coalition z. φ minimises
    Σ_z π(z) (v(z) − v(∅) − Σ_j φ_j z_j)² under Σ_j φ_j = v(all) − v(∅), π(z) = (M − 1) / (C(M, |z|) |z| (M − |z|)), |z| = 1 … M − 1
    (theorem 2, where the two remaining coalitions weigh infinitely). All 2^M − 2 coalitions are taken where `n_perturbations` is no
    less: φ is then exact. Otherwise sizes are drawn in proportion to their share of the weight, coalitions of a size evenly, and each is
    followed by its complement (Covert & Lee 2021), for the same error from fewer. A sample's coalitions are drawn for itself, the
    first of a larger number are those of a smaller. Solved in float64, the constraint by substitution, so that it holds however few
    coalitions there are.

    Complete: a sample's attributions sum to s_c(x) − s_c(background). The logit is explained, as the differences of probabilities near
    1 are all but none; the paper leaves the output open. captum and shap paint φ_j itself on the superpixel's pixels, which sums to no
    difference. The background is the data's mean, as the paper's equations 9 to 12 reduce absent features to their expectation if the
    model is linear. captum's KernelShap explains one image at a time; its infinite weights are 1e6, so that its sum is near.
    Signed; units: logits. Lundberg & Lee 2017.

    Args:
        n_perturbations: coalitions of each image, beside all and none. Where all are fewer, the whole image stands in for those missing.
        segments: superpixels to cut an image into; about so many, M, result.
        background: what shows in place of a superpixel, as a substrate: mean, grey, black, white, zero, blur.

    Raises:
        CardgenError: no coalitions or segments are asked for.
    """
    if n_perturbations < 1:
        raise CardgenError(f"kernel_shap: n_perturbations is {n_perturbations}; expected at least 1; choose more")
    labels = superpixels(inputs, context.space, segments)
    hidden = substrate(background, inputs, context.space)
    drawn = [
        coalitions(count, n_perturbations, draw)
        for count, draw in zip(counts(labels), context.generators("kernel_shap"), strict=True)
    ]
    ends = torch.tensor([True, False])[:, None]
    present = [torch.cat([ends.expand(2, z.shape[1]), z]) for z, _ in drawn]
    write = hiding(inputs, hidden, labels, present)
    scores = variant_logits(model, inputs, targets, n_perturbations + 2, write, context.batch).cpu()
    values = [shapley(z, weights, v) for (z, weights), v in zip(drawn, scores, strict=True)]
    shares = [value / of.cpu().flatten().bincount() for value, of in zip(values, labels, strict=True)]
    return painted(shares, labels)


def coalitions(
    players: int, count: int, draw: torch.Generator
) -> tuple[Bool[Tensor, "count m"], Float[Tensor, " count"]]:
    """Coalitions and the weight of each in the fit: all there are, filled up at weight zero, or drawn in pairs."""
    sizes = torch.arange(1, players, dtype=torch.float64)
    mass = (players - 1) / (sizes * (players - sizes))
    if 2**players - 2 <= count:
        every = torch.arange(1, 2**players - 1)[:, None] >> torch.arange(players) & 1 == 1
        of_size = torch.tensor([comb(players, size) for size in range(1, players)], dtype=torch.float64)
        present, weights = torch.ones(count, players, dtype=torch.bool), torch.zeros(count, dtype=torch.float64)
        present[: len(every)], weights[: len(every)] = every, (mass / of_size)[every.sum(1) - 1]
        return present, weights
    numbers = torch.rand(-(-count // 2), 1 + players, generator=draw, dtype=torch.float64)
    size = 1 + torch.searchsorted((mass.cumsum(0) / mass.sum())[:-1], numbers[:, 0].contiguous(), right=True)
    first = numbers[:, 1:].argsort(1).argsort(1) < size[:, None]
    pairs = torch.stack([first, ~first], 1).flatten(0, 1)
    return pairs[:count], torch.ones(count, dtype=torch.float64)


def shapley(
    present: Bool[Tensor, "k m"], weights: Float[Tensor, " k"], values: Float[Tensor, " 2+k"]
) -> Float[Tensor, " m"]:
    """The weighted fit under its constraint; `values` are those of all players, of none, and of the coalitions.

    φ = (v(all) − v(∅))/M + u with Σ u = 0: less its mean, a coalition says the same of such u, and the shortest of the solutions in u
    has no part along the direction in which nothing is said.
    """
    values = values.double()
    z, gain = present.double(), values[0] - values[1]
    even = gain / z.shape[1]
    root = weights.sqrt()[:, None]
    rest = (values[2:] - values[1] - z.sum(1) * even)[:, None]
    uneven: Tensor = torch.linalg.lstsq(root * (z - z.mean(1, keepdim=True)), root * rest, driver="gelsd").solution
    return even + uneven[:, 0]
