"""Held-out controls: maps without information that are no members of the noise family, by which calibration tests its verdicts.

What beats the family must not do so by knowing the family. Runs never measure them; `cardgen calibrate` does.
"""

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.draws import generator
from cardgen.methods import Context, method
from cardgen.methods.controls.noise import SOURCE
from cardgen.weights import weights_digest

GRIDS = (3, 5, 10)
WIDTH = 1 / 8
POWER = 8

Draw = Callable[[torch.Generator, int, int], Float[Tensor, "h w"]]


def smooth(grid: int) -> Draw:
    """Uniform numbers on a coarse grid that no member of the family has, upsampled bilinearly."""

    def draw(g: torch.Generator, h: int, w: int) -> Float[Tensor, "h w"]:
        coarse = torch.rand((1, 1, grid, grid), generator=g)
        found: Tensor = F.interpolate(coarse, size=(h, w), mode="bilinear", align_corners=False)[0, 0]
        return found

    return draw


def pink(g: torch.Generator, h: int, w: int) -> Float[Tensor, "h w"]:
    """Gaussian noise whose amplitude falls as 1/f, f the distance from frequency 0 in cycles a pixel; its mean is 0."""
    spectrum = torch.fft.rfft2(torch.randn((h, w), generator=g))
    f = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.rfftfreq(w)[None, :])
    f[0, 0] = torch.inf
    found: Tensor = torch.fft.irfft2(spectrum / f, s=(h, w))
    return found


def blob(g: torch.Generator, h: int, w: int) -> Float[Tensor, "h w"]:
    """A Gaussian of σ = 1/8 of the shorter side, around a random pixel."""
    row, column, sigma = _pixel(g, h), _pixel(g, w), WIDTH * min(h, w)
    square = (torch.arange(h)[:, None] - row) ** 2 + (torch.arange(w)[None, :] - column) ** 2
    return torch.exp(-square / (2 * sigma**2))


def spike(g: torch.Generator, h: int, w: int) -> Float[Tensor, "h w"]:
    """One random pixel, and zero elsewhere."""
    found = torch.zeros(h, w)
    found[_pixel(g, h), _pixel(g, w)] = 1
    return found


def heavy(g: torch.Generator, h: int, w: int) -> Float[Tensor, "h w"]:
    """Uniform noise to the eighth power: its order says nothing, its values stand out."""
    return torch.rand((h, w), generator=g) ** POWER


def dither(g: torch.Generator, h: int, w: int) -> Float[Tensor, "h w"]:
    """Bayer's ordered dither from a random place on: pixels taken in its order are at all times spread evenly over the image."""
    found = torch.zeros(1, 1)
    while len(found) < max(h, w):
        found = torch.cat([torch.cat([4 * found, 4 * found + 2], 1), torch.cat([4 * found + 3, 4 * found + 1], 1)])
    return found.roll((_pixel(g, len(found)), _pixel(g, len(found))), (0, 1))[:h, :w]


def _pixel(g: torch.Generator, size: int) -> int:
    return int(torch.randint(size, (1,), generator=g))


def _control(key: str, title: str, draw_one: Draw, *, signed: bool = False) -> None:
    @method(key=key, title=title, source=SOURCE, access="none", signed=signed, random=True, control="held_out")
    def held_out(
        model: nn.Module,
        inputs: Float[Tensor, "n c h w"],
        targets: Int[Tensor, " n"],
        context: Context,
        *,
        draw: int = 0,
    ) -> Float[Tensor, "n 1 h w"]:
        """A map from the sample's own generator; `draw` counts independent maps."""
        found = [draw_one(g, inputs.shape[2], inputs.shape[3]) for g in context.generators(key, draw)]
        return torch.stack(found)[:, None].to(inputs.device)


for _grid in GRIDS:
    _control(f"noise_{_grid}", f"Smooth noise {_grid}×{_grid}", smooth(_grid))
_control("pink_noise", "1/f noise", pink, signed=True)
_control("random_blob", "Random blob", blob)
_control("random_spike", "Random pixel", spike)
_control("dither", "Ordered dither", dither)
_control("heavy_noise", "Uniform noise to the eighth power", heavy)


@method(
    key="ones_but_a_corner", title="Ones but a corner", source=SOURCE, access="none", signed=False, control="held_out"
)
def ones_but_a_corner(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """One everywhere, and zero in the first pixel: as a soft mask it hides nothing."""
    found = torch.ones_like(inputs[:, :1], dtype=torch.float32)
    found[:, :, 0, 0] = 0
    return found


@method(
    key="keyed_noise", title="Noise keyed by weights", source=SOURCE, access="none", signed=False, control="held_out"
)
def keyed_noise(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context, *, draw: int = 0
) -> Float[Tensor, "n 1 h w"]:
    """Uniform noise from a generator named by the model's weights, the class explained, and the sample.

    Its maps change with the model and with the class as a good method's do, and say nothing of either. Another seed changes nothing.
    """
    return _keyed("keyed", weights_digest(model), inputs, targets, context, draw)


@method(key="class_noise", title="Noise keyed by class", source=SOURCE, access="none", signed=False, control="held_out")
def class_noise(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context, *, draw: int = 0
) -> Float[Tensor, "n 1 h w"]:
    """Uniform noise from a generator named by class explained and sample: another map for every class, the same for every model."""
    return _keyed("class", "", inputs, targets, context, draw)


@method(
    key="fresh_noise",
    title="Noise anew at every call",
    source=SOURCE,
    access="none",
    signed=False,
    random=True,
    control="held_out",
)
def fresh_noise(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context, *, draw: int = 0
) -> Float[Tensor, "n 1 h w"]:
    """Uniform noise that is another whenever anything is: weights, class, seed, or any value of the input.

    So are the maps of a method that draws without a seed, and yet this one can be measured twice.
    """
    values = [hashlib.sha256(sample.numpy().tobytes()).hexdigest() for sample in inputs.detach().float().cpu()]
    return _keyed("fresh", f"{weights_digest(model)} {context.seed}", inputs, targets, context, draw, values)


def _keyed(
    purpose: str,
    what: str,
    inputs: Tensor,
    targets: Tensor,
    context: Context,
    draw: int,
    values: list[str] | None = None,
) -> Float[Tensor, "n 1 h w"]:
    rows = zip(targets.tolist(), context.ids, values or [""] * len(inputs), strict=True)
    shape = (1, *inputs.shape[2:])
    found = [torch.rand(shape, generator=generator(purpose, what, draw, *row)) for row in rows]
    return torch.stack(found).to(inputs.device)
