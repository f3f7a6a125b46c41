"""Whether a Preprocess does what a library's own preprocessing does, found out on pictures."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.subjects.preprocess import EXAMPLE, Preprocess

SIZES = ((360, 480), (470, 330))
TOLERANCE = 0.02
"""Mean difference of pixels in [0, 1]: two filters, or a crop one pixel off, differ by 0.01; a crop of 95 % by 0.04."""


def check_same(preprocess: Preprocess, theirs: Callable[[Image.Image], Tensor], name: str) -> Preprocess:
    """The preprocessing, if its inputs are those of a library's own function, up to filters and rounding.

    Settings of libraries are many and change; what they come to on a smooth coloured picture, wide and tall, cannot mislead.

    Raises:
        CardgenError: they are others.
    """
    for picture in map(_smooth, SIZES):
        expected = theirs(picture).float()
        found = preprocess.normalised(torch.from_numpy(preprocess.image(picture))[None])[0]
        std = torch.tensor(preprocess.std)[:, None, None]
        if expected.shape != found.shape or float(((expected - found) * std).abs().mean()) > TOLERANCE:
            raise CardgenError(
                f"{name} prepares pictures in a way of its own; expected resize, centre crop and normalisation "
                f"({preprocess.text}); say what comes nearest with {EXAMPLE}"
            )
    return preprocess


def _smooth(size: tuple[int, int]) -> Image.Image:
    """A picture of large soft patches, the same every time."""
    patches = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size[::-1], Image.Resampling.BICUBIC)
