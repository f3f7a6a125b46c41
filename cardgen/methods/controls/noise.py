"""The noise family: maps that hold no information. A method must beat every member."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.methods import Context, method
from cardgen.records import Source

SOURCE = Source(
    paper="cardgen", url="https://github.com/cardgen/cardgen/blob/main/docs/read-a-verdict.md", where="the noise family"
)
GRIDS = (4, 7, 14)


def _draw(context: Context, key: str, draw: int, shape: tuple[int, int]) -> Float[Tensor, "n 1 h w"]:
    return torch.stack([torch.rand((1, *shape), generator=g) for g in context.generators(key, draw)])


@method(key="noise", title="Uniform noise", source=SOURCE, access="none", signed=False, random=True, control="noise")
def noise(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context, *, draw: int = 0
) -> Float[Tensor, "n 1 h w"]:
    """Independent uniform numbers in [0, 1), drawn from the sample's own generator; `draw` counts independent maps."""
    return _draw(context, "noise", draw, (inputs.shape[2], inputs.shape[3])).to(inputs.device)


def _smooth(grid: int) -> None:
    key = f"noise_{grid}"

    @method(
        key=key,
        title=f"Smooth noise {grid}×{grid}",
        source=SOURCE,
        access="none",
        signed=False,
        random=True,
        control="noise",
    )
    def smooth_noise(
        model: nn.Module,
        inputs: Float[Tensor, "n c h w"],
        targets: Int[Tensor, " n"],
        context: Context,
        *,
        draw: int = 0,
    ) -> Float[Tensor, "n 1 h w"]:
        """Uniform numbers on a coarse grid, upsampled bilinearly: as smooth as the maps of many methods are."""
        coarse = _draw(context, key, draw, (grid, grid)).to(inputs.device)
        return F.interpolate(coarse, size=inputs.shape[2:], mode="bilinear", align_corners=False)


for _grid in GRIDS:
    _smooth(_grid)
