"""Random perturbations of a sample, each draw from its own generator, so that draw k is the same in every budget, and what they cost.

`Inputs` recipes for methods that explain a perturbed sample, how far its attributions move under them, and drops s_c(x) − s_c(x − I)
that all maps of a subject share.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from cardgen.draws import generator, uniform
from cardgen.forward import variant_logits, with_classes
from cardgen.recipes import Inputs, Recipe
from cardgen.similarity import relative_difference
from cardgen.space import Space
from cardgen.study import Study, Subject

CELLS = (4, 8, 16)
"""Cells a side that corners of the ball are drawn on, in turn."""

Shown = Callable[[int, int, int], Tensor]
"""Sample i under draws first…last−1, [last − first, c, h, w], from (i, first, last)."""


def within(
    moved: Float[Tensor, "#n c h w"], inputs: Float[Tensor, "#n c h w"], space: Space
) -> Float[Tensor, "#n c h w"]:
    """Moved inputs, cut off at the bounds of the space; where an input itself lies outside, at that input."""
    low, high = space.colour("black", inputs), space.colour("white", inputs)
    return torch.maximum(torch.minimum(moved, torch.maximum(inputs, high)), torch.minimum(inputs, low))


def ball(radius: float, draw: int) -> Inputs:
    """x + δ, each value of δ uniform within ± `radius` of its channel's range; kept within the space."""

    def make(subject: Subject, part: slice) -> Float[Tensor, "m c h w"]:
        inputs = subject.inputs[part]
        share = 2 * uniform(subject.ids[part], tuple(inputs.shape[1:]), subject.seed, "ball", draw) - 1
        moved = inputs + radius * subject.space.range(inputs) * share.to(inputs.device, inputs.dtype)
        return within(moved, inputs, subject.space)

    return Inputs(("ball", radius, draw), make)


def corner(radius: float, draw: int) -> Inputs:
    """x + δ, each cell of a coarse grid, in each channel, at plus or minus `radius` of the channel's range; kept within the space.

    The grid has 4, 8 and 16 cells a side in turn. On digits on scenes the largest of ten such corners moved the attributions of seven
    methods 2 to 7 times as far as the largest of ten uniform draws, the corners of single pixels 1.3 to 1.9 times.
    """
    cells = CELLS[draw % len(CELLS)]

    def make(subject: Subject, part: slice) -> Float[Tensor, "m c h w"]:
        inputs = subject.inputs[part]
        signs = (
            uniform(subject.ids[part], (inputs.shape[1], cells, cells), subject.seed, "corner", draw) < 0.5
        ) * 2.0 - 1
        share = F.interpolate(signs, size=inputs.shape[2:]).to(inputs.device, inputs.dtype)
        return within(inputs + radius * subject.space.range(inputs) * share, inputs, subject.space)

    return Inputs(("corner", radius, draw), make)


def noisy(sigma: float, draw: int) -> Inputs:
    """A draw of `gaussian` for each sample."""

    def make(subject: Subject, part: slice) -> Float[Tensor, "m c h w"]:
        shown = gaussian(subject, sigma)
        return torch.cat([shown(i, draw, draw + 1) for i in range(len(subject))[part]])

    return Inputs(("noisy", sigma, draw), make)


def change(study: Study, recipe: Recipe) -> Float[Tensor, " n"]:
    """‖A(x') − A(x)‖₂ / ‖A(x)‖₂ of each sample, x' its inputs, or its network, under a recipe; all channels of A."""

    def compute(part: slice) -> Tensor:
        return relative_difference(study.upto(part.stop).attributions()[part], study.explain(part, recipe))

    return study.memo(("change", recipe), compute)


def keeps(subject: Subject, n: int, recipe: Inputs) -> Bool[Tensor, " n"]:
    """Whether the predicted class is the same under a recipe."""
    found: Tensor = subject.logits(n, recipe).argmax(1) == subject.logits(n).argmax(1)
    return found


def distance(subject: Subject, n: int, recipe: Inputs) -> Float[Tensor, " n"]:
    """‖x' − x‖₂ in shares of each channel's range, float64."""

    def compute(part: slice) -> Tensor:
        moved = subject.inputs_of(part, recipe) - subject.inputs[part]
        found: Tensor = (moved / subject.space.range(moved)).double().flatten(1).norm(dim=1)
        return found

    return subject.per_sample(("distance", recipe), n, compute)


def gaussian(subject: Subject, sigma: float) -> Shown:
    """x − I, each value of I normal with a deviation of `sigma` of its channel's range; kept within the space, which shortens I."""
    scale = sigma * subject.space.range(subject.inputs)

    def shown(i: int, first: int, last: int) -> Tensor:
        one = subject.inputs[i : i + 1]
        found = torch.empty(last - first, *one.shape[1:])
        for k in range(first, last):
            torch.randn(
                one.shape[1:], generator=generator(subject.seed, "gaussian", k, subject.ids[i]), out=found[k - first]
            )
        return within(one - scale * found.to(one.device, one.dtype), one, subject.space)

    return shown


def removed(subject: Subject, squares: Int[Tensor, "n draws 3"], substrate: str) -> Shown:
    """x − I, I the image's difference to the substrate on one square, and zero elsewhere."""
    bare = subject.substrate(substrate, len(squares))

    def shown(i: int, first: int, last: int) -> Tensor:
        found = subject.inputs[i].expand(last - first, -1, -1, -1).clone()
        for image, (row, column, side) in zip(found, squares[i, first:last].tolist(), strict=True):
            place = (slice(None), slice(row, row + side), slice(column, column + side))
            image[place] = bare[i][place]
        return found

    return shown


def squares(subject: Subject, n: int, draws: int, largest: float) -> Int[Tensor, "n draws 3"]:
    """Row, column and side of squares, drawn uniformly from all in the image with sides up to a share of its shorter one."""
    h, w = subject.inputs.shape[2:]
    sides = torch.arange(1, max(1, int(largest * min(h, w))) + 1)
    ends = ((h - sides + 1) * (w - sides + 1)).cumsum(0)

    def compute(part: slice) -> Tensor:
        picked = torch.tensor(
            [
                [
                    int(torch.randint(int(ends[-1]), (1,), generator=generator(subject.seed, "square", k, sample)))
                    for k in range(draws)
                ]
                for sample in subject.ids[part]
            ]
        )
        kind = torch.searchsorted(ends, picked, right=True)
        place = picked - torch.cat([ends.new_zeros(1), ends])[kind]
        side = sides[kind]
        return torch.stack([place // (w - side + 1), place % (w - side + 1), side], dim=2)

    return subject.per_sample(("squares", draws, largest), n, compute)


def drops(subject: Subject, part: slice, draws: int, shown: Shown) -> Float[Tensor, "m draws"]:
    """s_c(x) − s_c(x − I) of some samples under each draw, in logits."""
    inputs, targets = subject.inputs[part], subject.targets[part]

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        out.copy_(shown(part.start + i, first, last))

    after = variant_logits(subject.model, inputs, targets, draws, write, subject.batch)
    before = with_classes(subject.logits(part.stop)[part], targets).gather(1, targets[:, None])
    return before - after
