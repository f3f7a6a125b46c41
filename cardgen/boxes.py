"""Boxes around the most salient pixels, and images cropped to them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def tightest(order: Int[Tensor, "n p"], kept: Int[Tensor, "n k"], width: int) -> Int[Tensor, "n k 4"]:
    """First and last row, first and last column of the tightest box around the first `kept` pixels of an order."""
    rows, columns, last = order // width, order % width, kept - 1
    ends = [rows.cummin(1)[0], rows.cummax(1)[0], columns.cummin(1)[0], columns.cummax(1)[0]]
    return torch.stack([end.gather(1, last) for end in ends], dim=2)


def share(boxes: Int[Tensor, "n k 4"], pixels: int) -> Float[Tensor, "n k"]:
    """The boxes' areas as shares of the image."""
    top, bottom, left, right = boxes.double().unbind(2)
    found: Tensor = (bottom - top + 1) * (right - left + 1) / pixels
    return found


def moved(boxes: Int[Tensor, "n k 4"], where: Float[Tensor, "n k 2"], height: int, width: int) -> Int[Tensor, "n k 4"]:
    """Boxes of the same sizes elsewhere: the numbers `where` in [0, 1) choose among all rows and columns at which each fits."""
    tall, wide = boxes[:, :, 1] - boxes[:, :, 0], boxes[:, :, 3] - boxes[:, :, 2]
    top = (where[:, :, 0] * (height - tall)).long()
    left = (where[:, :, 1] * (width - wide)).long()
    return torch.stack([top, top + tall, left, left + wide], dim=2)


def cropped(image: Float[Tensor, "c h w"], boxes: Int[Tensor, "k 4"]) -> Float[Tensor, "k c h w"]:
    """The image inside each box, resized bilinearly to the size of the whole; nothing of what is outside comes in.

    The same as `interpolate(crop, size, mode="bilinear", align_corners=False)`, for all boxes at once.
    """
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    ends = boxes.to(image.dtype)
    ys = _places(ends[:, 0, None], ends[:, 1, None], image.shape[1])
    xs = _places(ends[:, 2, None], ends[:, 3, None], image.shape[2])
    grid = torch.stack([xs[:, None, :].expand(-1, ys.shape[1], -1), ys[:, :, None].expand(-1, -1, xs.shape[1])], dim=3)
    return F.grid_sample(image.expand(len(boxes), -1, -1, -1), grid, padding_mode="border", align_corners=False)


def _places(first: Float[Tensor, "k 1"], last: Float[Tensor, "k 1"], size: int) -> Float[Tensor, "k size"]:
    """Where the centres of the resized pixels lie, from −1 to 1 over the whole image."""
    centres = (torch.arange(size, dtype=first.dtype, device=first.device) + 0.5) / size
    places = first + centres * (last - first + 1) - 0.5
    return (2 * torch.minimum(torch.maximum(places, first), last) + 1) / size - 1
