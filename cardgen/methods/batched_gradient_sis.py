"""Batched Gradient SIS: pixels removed in groups, those first whose removal the gradient says helps most."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.backselect import confidence_of, log_odds, ranked, shuffled, smallest
from cardgen.errors import CardgenError
from cardgen.forward import logits, with_classes
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import substrate


@method(
    key="batched_gradient_sis",
    title="Batched Gradient SIS",
    source=Source(paper="Carter et al. 2021", url="https://arxiv.org/abs/2003.08907", where="section 3.3"),
    access="gradients",
    signed=False,
    ranges={"removals": (50, 100, 500), "confidence": (0.5, 0.7, 0.9), "background": ("mean", "black", "blur")},
    passes=lambda parameters: 2 * parameters["removals"] + 1,
)
def batched_gradient_sis(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    removals: int = 500,
    confidence: float = 0.9,
    background: str = "mean",
) -> Float[Tensor, "n 1 h w"]:
    """Each pixel's place in the order of removal, as a share of all, and 1 more if it is in the sufficient subset.

    With z(p) = 1 where pixel p is shown and 0 where it is the background, remove at each of `removals` steps the same number of pixels,
    those with the smallest ∂f_c/∂z(p), in that order, until none is left. The subset is what was left before the last step at which
    f_c ≥ `confidence` · f_c(x); it is where the map exceeds 1, and is empty where the bare background is confident enough. No unit.

    Carter, Jain, Mueller, Gifford 2021, section 3.3: batches of 100 of 224 × 224 pixels, so 502 steps, and of single pixels for
    32 × 32. The gradient is that of the log-odds of f_c, which orders pixels as that of f_c does, and does not vanish where f_c is
    next to 1; the authors' code adds noise of variance 10⁻¹² for such places. Pixels of equal gradient, as those that equal the
    background, go in one fixed order drawn at random, whatever the sample. As in `sis`, the threshold is a share of f_c(x), c is the
    class explained, and only the first subset is marked. A step takes an order from one gradient, so what removing a pixel does to
    the others shows one step later.

    Args:
        removals: steps, each a forward and a backward pass.
        confidence: share of f_c(x) that is enough.
        background: what stands where pixels are removed, as a substrate: mean (the paper's), black, white, grey, zero, blur.

    Raises:
        CardgenError: no removals, or a confidence that is no share.
    """
    if removals < 1:
        raise CardgenError(f"batched_gradient_sis: removals is {removals}; expected at least 1; choose more")
    n, _, height, width = inputs.shape
    pixels = height * width
    hidden = substrate(background, inputs, context.space)
    visible = inputs - hidden
    turn = shuffled(pixels).to(inputs.device)
    gone = torch.zeros(n, pixels, dtype=torch.bool, device=inputs.device)
    left = [pixels - pixels * step // removals for step in range(removals + 1)]
    order, confidences = [], []
    for step, before in enumerate(left):
        with torch.set_grad_enabled(before > 0):
            shown = (~gone).to(inputs.dtype).view(n, 1, height, width).requires_grad_(before > 0)
            scores = with_classes(logits(model, hidden + shown * visible), targets)
            if before:
                (slope,) = torch.autograd.grad(log_odds(scores, targets).sum(), shown)
        confidences.append(confidence_of(scores.detach(), targets))
        if before:
            sizes = slope.float().flatten(1).masked_fill(gone, torch.inf)[:, turn]
            order.append(turn[smallest(sizes, before - left[step + 1])])
            gone = gone.scatter(1, order[-1], True)
    numbers = torch.tensor(left, device=inputs.device)
    return ranked(torch.cat(order, 1), numbers, torch.stack(confidences, 1), confidence).view(n, 1, height, width)
