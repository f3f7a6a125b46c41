"""VarGrad: the variance of the gradient over noisy copies of the input."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.methods import Context, method
from cardgen.noisy import apart, gradients, noisy_copies, require_samples
from cardgen.records import Source


@method(
    key="vargrad",
    title="VarGrad",
    source=Source(paper="Adebayo et al. 2018", url="https://arxiv.org/abs/1810.03292", where="appendix A.7"),
    access="gradients",
    reduction="max_abs",
    signed=False,
    random=True,
    ranges={"n_samples": (10, 50, 200), "noise_level": (0.05, 0.15, 0.3)},
    passes=lambda parameters: 2 * parameters["n_samples"],
)
def vargrad(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int = 50,
    noise_level: float = 0.15,
) -> Float[Tensor, "n c h w"]:
    """1/N Σ_k (g_k − ḡ)² with g_k = ∂s_c(x + ε_k)/∂x, ε_k ~ N(0, σ²), and ḡ their mean; value by value, never negative.

    The map is the largest variance over channels. The noise is SmoothGrad's own (`cardgen.noisy`), so ḡ is SmoothGrad's map and the
    mean of g_k² is SmoothGrad-Squared's. The paper writes the variance of the explanation and leaves open how to estimate it. Here it
    is divided by N, as in captum; xplique divides by N − 1, the same map times N / (N − 1). Deviations from the running mean are
    summed, and not the squared mean taken from the mean square as in captum: where gradients hardly vary, that difference of two large
    numbers is rounding, and may be negative. No `terms`: every share needs the mean of all copies. Units: (logit per unit of input)².
    Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, appendix A.7, here over plain gradients.

    Args:
        n_samples: noisy copies N of each input.
        noise_level: σ as a share of each channel's range in the inputs' space.

    Raises:
        CardgenError: fewer than two noisy copies are asked for, or the inputs leave their space.
    """
    require_samples("vargrad", n_samples, least=2)
    mean, squares = (torch.zeros(inputs.shape, device=inputs.device) for _ in range(2))
    seen = [0] * len(inputs)
    for rows, copies in noisy_copies(inputs, context, n_samples, noise_level):
        for row, part in apart(rows, gradients(model, copies, targets[rows])):
            old, new = seen[row], len(part)
            middle = part.mean(0)
            away = middle - mean[row]
            # not part.var(0), which takes twenty times as long on CPUs
            squares[row] += (part - middle).square().sum(0) + old * new / (old + new) * away.square()
            mean[row] += new / (old + new) * away
            seen[row] += new
    return squares / n_samples
