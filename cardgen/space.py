"""The space a model's inputs live in, and what stands for "removed" there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cardgen.errors import CardgenError

BLUR_SIGMA = 5.0
BLUR_KERNEL = 11
COLOURS = ("mean", "zero", "black", "white", "grey")
PICTURES = ("blur", "random")
"""Substrates that differ from sample to sample: the image under a Gaussian, and uniform random values in each channel's range."""


@dataclass(frozen=True)
class Space:
    """Bounds and data mean of each channel, in the model's own units: what black, white and the mean are after normalisation.

    For an image in [0, 1] normalised as (image − m) / s these are low = −m / s, high = (1 − m) / s, and mean = 0 where m is the
    mean of the training data. One value stands for all channels. The default is an unnormalised image with a grey mean.
    """

    low: tuple[float, ...] = (0.0,)
    high: tuple[float, ...] = (1.0,)
    mean: tuple[float, ...] = (0.5,)

    @classmethod
    def normalised(cls, mean: Sequence[float], std: Sequence[float]) -> "Space":
        """The space of images in [0, 1] after (image − mean) / std."""
        low = tuple(-m / s for m, s in zip(mean, std, strict=True))
        high = tuple((1 - m) / s for m, s in zip(mean, std, strict=True))
        return cls(low, high, tuple(0.0 for _ in mean))

    def colour(self, name: str, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "c 1 1"]:
        """One of black, white, grey, mean, zero as a value a channel, on the device and in the dtype of `like`."""
        low, high, mean = (self._channels(value, like) for value in (self.low, self.high, self.mean))
        colours = {"black": low, "white": high, "grey": (low + high) / 2, "mean": mean, "zero": torch.zeros_like(low)}
        if name not in colours:
            raise CardgenError(f"no substrate is called {name!r}; expected one of {', '.join([*colours, 'blur'])}")
        return colours[name]

    def range(self, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "c 1 1"]:
        """high − low a channel."""
        return self.colour("white", like) - self.colour("black", like)

    def between(self, share: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Values at a share of the way from low to high, channel by channel."""
        return self.colour("black", share) + share * self.range(share)

    def check(self, inputs: Float[Tensor, "n c h w"]) -> None:
        """Refuse inputs that leave the space: substrates would then be wrong without a sign of it."""
        slack = 0.01 * self.range(inputs)
        low, high = self.colour("black", inputs), self.colour("white", inputs)
        if bool(((inputs < low - slack) | (inputs > high + slack)).any()):
            raise CardgenError(
                f"inputs reach from {float(inputs.min()):.3g} to {float(inputs.max()):.3g}; expected values between "
                f"{_text(self.low)} and {_text(self.high)}; pass space=cardgen.Space.normalised(mean, std) with the "
                f"normalisation that was applied to the images"
            )

    @staticmethod
    def _channels(value: tuple[float, ...], like: Float[Tensor, "n c h w"]) -> Float[Tensor, "c 1 1"]:
        channels = like.shape[1]
        if len(value) not in (1, channels):
            raise CardgenError(f"the space has {len(value)} channels; expected 1 or {channels}, as the inputs have")
        return torch.tensor(value, dtype=like.dtype, device=like.device).expand(channels)[:, None, None]


UNNORMALISED = Space()


def substrate(name: str, inputs: Float[Tensor, "n c h w"], space: Space) -> Float[Tensor, "n c h w"]:
    """What stands where pixels are removed: a colour of the space (black, white, grey, mean, zero), or the blurred image."""
    if name == "blur":
        return gaussian_blur(inputs)
    if name != "zero":
        space.check(inputs)
    return space.colour(name, inputs).expand_as(inputs)


def gaussian_blur(
    images: Float[Tensor, "n c h w"], sigma: float = BLUR_SIGMA, kernel: int = BLUR_KERNEL
) -> Float[Tensor, "n c h w"]:
    """Convolution with a Gaussian of standard deviation `sigma` pixels, cut to `kernel` taps, normalised.

    The image is mirrored about its outermost pixels.

    Raises:
        CardgenError: a side no longer than half the kernel, which cannot be mirrored.
    """
    pad = kernel // 2
    if min(images.shape[2:]) <= pad:
        raise CardgenError(
            f"images of {images.shape[2]} × {images.shape[3]} pixels are too small to blur; expected sides of at least {pad + 1}; "
            f"choose another substrate or baseline"
        )
    taps = torch.arange(kernel, dtype=images.dtype, device=images.device) - pad
    weights = torch.exp(-(taps**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    padded = F.pad(images, (pad, pad, pad, pad), mode="reflect")
    rows = _weighted(padded, weights, 2, images.shape[2])
    return _weighted(rows, weights, 3, images.shape[3])


def _weighted(padded: Tensor, weights: Tensor, axis: int, size: int) -> Tensor:
    """The sum of shifted copies along an axis, each times its tap: on CPUs a quarter of a grouped convolution's time."""
    total = padded.narrow(axis, 0, size) * weights[0]
    for shift in range(1, len(weights)):
        total += padded.narrow(axis, shift, size) * weights[shift]
    return total


def _text(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"
