"""DeepLIFT averaged over many baselines, which makes it an estimate of Shapley values."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.methods import Context, method
from cardgen.methods.deeplift import multipliers, require_complete
from cardgen.records import Source


@method(
    key="deeplift_shap",
    title="DeepLIFT SHAP",
    source=Source(paper="Lundberg & Lee 2017", url="https://arxiv.org/abs/1705.07874", where="section 4.2"),
    access="internals",
    random=True,
    version=2,
    ranges={"n_samples": (5, 20, 100)},
    fits=require_complete,
    passes=lambda parameters: 4 * parameters["n_samples"],
)
def deeplift_shap(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int = 20,
) -> Float[Tensor, "n c h w"]:
    """1/N Σ_k m_k ⊙ (x − x̄_k): DeepLIFT's attributions, averaged over N baselines x̄_k of one random colour each.

    The sum over a sample is s_c(x) − 1/N Σ_k s_c(x̄_k); this is no completeness against one baseline, so none is declared. On a linear
    model with independent inputs these are the Shapley values of the baselines' distribution. Signed; units: logits. Lundberg & Lee
    2017, section 4.2, equations 13 to 16.

    The paper takes samples of the data as baselines, and its code's documentation advises 100 to 1000 of them. Here a map may not depend on
    other samples, so a baseline is a plain image, each of whose channels is uniform between the bounds of the space: between the
    black, white and grey from which other methods measure. The same N serve all samples of a run; the first ones of a larger N are those
    of a smaller one.

    Args:
        n_samples: baselines N.

    Raises:
        CardgenError: no baselines are asked for, or the inputs leave their space.
    """
    if n_samples < 1:
        raise CardgenError(f"deeplift_shap: n_samples is {n_samples}; expected at least 1; choose more")
    context.space.check(inputs)
    source = generator(context.seed, "deeplift_shap")
    shares = torch.stack([torch.rand(inputs.shape[1], 1, 1, generator=source) for _ in range(n_samples)])
    # as images, since a space that moved has no single black
    colours = context.space.between(shares.to(inputs).expand(-1, *inputs.shape[1:]))
    total = torch.zeros(inputs.shape, device=inputs.device)
    count = len(inputs) * n_samples
    for start in range(0, count, context.batch):
        jobs = torch.arange(start, min(start + context.batch, count), device=inputs.device)
        rows, images = jobs // n_samples, inputs[jobs // n_samples]
        baselines = colours[jobs % n_samples]
        found, _ = multipliers(model, images, baselines, targets[rows])
        total.index_add_(0, rows, found * (images - baselines).float())
    return total / n_samples
