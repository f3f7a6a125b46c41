"""Images cut into a grid of regions: what a map says of each region, and what each costs when it goes alone."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import variant_probabilities
from cardgen.scores import Scores
from cardgen.study import Study, Subject

PARTS = 8
STILL = 1e-6
"""Drops with a smaller deviation say nothing of the regions, and differences below it are rounding."""


class Grid(NamedTuple):
    """For each row and column of pixels the band that it lies in, counted from 0; −1 where it lies in none."""

    rows: Int[Tensor, " h"]
    columns: Int[Tensor, " w"]

    @property
    def shape(self) -> tuple[int, int]:
        """Bands down and across."""
        return int(self.rows.max()) + 1, int(self.columns.max()) + 1

    def regions(self) -> Int[Tensor, "h w"]:
        """Each pixel's region, counted row by row; −1 where it lies in none."""
        inside = (self.rows >= 0)[:, None] & (self.columns >= 0)
        return torch.where(inside, self.rows[:, None] * self.shape[1] + self.columns, -1)

    def sums(self, maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n down across"]:
        """Each map summed over each region, float64: equal regions of equal values have equal sums."""
        down, across = (
            (bands == torch.arange(count)[:, None]).to(maps.device, torch.float64)
            for bands, count in zip(self, self.shape, strict=True)
        )
        return torch.stack([down @ one.double() @ across.T for one in maps])

    def means(self, maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n down across"]:
        """Each map's mean over each region, float64."""
        return self.sums(maps) / self.sizes().to(maps.device)

    def sizes(self) -> Int[Tensor, "down across"]:
        """Pixels of each region."""
        bands = (bands[bands >= 0].bincount() for bands in self)
        down, across = bands
        return down[:, None] * across


def even(height: int, width: int, parts: int) -> Grid:
    """`parts` × `parts` regions of the whole image; pixel i of a side of length l lies in band ⌊i · parts / l⌋.

    So sides differ by one pixel at most.

    Raises:
        CardgenError: an image with fewer pixels than regions along a side, or fewer than two parts.
    """
    if not 2 <= parts <= min(height, width):
        raise CardgenError(
            f"images of {height} × {width} pixels in a grid of {parts} × {parts}; expected 2 to {min(height, width)} parts; "
            f"set the parameter parts, or give larger images"
        )
    return Grid(*(torch.arange(side) * parts // side for side in (height, width)))


def require_even(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse images that are too small for the grid of 8 × 8."""
    even(example.shape[2], example.shape[3], PARTS)


def squares(height: int, width: int, side: int) -> Grid:
    """As many whole regions of `side` × `side` pixels as fit, in the middle of the image; the margin, if any, lies in none.

    Raises:
        CardgenError: fewer than two regions, of which none could come first.
    """
    if side < 1 or (height // side) * (width // side) < 2:
        raise CardgenError(
            f"images of {height} × {width} pixels in regions of {side} × {side}; expected room for two regions or more; "
            f"set the parameter side, or give larger images"
        )
    return Grid(_bands(height, side), _bands(width, side))


def _bands(length: int, side: int) -> Int[Tensor, " l"]:
    inside = torch.arange(length) - length % side // 2
    return torch.where((inside >= 0) & (inside < length // side * side), inside // side, -1)


def drops(subject: Subject, n: int, parts: int, background: str) -> Float[Tensor, "n parts parts"]:
    """f_c(x) − f_c(x with one region of the even grid replaced by the background), region by region; forwarded once for all maps."""
    height, width = subject.inputs.shape[2:]
    region = even(height, width, parts).regions().to(subject.inputs.device, torch.int32)
    numbers = torch.arange(parts * parts, dtype=torch.int32, device=region.device).view(-1, 1, 1, 1)

    def compute(part: slice) -> Tensor:
        inputs, targets = subject.inputs[part], subject.targets[part]
        bare = subject.substrate(background, part.stop)[part]
        gone = inputs.new_empty(min(subject.batch, len(numbers)), 1, height, width)

        def write(i: int, first: int, last: int, out: Tensor) -> None:
            torch.lerp(inputs[i], bare[i], torch.eq(region, numbers[first:last], out=gone[: last - first]), out=out)

        after = variant_probabilities(subject.model, inputs, targets, len(numbers), write, subject.batch)
        return (subject.clean(part.stop)[part][:, None] - after).view(-1, parts, parts)

    return subject.per_sample(("drops", parts, subject.same_colour(background)), n, compute)


def correlations(study: Study, found: Float[Tensor, " n"], fallen: Float[Tensor, "n down across"]) -> Scores:
    """Scores of correlations with drops: none where all regions cost the same, whatever the map, nor where the map is constant.

    Reported: `still`, the samples of the first kind.
    """
    still = (fallen.flatten(1).double().std(1, correction=0) < STILL).cpu().numpy()
    flat = study.flat()
    valid, values = ~still & ~flat, found.cpu().numpy()
    values[~valid] = 0.0
    return Scores(values, valid, flat & ~still, reported={"still": int(still.sum())})
