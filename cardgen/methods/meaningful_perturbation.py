"""Meaningful perturbation: the smallest smooth blur that takes the class away, found by gradient descent."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.forward import variant_probabilities
from cardgen.mask_slopes import log_probability, mixed, require_positive, require_weights, slope, variation, windows
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import substrate

RATE = 0.1
"""Adam's step."""
POWER = 3
"""β of the total variation."""
SMOOTH = 5 / 224
"""Deviation of the Gaussian that enlarges the mask, as a share of each side: 5 of 224 pixels."""
JITTER = Fraction(4, 224)
"""The furthest shift of the image, as a share of each side: 4 of 224 pixels."""
DISCS = 16
ENOUGH = 0.99
"""Share of the drop that the blurred image causes and that the first mask is to cause."""


@method(
    key="meaningful_perturbation",
    title="Meaningful Perturbation",
    source=Source(
        paper="Fong & Vedaldi 2017", url="https://arxiv.org/abs/1704.03296", where="equation 4 and section 4.3"
    ),
    access="gradients",
    signed=False,
    random=True,
    ranges={
        "iterations": (75, 150, 300),
        "side": (14, 28),
        "area_weight": (1e-5, 1e-4, 1e-3),
        "tv_weight": (1e-3, 1e-2, 1e-1),
        "background": ("blur", "mean", "black"),
    },
    passes=lambda parameters: 2 * parameters["iterations"] + DISCS + 1,
)
def meaningful_perturbation(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    iterations: int = 300,
    side: int = 28,
    area_weight: float = 1e-4,
    tv_weight: float = 1e-2,
    background: str = "blur",
) -> Float[Tensor, "n 1 h w"]:
    """1 − M, M = G m the enlarged mask: in [0, 1], 1 where the image was deleted to lower f_c. No unit.

    m of `side` × `side` cells in [0, 1] minimises λ₁ Σ (1 − m) + λ₂ Σ |∇m|³ + E_τ f_c(x̄_τ + M (x_τ − x̄_τ)), f_c the softmax probability,
    x̄ the background, and x_τ the image shifted by τ: each iteration draws one shift, from the sample's own generator. G weighs cells by
    a Gaussian around each pixel. Adam with step 0.1, m cut off at 0 and 1; it begins with the smallest of 16 centred discs under which
    f_c loses 99 % of what it loses on the background alone. Fong & Vedaldi 2017, equation 4 and section 4.3.

    The paper's lengths, given for 224 × 224 pixels, are taken as shares of the image's sides: cells (28 × 28), shift (0 to 4 pixels),
    Gaussian (5 pixels). λ₁ and λ₂ belong to 28 × 28 cells, whatever the image's size; images with fewer pixels a side have as many cells as
    pixels. |1 − m| is 1 − m, as m ≤ 1: its slope at m = 1, 0 or −λ₁, is taken as −λ₁, without which cells that nothing moves
    would follow rounding errors, since Adam makes the same step of a small gradient as of a large one. Weights of G sum to 1 at borders
    too. The image is shifted with its border values repeated.

    Args:
        iterations: of Adam, each a forward and a backward pass.
        side: cells of the mask, along each side.
        area_weight: λ₁.
        tv_weight: λ₂.
        background: what the mask shows where it is 0, as a substrate: blur (the paper's main one), mean, black, white, grey, zero.

    Raises:
        CardgenError: no iterations, no cells, or a weight below 0.
    """
    require_positive("meaningful_perturbation", iterations=iterations, side=side)
    require_weights("meaningful_perturbation", area_weight=area_weight, tv_weight=tv_weight)
    hidden = substrate(background, inputs, context.space)
    down, across = (enlarging(min(side, length), length).to(inputs.device) for length in inputs.shape[2:])
    discs = centred(down.shape[1], across.shape[1]).to(inputs.device)
    mask = _first(model, inputs, hidden, targets, context.batch, discs, down @ discs @ across.T)
    adam = torch.optim.Adam([mask.requires_grad_()], lr=RATE)
    draws = context.generators("meaningful_perturbation")
    wider = further(inputs), further(hidden)
    for _ in range(iterations):
        shares = torch.stack([torch.rand(2, generator=draw) for draw in draws]).to(inputs.device)
        image, bare = (shifted(wide, shares, inputs.shape[2:]) for wide in wider)

        def loss(masks: Tensor, part: slice, image: Tensor = image, bare: Tensor = bare) -> Tensor:
            kept = masks[part]
            seen = mixed(bare[part], image[part], down @ kept @ across.T)
            penalty = area_weight * (1 - kept).sum() + tv_weight * variation(kept, POWER).sum()
            return log_probability(model, seen, targets[part]).exp().sum() + penalty

        mask.grad = slope(loss, mask, len(inputs), context.batch)
        adam.step()
        mask.data.clamp_(0, 1)
    return (1 - down @ mask.detach() @ across.T).clamp(0, 1)


def enlarging(cells: int, length: int) -> Float[Tensor, "length cells"]:
    """What share each cell along a side has in each pixel: a Gaussian of their distance, the shares of a pixel summing to 1."""
    pixels, centres = (torch.arange(count) + 0.5 for count in (length, cells))
    return torch.softmax(-((pixels[:, None] / length - centres / cells) ** 2) / (2 * SMOOTH**2), dim=1)


def centred(down: int, across: int) -> Float[Tensor, "discs 1 down across"]:
    """Masks that are 0 on a disc around the centre, in the image's proportions, from 1/16 of its half diagonal to all of the image."""
    rows, columns = ((torch.arange(count) + 0.5) / count - 0.5 for count in (down, across))
    distance = torch.hypot(rows[:, None], columns) * 2**0.5
    return (distance > (torch.arange(DISCS) + 1)[:, None, None, None] / DISCS).float()


def further(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c u v"]:
    """The images with border values repeated, for the furthest shift to each side."""
    down, across = (ceil(JITTER * length) for length in images.shape[2:])
    sides = (across // 2, across - across // 2, down // 2, down - down // 2)
    return F.pad(images, sides, mode="replicate")


def shifted(
    wider: Float[Tensor, "n c u v"], shares: Float[Tensor, "n 2"], size: Sequence[int]
) -> Float[Tensor, "n c h w"]:
    """Each image moved down and across by whole pixels at these shares, in [0, 1), of all shifts that `further` left room for."""
    room = torch.tensor([length - side + 1 for length, side in zip(wider.shape[2:], size, strict=True)]).to(shares)
    top, left = (shares * room).long().T
    return windows(wider, torch.arange(len(wider), device=wider.device), top, left, size)


def _first(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    hidden: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    batch: int,
    discs: Float[Tensor, "discs 1 u v"],
    shown: Float[Tensor, "discs 1 h w"],
) -> Float[Tensor, "n 1 u v"]:
    """The first disc, the smallest, under which f_c has lost enough."""
    views = torch.cat([shown, torch.ones_like(shown[:1])])

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        share = views[first:last]
        out.copy_(mixed(hidden[i].expand(len(share), -1, -1, -1), inputs[i].expand(len(share), -1, -1, -1), share))

    values = variant_probabilities(model, inputs, targets, DISCS + 1, write, batch)
    lost = values[:, -1:] - values[:, :-1]
    return discs[(lost >= ENOUGH * lost[:, -1:]).byte().argmax(1)]
