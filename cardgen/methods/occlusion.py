"""Occlusion: how far the class's probability drops when a window of the image is covered."""

from fractions import Fraction
from math import ceil

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import variant_probabilities
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import substrate

FINEST = 10_000
"""Shares are read as fractions with denominators up to this, so that 0.1 of 30 pixels is 3 and a third of them 10."""


@method(
    key="occlusion",
    title="Occlusion",
    source=Source(paper="Zeiler & Fergus 2014", url="https://arxiv.org/abs/1311.2901", where="section 4.2"),
    access="outputs",
    ranges={
        "window": (0.125, 0.1875, 0.25),
        "stride": (0.03125, 0.0625, 0.125),
        "background": ("grey", "black", "white", "blur"),
    },
    passes=lambda parameters: positions(parameters["window"], parameters["stride"]) ** 2 + 1,
)
def occlusion(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    window: float = 0.125,
    stride: float = 0.0625,
    background: str = "grey",
) -> Float[Tensor, "n 1 h w"]:
    """At each pixel the mean of f_c(x) − f_c(x with W covered) over the windows W that hold the pixel, f_c the softmax probability.

    Signed: above zero where covering lowers the probability. The paper draws f_c itself, one value a position of its grey square;
    giving the drop to every pixel that was covered, averaged, is what captum and later work do. Units: probability.
    Zeiler & Fergus 2014, section 4.2.

    Args:
        window: height and width of the window, as a share of the image's; rounded up to whole pixels.
        stride: step from one window to the next, as a share of the image's side; rounded down to whole pixels. The last window ends at
            the border.
        background: what covers the window, as a substrate: grey (the paper's), black, white, mean, zero, blur.

    Raises:
        CardgenError: window or stride outside (0, 1], or a stride longer than the window.
    """
    hidden = substrate(background, inputs, context.space)
    height, width = inputs.shape[2:]
    count = positions(window, stride)
    rows, columns = (spans(window, stride, side).to(inputs.device) for side in (height, width))
    uncovered = torch.zeros(1, height, dtype=torch.bool, device=inputs.device)
    tops = torch.cat([rows, uncovered])

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        at = torch.arange(first, last, device=inputs.device)
        covered = tops[at // count][:, None, :, None] & columns[at % count][:, None, None, :]
        torch.where(covered, hidden[i], inputs[i], out=out)

    scores = variant_probabilities(model, inputs, targets, count**2 + 1, write, context.batch)
    drops = (scores[:, -1:] - scores[:, :-1]).view(-1, count, count)
    total = torch.einsum("nij,ih,jw->nhw", drops, rows.float(), columns.float())
    return (total / (rows.sum(0)[:, None] * columns.sum(0)))[:, None]


def positions(window: float, stride: float) -> int:
    """Windows along one side: those a stride apart, and the last one, which ends at the border; the same for images of any size.

    Raises:
        CardgenError: shares with which windows do not cover the image.
    """
    long, step = _shares(window, stride)
    return ceil((1 - long) / step) + 1


def spans(window: float, stride: float, side: int) -> Bool[Tensor, "k side"]:
    """Which pixels along a side of the image each window covers."""
    long, step = _shares(window, stride)
    length = ceil(long * side)
    starts = [min(int(k * step * side), side - length) for k in range(positions(window, stride))]
    pixels, first = torch.arange(side), torch.tensor(starts)[:, None]
    return (pixels >= first) & (pixels < first + length)


def _shares(window: float, stride: float) -> tuple[Fraction, Fraction]:
    long, step = (Fraction(share).limit_denominator(FINEST) for share in (window, stride))
    if not 0 < step <= long <= 1:
        raise CardgenError(
            f"occlusion: window {window} and stride {stride}; expected shares of the image's side with 0 < stride ≤ window ≤ 1, "
            f"so that every pixel is covered; choose such"
        )
    return long, step
