"""A network for shifted inputs that computes the same: f₂(x + m) = f₁(x), with all that a method is told of its inputs moved along."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.draws import generator
from cardgen.maskers import Masker
from cardgen.methods import Context
from cardgen.recipes import Network
from cardgen.space import Space
from cardgen.study import Subject

Shift = Callable[[Space, Tensor], Tensor]
"""m, [c, 1, 1] or [c, h, w], for a space and inputs that it is to fit in shape, device and dtype."""
CELLS = 4


def constant(space: Space, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "c 1 1"]:
    """Minus the range of each channel: what lay in 0 … 1 lies in −1 … 0."""
    return -space.range(like)


def image(space: Space, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "c h w"]:
    """One image for all samples: uniform numbers within plus or minus the range on 4 × 4 cells, upsampled bilinearly."""
    coarse = 2 * torch.rand(1, like.shape[1], CELLS, CELLS, generator=generator("shift")) - 1
    smooth = F.interpolate(coarse, size=like.shape[2:], mode="bilinear", align_corners=False)[0]
    return space.range(like) * smooth.to(like)


SHIFTS: Mapping[str, Shift] = {"constant": constant, "image": image}


class Shifted(nn.Module):
    """f(x − m): the shift is taken back before anything else, so that padding and missing biases do not matter."""

    shift: Tensor

    def __init__(self, model: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("shift", shift)

    def forward(self, inputs: Float[Tensor, "n c h w"]) -> object:
        return self.model(inputs - self.shift)


@dataclass(frozen=True)
class MovedSpace(Space):
    """A space whose colours all moved by m, but for `zero`, which is 0 whatever the inputs mean."""

    shift: Shift = constant

    def colour(self, name: str, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "c _h _w"]:
        """The colour plus m."""
        found = super().colour(name, like)
        return found if name == "zero" else found + self.shift(self._unmoved, like)

    def range(self, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "c 1 1"]:
        """That of the space before."""
        return self._unmoved.range(like)

    @property
    def _unmoved(self) -> Space:
        return Space(self.low, self.high, self.mean)


def shifted(name: str, space: Space) -> Network:
    """The recipe of a shift: the network of f₂, the inputs x + m, and for methods the moved space and the layers' names within f₂."""
    shift = SHIFTS[name]

    def build(model: nn.Module, example: Tensor) -> nn.Module:
        return Shifted(model, shift(space, example))

    def make(subject: Subject, part: slice) -> Tensor:
        inputs = subject.inputs[part]
        return inputs + shift(space, inputs)

    def told(context: Context) -> Context:
        moved = MovedSpace(space.low, space.high, space.mean, shift)
        layer = context.layer and f"model.{context.layer}"
        return replace(context, space=moved, layer=layer, masker=_within(context.masker))

    return Network(("shifted", name), build, make, told)


def _within(masker: nn.Module | None) -> nn.Module | None:
    """A masking network that knows the layers that it reads by their names within f₂."""
    if not isinstance(masker, Masker):
        return masker
    found = copy(masker)
    found.layers = tuple(f"model.{layer}" for layer in masker.layers)
    return found
