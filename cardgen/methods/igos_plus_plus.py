"""iGOS++: two masks, one whose removal takes the class away and one whose presence gives it, found by integrated gradients."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.mask_slopes import enlarged, log_probability, mixed, require_positive, require_weights, slope
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import Space, substrate

FLAT = 50.0
"""What bounds the step of the descent where there is no total variation."""
EDGE = 0.0225
"""Difference of neighbouring pixels, as a share of the range, that counts as an edge: 0.1 of a normalised image's deviation."""
NOISE = 0.045
"""Deviation of the noise on images, as a share of the range: 0.2 of a normalised image's deviation."""
TERMS = 4


@method(
    key="igos_plus_plus",
    title="iGOS++",
    source=Source(paper="Khorram et al. 2021", url="https://arxiv.org/abs/2012.15783", where="section 3"),
    access="gradients",
    signed=False,
    random=True,
    ranges={
        "updates": (5, 10, 20),
        "points": (4, 8, 15),
        "side": (7, 14, 28),
        "area_weight": (0.3, 1.0, 3.0),
        "tv_weight": (2.0, 20.0, 200.0),
        "baseline": ("blur", "mean", "black"),
    },
    passes=lambda parameters: 2 * TERMS * parameters["updates"] * parameters["points"],
)
def igos_plus_plus(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    updates: int = 20,
    points: int = 15,
    side: int = 28,
    area_weight: float = 1.0,
    tv_weight: float = 20.0,
    baseline: str = "blur",
) -> Float[Tensor, "n 1 h w"]:
    """1 − U(D E), in [0, 1]: 1 where removing takes the class away and showing brings it. D, E: masks for deletion and insertion. No unit.

    D and E, of `side` × `side` cells in [0, 1] and 1 where nothing is marked, minimise ½ [F(D) − F̄(E) + F(D E) − F̄(D E)] + g(D E):
    F(M) is the mean of f_c(x̄ + t M (x − x̄)) over t = 1/S … 1, F̄(M) that of f_c(x + t M (x̄ − x)), S = `points`, f the softmax probability,
    x̄ the baseline, M enlarged bilinearly. Their slopes are the paper's integrated gradients. g(M) is λ₁ mean(1 − M) + λ₂ ½ [mean |∇M|² over
    cells + mean e^(−(∇x/δ)²) |∇M|² over pixels], the bilateral total variation: roughness is free along edges of the image. Each update
    adds new noise to the images, from the sample's own generator. Khorram, Lawson, Li 2021, section 3; the halves, squares and noise are
    those of the authors' code.

    Descent is Nesterov's, from D = E = 1, cut off at 0 and 1: one of the two optimisers of the authors' code. The other one searches
    each step's length along a line, by a number of forward passes that nobody knows beforehand. Without that search the code's step
    of 1 000 diverges into chequered masks (seen on digits on scenes); here it is cells / (50 + 16 λ₂), below two over the curvature of
    the roughness. λ₁ = 1 is the code's default, and its instructions set 10. Its main script swaps updates and points of the path;
    20 and 15 are what it runs. Lengths of noise and edges are the code's 0.2 and 0.1 of normalised units, as shares of the range. For ∇x
    the code averages channels before squaring in one direction and after it in the other; here after it in both.

    Args:
        updates: of the masks.
        points: S, of each path, each a forward and a backward pass for each of the four terms.
        side: cells of the masks, along each side; images with fewer pixels have as many cells as pixels.
        area_weight: λ₁.
        tv_weight: λ₂.
        baseline: x̄, as a substrate: blur (the paper's), mean, black, white, grey, zero.

    Raises:
        CardgenError: no updates, points or cells, or a weight below 0.
    """
    require_positive("igos_plus_plus", updates=updates, points=points, side=side)
    require_weights("igos_plus_plus", area_weight=area_weight, tv_weight=tv_weight)
    hidden = substrate(baseline, inputs, context.space)
    n, _, height, width = inputs.shape
    cells = min(side, height), min(side, width)
    rate = cells[0] * cells[1] / (FLAT + 16 * tv_weight)
    smooth = smoothness(inputs, context.space)
    noise = NOISE * context.space.range(inputs)
    draws = context.generators("igos_plus_plus")
    masks = last = torch.ones(n, 2, *cells, device=inputs.device)
    for update in range(updates):
        drawn = torch.stack([torch.randn(inputs.shape[1:], generator=draw) for draw in draws])
        shift = noise * drawn.to(inputs)

        def outcome(pair: Tensor, part: slice, shift: Tensor = shift) -> Tensor:
            jobs = torch.arange(part.start, part.stop, device=pair.device)
            rows, kind, step = jobs // (TERMS * points), jobs // points % TERMS, jobs % points
            kept = torch.stack([pair[:, 0], pair[:, 1], pair.prod(1), pair.prod(1)], 1)[rows, kind][:, None]
            inserts = kind % 2 == 1
            share = kept * ((step + 1) / points)[:, None, None, None]
            share = torch.where(inserts[:, None, None, None], 1 - share, share)
            seen = mixed(hidden[rows], inputs[rows], share) + shift[rows]
            values = log_probability(model, seen, targets[rows]).exp()
            return torch.where(inserts, -values, values).sum()

        with torch.enable_grad():
            leaf = masks.requires_grad_()
            large = enlarged(leaf, (height, width))
            pull = slope(outcome, large, n * TERMS * points, context.batch) / (2 * points)
            both = leaf.prod(1, keepdim=True)
            rough = roughness(both, enlarged(both, (height, width)), smooth)
            penalty = area_weight * (1 - both).abs().flatten(1).mean(1) + tv_weight * rough
            (down,) = torch.autograd.grad((pull * large).sum() + penalty.sum(), leaf)
        ahead = masks.detach() - rate * down
        masks = (ahead + update / (update + 3) * (ahead - last)).clamp(0, 1)
        last = ahead
    return 1 - enlarged(masks.prod(1, keepdim=True), (height, width))


def smoothness(inputs: Float[Tensor, "n c h w"], space: Space) -> tuple[Tensor, Tensor]:
    """e^(−(∇x/δ)²), down and across, the square of ∇x averaged over channels: 1 where neighbouring pixels are equal."""
    shares = (inputs / space.range(inputs)).float()
    down, across = (torch.exp(-(shares.diff(dim=axis) ** 2).mean(1, keepdim=True) / EDGE**2) for axis in (2, 3))
    return down, across


def roughness(
    masks: Float[Tensor, "n 1 u v"], large: Float[Tensor, "n 1 h w"], smooth: tuple[Tensor, Tensor]
) -> Float[Tensor, " n"]:
    """Half the mean of |∇M|² over cells, and half of that over pixels, weighted by how smooth the image is there."""
    steps = [masks.diff(dim=2) ** 2, masks.diff(dim=3) ** 2]
    steps += [weight * large.diff(dim=axis) ** 2 for axis, weight in zip((2, 3), smooth, strict=True)]
    # a mask of one cell has no neighbours
    return torch.stack([step.flatten(1).sum(1) / max(1, step[0].numel()) for step in steps]).sum(0) / 2
