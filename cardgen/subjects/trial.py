"""Whether a Preprocess does what a library's own preprocessing does, found out on pictures."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.subjects.preprocess import EXAMPLE, Preprocess

SIZES = ((360, 480), (470, 330))
TOLERANCE = 0.005
"""Mean difference of pixels in [0, 1] at the best of all shifts by a pixel, as libraries round the crop's corner differently. At 224²
another filter makes 0.002, a crop of 90 % for 87.5 % 0.016, no crop at all 0.1, channels in another order 0.17."""


def check_same(preprocess: Preprocess, theirs: Callable[[Image.Image], Tensor], name: str) -> Preprocess:
    """The preprocessing, if its inputs are those of a library's own function, up to filters and rounding.

    Libraries have many settings, which change; what they come to on smooth coloured pictures, wide and tall, cannot mislead.

    Raises:
        CardgenError: they are others.
    """
    for picture in map(_smooth, SIZES):
        expected = theirs(picture).float()
        found = preprocess.normalised(torch.from_numpy(preprocess.image(picture))[None])[0]
        scale = torch.tensor(preprocess.std)[:, None, None]
        if expected.shape != found.shape or not _difference(expected * scale, found * scale) <= TOLERANCE:
            raise CardgenError(
                f"{name} prepares pictures in a way of its own; expected resize, centre crop and normalisation "
                f"({preprocess.text}); say what comes nearest with {EXAMPLE}"
            )
    return preprocess


def _difference(a: Float[Tensor, "c h w"], b: Float[Tensor, "c h w"]) -> float:
    """Mean absolute difference of the pixels that are not on the border, the least over shifts of b by up to a pixel."""
    height, width = a.shape[1] - 2, a.shape[2] - 2
    inner = a[:, 1:-1, 1:-1]
    shifts = [b[:, top : top + height, left : left + width] for top in range(3) for left in range(3)]
    return min(float((inner - shifted).abs().mean()) for shifted in shifts)


def _smooth(size: tuple[int, int]) -> Image.Image:
    """A picture of large soft patches, the same every time."""
    patches = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size[::-1], Image.Resampling.BICUBIC)
