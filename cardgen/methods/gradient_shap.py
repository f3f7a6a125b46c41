"""Gradient SHAP, or expected gradients: integrated gradients averaged over random baselines, one random step of the path each."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import slopes
from cardgen.methods import Context, method
from cardgen.noisy import add, batches, gradients, require_samples
from cardgen.records import Source
from cardgen.registry import unknown

BASELINES = ("colours", "random")


def terms(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int,
    baselines: str,
) -> Iterator[Float[Tensor, "n c h w"]]:
    """The share of each draw, with its graph."""
    draws = context.generators("gradient_shap")
    for _ in range(n_samples):
        start, share = _drawn(inputs, draws, context, baselines)
        away = inputs - start
        yield away * slopes(model, start + share * away, targets) / n_samples


@method(
    key="gradient_shap",
    title="Gradient SHAP",
    source=Source(paper="Erion et al. 2021", url="https://arxiv.org/abs/1906.10670", where="expected gradients"),
    access="gradients",
    random=True,
    version=2,
    ranges={"n_samples": (20, 50, 200), "baselines": BASELINES},
    terms=terms,
    passes=lambda parameters: 2 * parameters["n_samples"],
)
def gradient_shap(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_samples: int = 200,
    baselines: str = "colours",
) -> Float[Tensor, "n c h w"]:
    """1/N Σ_k (x − x'_k) ⊙ ∂s_c(x'_k + α_k (x − x'_k))/∂x with baselines x'_k ~ D and α_k ~ U(0, 1); signed, units: logits.

    An estimate of E_{x'~D} of integrated gradients from x'. In expectation the attributions of a sample sum to s_c(x) − E s_c(x'): that
    is the mean over all baselines, not the score of any one, so no `complete` is declared. Every baseline and every α is drawn anew, for
    each sample from its own generator, and the first draws of a larger N are those of a smaller one.

    Erion et al. draw x' from the training data, and shap and captum from images that are handed to them. Here a map depends on its own
    sample and the inputs' space alone, so D is made of that space: uniform colours, each channel anywhere between low and high, by
    default; or images whose every value is drawn so. Their mean is grey, and no colour goes unseen, as black does from a black baseline.
    No noise is added to x (captum's `stdevs`, shap's `local_smoothing`), which both leave out unless told. Erion, Janizek, Sturmfels,
    Lundberg, Lee 2021, who give the method of shap's GradientExplainer, after Lundberg and Lee 2017. N is shap's 200; captum takes 5.

    Args:
        n_samples: draws N of a baseline and a step.
        baselines: D: colours (uniform images) or random (every value of its own).

    Raises:
        CardgenError: no draws are asked for, there are no such baselines, or the inputs leave their space.
    """
    require_samples("gradient_shap", n_samples)
    if baselines not in BASELINES:
        raise CardgenError(f"gradient_shap: {unknown('distribution of baselines', baselines, list(BASELINES))}")
    context.space.check(inputs)
    draws = context.generators("gradient_shap")
    total = torch.zeros(inputs.shape, device=inputs.device)
    for rows in batches(len(inputs), n_samples, context.batch):
        start, share = _drawn(inputs, [draws[row] for row in rows], context, baselines)
        away = inputs[rows] - start
        add(total, rows, away * gradients(model, start + share * away, targets[rows]))
    return total / n_samples


def _drawn(
    inputs: Float[Tensor, "n c h w"], draws: Sequence[torch.Generator], context: Context, baselines: str
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 1 1 1"]]:
    """From each generator one baseline, of the image's size, since a space that moved has no single black; and one step."""
    _, c, h, w = inputs.shape
    size = (c, 1, 1) if baselines == "colours" else (c, h, w)
    drawn = [(torch.rand(size, generator=draw), torch.rand(1, 1, 1, generator=draw)) for draw in draws]
    places, shares = (torch.stack(values).to(inputs) for values in zip(*drawn, strict=True))
    return context.space.between(places.expand(-1, -1, h, w)), shares
