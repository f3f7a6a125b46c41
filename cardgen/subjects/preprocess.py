"""From a picture to what a model takes: resize, centre crop, channels, normalisation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.registry import unknown
from cardgen.space import Space

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
PRESETS: Mapping[str, Mapping[str, str]] = {
    "imagenet": {"resize": "256", "crop": "224", "mean": "0.485/0.456/0.406", "std": "0.229/0.224/0.225"},
    "unit": {},
}
KEYS = ("resize", "crop", "size", "mean", "std", "interpolation")
EXAMPLE = "--preprocess imagenet, or --preprocess size=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"
LONGEST = 16_384
MOST_PIXELS = 100_000_000

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Preprocess:
    """The steps between a picture and a model's inputs, in this order.

    Attributes:
        crop: height and width of what the model takes, cut from the centre.
        resize: before that, (s,): the shorter side becomes s; (h, w): both sides, whatever the picture's proportions; None: the
            picture keeps its size, unless the crop is larger, then it is enlarged until it just covers the crop.
        mean: a channel, of images in [0, 1]; one number for grey pictures, three for colour.
        std: a channel, like the mean.
        interpolation: Pillow's filter, antialiased when shrinking.

    Sizes and rounding are those of torchvision's `Resize` and `CenterCrop`, so with the numbers of torchvision's weights the
    inputs are theirs bit for bit.

    Raises:
        CardgenError: numbers that are no preprocessing: a crop larger than the resized picture, means of images in 0…255.
    """

    crop: tuple[int, int]
    resize: tuple[int, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise CardgenError(unknown("interpolation", self.interpolation, list(INTERPOLATIONS)))
        _check_sizes(self.crop, self.resize)
        _check_normalisation(self.mean, self.std)

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for colour."""
        return len(self.mean)

    @property
    def space(self) -> Space:
        """Bounds and mean of the inputs; a mean of 0 says nothing of the data, whose mean is then taken to be mid-grey."""
        space = Space.normalised(self.mean, self.std)
        return space if any(self.mean) else replace(space, mean=tuple(high / 2 for high in space.high))

    @property
    def text(self) -> str:
        """All settings in one line, which `parse_preprocess` reads back."""
        resize = "" if self.resize is None else f"resize={_times(self.resize)},"
        return (
            f"{resize}crop={_times(self.crop)},mean={_slashed(self.mean)},std={_slashed(self.std)},"
            f"interpolation={self.interpolation}"
        )

    def image(self, picture: Image.Image) -> UInt8[np.ndarray, "c h w"]:
        """The pixels that the model sees of a picture, as people see them: after resize and crop, before normalisation.

        Raises:
            CardgenError: a picture so long and narrow that resizing its shorter side would fill the memory.
        """
        shown = picture.convert("RGB" if self.channels == 3 else "L")
        pixels = np.asarray(self._cut(shown, Image.Resampling[self.interpolation.upper()]))
        return np.ascontiguousarray(pixels.reshape(*self.crop, self.channels).transpose(2, 0, 1))

    def mask(self, picture: Image.Image) -> Bool[np.ndarray, "h w"]:
        """The same pixels of a mask, nearest neighbours, true where any channel but alpha is not 0."""
        values = np.asarray(picture)
        colours = values.reshape(*values.shape[:2], -1)[..., : 1 if picture.mode == "LA" else 3]
        object_ = Image.fromarray((colours != 0).any(-1).astype(np.uint8))
        return np.asarray(self._cut(object_, Image.Resampling.NEAREST)) > 0

    def normalised(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """(images / 255 − mean) / std a channel, float32."""
        mean, std = (torch.tensor(of, dtype=torch.float32, device=images.device) for of in (self.mean, self.std))
        return images.float().div_(255).sub_(mean[:, None, None]).div_(std[:, None, None])

    def _cut(self, picture: Image.Image, interpolation: Image.Resampling) -> Image.Image:
        height, width = self._resized(picture.height, picture.width)
        if height * width > MOST_PIXELS:
            raise CardgenError(
                f"a picture of {picture.height} × {picture.width} pixels would become {height} × {width}; expected at most "
                f"{MOST_PIXELS} pixels; leave it out, or resize both sides (resize=HxW)"
            )
        if picture.size != (width, height):
            picture = picture.resize((width, height), interpolation)
        top, left = round((height - self.crop[0]) / 2), round((width - self.crop[1]) / 2)
        return picture.crop((left, top, left + self.crop[1], top + self.crop[0]))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture after resizing, before the crop."""
        if self.resize is None:
            scale = max(1.0, self.crop[0] / height, self.crop[1] / width)
            return max(self.crop[0], round(height * scale)), max(self.crop[1], round(width * scale))
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        (short,) = self.resize
        if width <= height:
            return int(short * height / width), short
        return short, int(short * width / height)


def _check_sizes(crop: tuple[int, int], resize: tuple[int, ...] | None) -> None:
    if resize is not None and len(resize) not in (1, 2):
        raise CardgenError(f"resize has {len(resize)} numbers; expected one (the shorter side) or two (height, width)")
    for side in (*crop, *(resize or ())):
        if not 1 <= side <= LONGEST:
            raise CardgenError(f"a side of {side} pixels; expected 1 to {LONGEST}; mend crop or resize")
    smallest = crop if resize is None else resize * 2 if len(resize) == 1 else resize
    if any(side < cut for side, cut in zip(smallest, crop, strict=True)):
        raise CardgenError(
            f"a crop of {_times(crop)} is larger than pictures resized to {_times(smallest[: len(resize or crop)])}; "
            f"expected a resize at least as large; mend crop or resize"
        )


def _check_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    if len(mean) != len(std) or len(mean) not in (1, 3):
        raise CardgenError(
            f"mean has {len(mean)} numbers and std {len(std)}; expected one each for grey pictures or three each for colour"
        )
    if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
        raise CardgenError(
            f"mean {_slashed(mean)} and std {_slashed(std)}; expected those of images in [0, 1], a std above 0; "
            f"divide by 255 what was taken of images in 0 to 255"
        )


def parse_preprocess(text: str) -> Preprocess:
    """What `--preprocess` says: `key=value` with commas between, after a preset's name if wanted.

    Keys: resize (256: the shorter side, 256x320: both), crop (224 or 224x320), size (64: resize and crop alike), mean and std
    (0.5/0.5/0.5; one number for grey pictures), interpolation. Presets: `imagenet` (shorter side to 256, crop of 224, ImageNet's
    mean and std) and `unit` (colour images in [0, 1], which is also meant where nothing is said), as in `unit,size=64`.

    Raises:
        CardgenError: unknown keys or presets, values that cannot be read, no size, or settings that do not fit together.
    """
    values = _spelled_out(text)
    sizes = {key: _numbers(key, values[key], "x", int, 2) for key in ("resize", "crop") if key in values}
    colours = {key: _numbers(key, values[key], "/", float, 3) for key in ("mean", "std") if key in values}
    if not sizes:
        raise CardgenError(f"preprocessing {text!r} names no size; expected size, crop or resize, such as size=224")
    crop = sizes.get("crop", sizes.get("resize", ()))
    channels = len(next(iter(colours.values()), (0, 0, 0)))
    return Preprocess(
        (crop[0], crop[-1]),
        sizes.get("resize"),
        colours.get("mean", (0.0,) * channels),
        colours.get("std", (1.0,) * channels),
        values.get("interpolation", "bilinear"),
    )


def _spelled_out(text: str) -> dict[str, str]:
    """Keys and values as written, with presets and `size` replaced by what they stand for."""
    parts = [part.strip() for part in text.split(",")]
    values: dict[str, str] = {}
    if "=" not in parts[0]:
        preset = parts.pop(0)
        if preset not in PRESETS:
            raise CardgenError(f"{unknown('preprocessing', preset, list(PRESETS))}; or write it out, such as {EXAMPLE}")
        values |= PRESETS[preset]
    for part in parts:
        key, _, value = (word.strip() for word in part.partition("="))
        if key not in KEYS:
            raise CardgenError(f"{unknown('preprocessing key', key, list(KEYS))}; in {text!r}")
        values |= {"resize": value, "crop": value} if key == "size" else {key: value}
    return values


def _numbers(key: str, text: str, between: str, kind: Callable[[str], Number], most: int) -> tuple[Number, ...]:
    """The numbers of a value such as 224x320 or 0.5/0.5/0.5."""
    try:
        found = tuple(kind(number) for number in text.split(between))
    except ValueError:
        found = ()
    if not 1 <= len(found) <= most:
        example = {"x": "224 or 224x320", "/": "0.5 or 0.485/0.456/0.406"}[between]
        raise CardgenError(f"{key}={text}; expected 1 to {most} numbers, such as {example}")
    return found


def _times(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


def _slashed(values: tuple[float, ...]) -> str:
    return "/".join(map(repr, values))
