"""Guided backpropagation: a backward pass that keeps only what is positive at every ReLU."""

import warnings

from captum.attr import GuidedBackprop
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import target_logits
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.repair import activations_apart, nonlinearities

SATURATING = ("sigmoid", "hardsigmoid", "tanh", "logsigmoid")
"""No rectifiers: beside ReLUs, as gates say, they keep their own derivative."""
ADVICE = "expected nn.ReLU modules as the only rectifiers; use these in the model, or leave guided backprop out"


def require_rectifiers(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model whose rectifiers are not all nn.ReLU modules: on others the map would in part be a plain gradient.

    Raises:
        CardgenError: the model's activations are not ReLU, are not modules, or cannot be repaired on a copy.
    """
    units = nonlinearities(activations_apart(model, example), example)
    rectifiers = [unit for unit in units if unit.function == "relu"]
    others = [unit for unit in units if unit not in rectifiers and not (rectifiers and unit.function in SATURATING)]
    if others:
        verb = "activations include" if rectifiers else "activation is"
        raise CardgenError(f"guided backprop is defined for ReLU, and the model's {verb} {others[0].title}; {ADVICE}")
    if not rectifiers:
        raise CardgenError(f"guided backprop is defined for ReLU, and the model executes none; {ADVICE}")
    outside = [unit for unit in rectifiers if not isinstance(unit.module, nn.ReLU)]
    if outside:
        times = "once" if len(outside) == 1 else f"{len(outside)} times"
        raise CardgenError(f"the model rectifies {times} outside nn.ReLU modules ({outside[0].title}); {ADVICE}")


class _Scores(nn.Module):
    """Each sample's logit of its own target class, as a module whose ReLUs can be hooked."""

    def __init__(self, model: nn.Module, targets: Tensor) -> None:
        super().__init__()
        self.model, self.targets = model, targets

    def forward(self, inputs: Tensor) -> Tensor:
        return target_logits(self.model, inputs, self.targets)


@method(
    key="guided_backprop",
    title="Guided Backpropagation",
    source=Source(paper="Springenberg et al. 2015", url="https://arxiv.org/abs/1412.6806", where="section 4"),
    access="internals",
    reduction="max_abs",
    signed=False,
    fits=require_rectifiers,
    passes=lambda parameters: 2,
)
def guided_backprop(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n c h w"]:
    """The gradient of s_c, but at every ReLU y = max(h, 0) the signal back is [h > 0] max(∂s_c/∂y, 0), signed.

    Springenberg, Dosovitskiy, Brox, Riedmiller 2015, section 4. The paper shows the signed result as a colour image and defines no
    map. Its sign says that a colour should rise or fall, not that the pixel speaks for or against the class, so the map is the
    largest magnitude over channels, as for gradients. Units: those of a gradient, logit per unit of input, though it is none.

    captum's implementation, on a copy of the model (`activations_apart`): by itself it rectifies all that flows back into a ReLU's
    input, also through a shortcut around the ReLU.
    """
    scores = _Scores(activations_apart(model, inputs[:1]), targets)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        found: Tensor = GuidedBackprop(scores).attribute(inputs.detach().clone().requires_grad_())
    return found
