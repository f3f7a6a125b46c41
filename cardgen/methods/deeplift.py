"""DeepLIFT: the difference of a score from that on a reference, handed back through the network by ratios of differences."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.errors import CardgenError
from cardgen.forward import target_logits
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.rules import ACTIVATIONS, LAYERS, MOVES, SCALES, SUMS, Function, Ruled, Rules, require_same, ruled, tensors
from cardgen.space import substrate

POOLS: dict[str, Function] = {
    "max_pool2d": F.max_pool2d,
    "max_pool2d_with_indices": F.max_pool2d,
    "adaptive_max_pool2d": F.adaptive_max_pool2d,
}
MISSED = 1e-3
"""Share of the example's attributions, without their signs, by which their sum may miss the difference; more in half precision."""


class Rescale(Rules):
    """Rule Rescale: a first pass, without gradients, records the references; the next one with gradients takes them in turn."""

    title = "DeepLIFT"
    expected = "linear layers, activations of one number, max pooling and additions"
    allowed = MOVES | SUMS | SCALES | LAYERS

    def __init__(self) -> None:
        super().__init__()
        self.references: list[tuple[str, Tensor]] = []

    def begin(self, inputs: Tensor) -> None:
        super().begin(inputs)
        if torch.is_grad_enabled():
            self.references.reverse()
        else:
            self.references.clear()

    def rule(self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        at = args[0]
        if name not in ACTIVATIONS and name not in POOLS:
            return None
        if not torch.is_grad_enabled():
            self.references.append((name, at.detach().clone()))
            return None
        before, reference = self.references.pop() if self.references else ("", at)
        if before != name or reference.shape != at.shape:
            raise self.refuse(f"{name}, which runs on the image and not on the reference,")
        if not at.requires_grad or any(tensor.requires_grad for tensor in tensors([*args[1:], *kwargs.values()])):
            return None
        if name in POOLS:
            return self._pooled(name, at, reference, args[1:], kwargs)
        # a copy, as the function may work in place
        return _rescaled(lambda value: function(value.clone(), *args[1:], **kwargs), at, reference)

    def _pooled(self, name: str, at: Tensor, reference: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The difference of two maxima goes to the place of the larger: there the inputs differ at least as much, in the same direction."""
        if kwargs.get("return_indices"):
            raise self.refuse("the places of maxima")
        options = {**kwargs, "return_indices": True}
        value, place = POOLS[name](at.detach(), *args, **options)
        before, place_before = POOLS[name](reference, *args, **options)
        place = torch.where(value >= before, place, place_before).flatten(-2)
        moved = (at.detach() - reference).flatten(-2).gather(-1, place)
        factor = torch.where(moved == 0, 1, (value - before).flatten(-2) / moved)

        def back(signal: Tensor) -> Tensor:
            shares = torch.zeros_like(at, memory_format=torch.contiguous_format).flatten(-2)
            return shares.scatter_add_(-1, place, signal.flatten(-2) * factor).view(at.shape)

        return ruled(at, value, back)


def _rescaled(function: Function, at: Tensor, reference: Tensor) -> Tensor:
    """The multiplier (f(z) − f(z̄)) / (z − z̄); f' half-way where the two are equal but for rounding."""
    here = at.detach()
    value, moved = function(here), here - reference
    half = (reference + moved / 2).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(function(half).sum(), half)
    same = moved.abs() < 10 * torch.finfo(here.dtype).eps
    multiplier = torch.where(same, slope, (value - function(reference)) / moved)
    return ruled(at, value, lambda signal: signal * multiplier)


def multipliers(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    references: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    unseen: bool = False,
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """m with Σ m ⊙ (x − x̄) = s_c(x) − s_c(x̄), and these two scores.

    By a forward pass of the references x̄ and one of the inputs x with its backward pass.
    """
    rescaling = Ruled(model, Rescale(), unseen=unseen)
    with torch.no_grad():
        before = target_logits(rescaling, references, targets)
    with torch.enable_grad():
        inputs = inputs.detach().clone().requires_grad_()
        scores = target_logits(rescaling, inputs, targets)
        (found,) = torch.autograd.grad(scores.sum(), inputs)
    return found.float(), scores.detach(), before


def require_complete(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model that DeepLIFT has no rule for, or whose attributions do not sum to the difference.

    Raises:
        CardgenError: such a model; the first thing without a rule is named.
    """
    rescaling = Ruled(model, Rescale(), unseen=True)
    with torch.no_grad():
        rescaling(example)
    require_same(model, rescaling, example)
    target = torch.zeros(1, dtype=torch.int64, device=example.device)
    found, score, before = multipliers(model, example, torch.zeros_like(example), target, unseen=True)
    shares, eps = found * example.float(), torch.finfo(example.dtype).eps
    slack = max(MISSED, 50 * eps) * shares.abs().sum() + 50 * eps * torch.maximum(score.abs(), before.abs())
    if bool((shares.sum() - (score - before)).abs() > slack):
        raise CardgenError(
            f"DeepLIFT's attributions sum to {float(shares.sum()):.4g} where the score differs by {float(score - before):.4g}; expected a "
            f"model that does with one image what it does with another; leave DeepLIFT out"
        )


@method(
    key="deeplift",
    title="DeepLIFT",
    source=Source(paper="Shrikumar et al. 2017", url="https://arxiv.org/abs/1704.02685", where="sections 3.1 to 3.5"),
    access="internals",
    complete="baseline",
    ranges={"baseline": ("black", "white", "grey", "mean", "blur")},
    fits=require_complete,
    passes=lambda parameters: 3,
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
