"""DeepLIFT: the difference of a score from that on a reference, handed back through the network by ratios of differences."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import target_logits
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.repair import Unhooked
from cardgen.rescale import ELEMENTWISE, POOLING, activation, maximum
from cardgen.rules import LAYERS, MOVES, SCALES, SUMS, Function, Ruled, Rules, require_same, tensors
from cardgen.space import substrate

MISSED = 1e-3
"""Share of the example's attributions, without their signs, by which their sum may miss the difference; more in half precision."""


class _Rescale(Rules):
    """The rescale rule, on samples followed by their references."""

    title = "DeepLIFT"
    expected = "linear layers, activations of one number, max pooling and additions"
    allowed = MOVES | SUMS | SCALES | LAYERS

    def begin(self, inputs: Tensor) -> None:
        super().begin(inputs)
        self.rows = len(inputs)

    def rule(self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        at, *rest = args
        if [tensor is at for tensor in tensors([*args, *kwargs.values()]) if tensor.requires_grad] != [True]:
            return None
        if len(at) != self.rows or kwargs.get("return_indices"):
            return None
        if name in ELEMENTWISE:
            return activation(function, at, rest, kwargs)
        return maximum(POOLING[name], at, rest, kwargs) if name in POOLING else None


def multipliers(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    references: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "2*n"]]:
    """m with Σ m ⊙ (x − x̄) = s_c(x) − s_c(x̄), and the scores: those of all inputs x, then those of all references x̄."""
    n = len(inputs)
    with torch.enable_grad():
        both = torch.cat([inputs, references]).detach().requires_grad_()
        scores = target_logits(Ruled(model, _Rescale()), both, torch.cat([targets, targets]))
        (found,) = torch.autograd.grad(scores[:n].sum(), both)
    return found[:n].float(), scores.detach()


def require_complete(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model that DeepLIFT has no rule for, or whose attributions do not sum to the difference.

    Raises:
        CardgenError: such a model; the first thing without a rule is named.
    """
    pair = torch.cat([example, torch.zeros_like(example)])
    require_same(model, _Rescale(), pair)
    target = torch.zeros(1, dtype=torch.int64, device=example.device)
    found, scores = multipliers(Unhooked(model), pair[:1], pair[1:], target)
    shares, eps = found * example.float(), torch.finfo(example.dtype).eps
    slack = max(MISSED, 50 * eps) * shares.abs().sum() + 50 * eps * scores.abs().max()
    if bool((shares.sum() - (scores[0] - scores[1])).abs() > slack):
        raise CardgenError(
            f"DeepLIFT's attributions sum to {float(shares.sum()):.4g} where the score differs by {float(scores[0] - scores[1]):.4g}; "
            f"expected a model that does with one image what it does with another; leave DeepLIFT out"
        )


@method(
    key="deeplift",
    title="DeepLIFT",
    source=Source(paper="Shrikumar et al. 2017", url="https://arxiv.org/abs/1704.02685", where="sections 3.1 to 3.5"),
    access="internals",
    complete="baseline",
    ranges={"baseline": ("black", "white", "grey", "mean", "blur")},
    fits=require_complete,
    passes=lambda parameters: 4,
)
def deeplift(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    baseline: str = "black",
) -> Float[Tensor, "n c h w"]:
    """m ⊙ (x − x̄), the multipliers m by the chain rule: a layer's weights, and at activations Δf/Δz = (f(z) − f(z̄)) / (z − z̄).

    z and z̄ are what the activation gets on the image x and on the baseline x̄. Complete: the attributions of a sample sum to
    s_c(x) − s_c(x̄), to rounding. On a linear model this is the gradient times (x − x̄). Signed; units: logits. Shrikumar, Greenside,
    Kundaje 2017, equations 1 to 3, the linear rule (3.5.1) and Rescale (3.5.2). The paper's other rule, RevealCancel, is not used; the
    paper itself keeps Rescale for convolutional layers in its experiments on genomes.

    The score is the logit; for softmax outputs the paper also subtracts the mean of all classes' contributions (3.6). Max pooling has no
    rule in the paper: the difference of two maxima goes to the place of the larger, as SHAP and captum do. Products of two parts that
    both depend on the image (attention, squeeze-and-excitation), softmax and layer normalisation have no rule: such models are refused,
    as are those whose attributions do not sum to the difference on an example.

    Written anew: captum 0.9 passes plain gradients, without a word, through activations that are functions (the sum is wrong by half of
    the difference on a network with one F.relu) and through max pooling right after an activation (8 % there), and refuses modules that
    run twice.

    Args:
        baseline: x̄, as a substrate: black, white, grey, mean, zero, blur. The paper leaves it to the user, and takes black for MNIST.
    """
    references = substrate(baseline, inputs, context.space)
    return multipliers(model, inputs, references, targets)[0] * (inputs - references).float()
