"""Images cut into segments of like colour. A cut depends on the image alone, never on the model, and is made once an image."""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from skimage.segmentation import slic
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.forward import Write
from cardgen.space import Space

KEPT = 1024
"""Cuts that are remembered, the latest ones."""

Picture = Float[np.ndarray, "h w c"]
Cut = Callable[[Picture], Int[np.ndarray, "..."]]


def superpixels(inputs: Float[Tensor, "n c h w"], space: Space, segments: int) -> Int[Tensor, "n h w"]:
    """About `segments` superpixels an image, numbered from 0.

    SLIC with the compactness found for each superpixel (SLICO, of the same authors), so that a noisy image gets as many as a smooth one:
    at a fixed compactness of 10, 64 × 64 pixels of noise become a single segment. In Lab colours where there are three channels, in the
    channels themselves otherwise. Achanta, Shaji, Smith, Lucchi, Fua, Süsstrunk 2012.

    Raises:
        CardgenError: no segments are asked for.
    """
    if segments < 1:
        raise CardgenError(f"segments is {segments}; expected at least 1 superpixel; choose more")
    return cuts(inputs, space, ("slic", segments), partial(_slic, segments=segments))


def cuts(inputs: Float[Tensor, "n c h w"], space: Space, name: tuple[object, ...], cut: Cut) -> Int[Tensor, "n ..."]:
    """What `cut` makes of each image as people see it, in [0, 1]; made once for an image and a name. On the inputs' device."""
    values = inputs.float()
    seen = ((values - space.colour("black", values)) / space.range(values)).clamp(0, 1)
    found = []
    for picture in seen.permute(0, 2, 3, 1).cpu().double().numpy():
        slot = _slot(hashlib.sha256(picture.tobytes()).digest(), picture.shape, name)
        if not slot:
            slot.append(torch.from_numpy(cut(picture).astype(np.int32)))
        found.append(slot[0])
    return torch.stack(found).to(inputs.device).long()


def hiding(
    inputs: Float[Tensor, "n c h w"],
    hidden: Float[Tensor, "n c h w"],
    labels: Int[Tensor, "n h w"],
    present: Sequence[Bool[Tensor, "k _"]],
) -> Write:
    """Variants of each image, k an image, in which the segments that are not present show what is in `hidden`."""
    there = [rows.to(inputs.device) for rows in present]

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        torch.where(there[i][first:last, None, labels[i]], inputs[i], hidden[i], out=out)

    return write


def counts(labels: Int[Tensor, "n h w"]) -> list[int]:
    """How many segments each image has."""
    return [largest + 1 for largest in labels.flatten(1).amax(1).tolist()]


def painted(values: Sequence[Float[Tensor, " _"]], labels: Int[Tensor, "n h w"]) -> Float[Tensor, "n 1 h w"]:
    """Maps in which every pixel shows its segment's value."""
    shown = [value.float().to(labels.device)[of] for value, of in zip(values, labels, strict=True)]
    return torch.stack(shown)[:, None]


def _slic(picture: Picture, segments: int) -> Int[np.ndarray, "h w"]:
    found = slic(picture, segments, slic_zero=True, start_label=0, channel_axis=-1)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


@lru_cache(maxsize=KEPT)
def _slot(digest: bytes, shape: tuple[int, ...], name: tuple[object, ...]) -> list[Tensor]:
    """A place for the cut of one image, empty at first."""
    return []
