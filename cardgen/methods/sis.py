"""SIS: regions removed one by one, each time the one that the model misses least, until the confidence is gone."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen.backselect import confidence_of, log_odds, ranked, shuffled
from cardgen.errors import CardgenError
from cardgen.forward import logits, variants, with_classes
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import substrate

TIE = 1e-4
"""Log-odds that differ by less, which rounding can, count as equal."""


@method(
    key="sis",
    title="Sufficient Input Subsets",
    source=Source(paper="Carter et al. 2019", url="https://arxiv.org/abs/1810.03805", where="algorithms 1 to 3"),
    access="outputs",
    signed=False,
    ranges={"cells": (4, 6, 8), "confidence": (0.5, 0.7, 0.9), "background": ("mean", "black", "blur")},
    passes=lambda parameters: parameters["cells"] ** 2 * (parameters["cells"] ** 2 + 1) // 2 + 1,
)
@torch.no_grad()
def sis(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    cells: int = 8,
    confidence: float = 0.9,
    background: str = "mean",
) -> Float[Tensor, "n 1 h w"]:
    """Each cell's place in the order of backward selection, as a share of all, and 1 more if it is in the sufficient subset.

    BackSelect: of p = `cells`² cells, remove for good the one without which f_c of the others stays highest, until none is left.
    FindSIS: the cells removed last, as few as have f_c ≥ `confidence` · f_c(x) on the bare background. So values lie in (0, 1] outside
    the subset and in (1, 2] inside, the last cell to go has 2, and the subset is where the map exceeds 1; it is empty where the bare
    background is confident enough by itself. No unit.

    Carter, Mueller, Jain, Gifford 2019, algorithms 1 to 3, with these differences. The paper removes single pixels, for which
    f is computed p (p + 1) / 2 times: 2 080 for 8 × 8 cells, 8.4 million for 64 × 64 pixels. It goes on to look for further subsets,
    disjoint from the first, for as long as the rest is confident; how often differs from image to image. Here only the first is
    marked, and the order of its selection ranks the rest. Its threshold τ is one number for all images, which is not defined for an
    image, or a class, of less confidence; here it is a share of f_c(x), and c is the class explained. Cells are compared by the
    log-odds of f_c in float64, in which a confidence of 1 − 10⁻⁹ is not yet 1; differences below 10⁻⁴ are ties, and go in one fixed
    order drawn at random, whatever the sample.

    Args:
        cells: of the grid, along each side; pixel i of a side of length l lies in cell ⌊i · cells / l⌋.
        confidence: share of f_c(x) that is enough.
        background: what stands where cells are removed, as a substrate: mean (the paper's), black, white, grey, zero, blur.

    Raises:
        CardgenError: fewer than two cells a side or more than pixels, or a confidence that is no share.
    """
    n, _, height, width = inputs.shape
    if not 2 <= cells <= min(height, width):
        raise CardgenError(
            f"sis: {cells} × {cells} cells on images of {height} × {width} pixels; expected 2 to {min(height, width)} a side; choose such"
        )
    count, device = cells**2, inputs.device
    hidden = substrate(background, inputs, context.space)
    rows, columns = (torch.arange(side, device=device) * cells // side for side in (height, width))
    cell = rows[:, None] * cells + columns
    turn = shuffled(count).to(device)

    def scores(shown: Bool[Tensor, "n m p"]) -> Float[Tensor, "n_m k"]:
        def write(i: int, first: int, last: int, out: Tensor) -> None:
            torch.where(shown[i, first:last][:, cell][:, None], inputs[i], hidden[i], out=out)

        parts = [logits(model, part) for part in variants(inputs, shown.shape[1], write, context.batch)]
        return with_classes(torch.cat(parts), targets)

    shown = torch.ones(n, count, dtype=torch.bool, device=device)
    order, confidences = [], [confidence_of(scores(shown[:, None]), targets)[:, None]]
    for left in range(count, 0, -1):
        candidates = shown.nonzero()[:, 1].view(n, left)
        without = scores(shown[:, None].repeat(1, left, 1).scatter(2, candidates[:, :, None], False))
        of_variant = targets.repeat_interleave(left)
        odds = log_odds(without, of_variant).view(n, left)
        tied = odds >= odds.amax(1, keepdim=True) - TIE
        chosen = torch.where(tied, turn[candidates], count).argmin(1, keepdim=True)
        order.append(candidates.gather(1, chosen))
        confidences.append(confidence_of(without, of_variant).view(n, left).gather(1, chosen))
        shown = shown.scatter(1, order[-1], False)
    numbers = torch.arange(count, -1, -1, device=device)
    return ranked(torch.cat(order, 1), numbers, torch.cat(confidences, 1), confidence)[:, cell][:, None]
