"""Backward passes that treat ReLUs in a way of their own: which models have them, and captum's rules on a repaired copy."""

import warnings
from collections.abc import Callable

from captum.attr import Deconvolution, GuidedBackprop
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import target_logits
from cardgen.methods import Context
from cardgen.repair import activations_apart, nonlinearities

SATURATING = ("sigmoid", "hardsigmoid", "tanh", "logsigmoid")
"""No rectifiers: beside ReLUs, as gates say, they keep their own derivative."""


def rectifiers_only(name: str) -> Callable[[nn.Module, Float[Tensor, "1 c h w"]], None]:
    """What refuses models whose rectifiers are not all nn.ReLU modules: on others the map would in part be a plain gradient.

    It raises CardgenError where the model's activations are not ReLU, are not modules, or cannot be repaired on a copy; `name` is
    what the message calls the method.
    """
    advice = f"expected nn.ReLU modules as the only rectifiers; use these in the model, or leave {name} out"

    def require(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
        units = nonlinearities(activations_apart(model, example), example)
        rectifiers = [unit for unit in units if unit.function == "relu"]
        others = [unit for unit in units if unit not in rectifiers and not (rectifiers and unit.function in SATURATING)]
        if others:
            verb = "activations include" if rectifiers else "activation is"
            raise CardgenError(f"{name} is defined for ReLU, and the model's {verb} {others[0].title}; {advice}")
        if not rectifiers:
            raise CardgenError(f"{name} is defined for ReLU, and the model executes none; {advice}")
        outside = [unit for unit in rectifiers if not isinstance(unit.module, nn.ReLU)]
        if outside:
            times = "once" if len(outside) == 1 else f"{len(outside)} times"
            raise CardgenError(f"the model rectifies {times} outside nn.ReLU modules ({outside[0].title}); {advice}")

    return require


class _Scores(nn.Module):
    """Each sample's logit of its own target class, as a module whose ReLUs can be hooked."""

    def __init__(self, model: nn.Module, targets: Tensor) -> None:
        super().__init__()
        self.model, self.targets = model, targets

    def forward(self, inputs: Tensor) -> Tensor:
        return target_logits(self.model, inputs, self.targets)


def pulled_back(
    rule: type[GuidedBackprop] | type[Deconvolution],
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
) -> Float[Tensor, "n c h w"]:
    """What arrives at the inputs from s_c when every ReLU passes signals back by captum's rule.

    On a copy of the model (`activations_apart`): by itself captum puts its rule on all that flows back into a ReLU's input, also
    through a shortcut around the ReLU.
    """
    copied = context.once("activations apart", model, lambda: activations_apart(model, inputs[:1]))
    scores = _Scores(copied, targets)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        found: Tensor = rule(scores).attribute(inputs.detach().clone().requires_grad_())
    return found
