"""XRAI: overlapping segments ranked by the integrated gradients that they hold, area for area."""

import warnings
from itertools import product
from math import sqrt

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from skimage.segmentation import felzenszwalb
from torch import Tensor, nn

from cardgen.methods import Context, method
from cardgen.methods.integrated_gradients import path_integral
from cardgen.records import Source
from cardgen.segments import Picture, cuts
from cardgen.space import Space

SIDE = 224
"""Side of the images for which the authors chose the settings below."""
SCALES = (50, 100, 150, 250, 500, 1200)
SIGMA = 0.8
SMALLEST, LEAST = 150, 50
"""Pixels of the smallest segment, and those that a region must add."""
RADIUS = 5


@method(
    key="xrai",
    title="XRAI",
    source=Source(
        paper="Kapishnikov et al. 2019", url="https://arxiv.org/abs/1906.02825", where="section 3 and algorithm 1"
    ),
    access="gradients",
    ranges={"steps": (20, 50, 200)},
    passes=lambda parameters: 4 * parameters["steps"],
)
def xrai(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context, *, steps: int = 50
) -> Float[Tensor, "n 1 h w"]:
    """At each pixel the mean attribution of the pixels that came into the mask with it, when regions are added greedily.

    Attributions are integrated gradients of s_c, averaged over two baselines, the image's lowest and highest value in every channel, and
    their maximum over channels. Regions are Felzenszwalb's segments at six scales, dilated; they overlap. The mask starts empty; the
    region whose pixels outside the mask have the highest mean attribution is added until none adds enough of them. Pixels left over
    get their own mean, so that a map sums to its attributions. Signed; units: logits. Kapishnikov, Bolukbasi, Viégas, Terry 2019.

    This is the full algorithm of paper and authors' code; the code's fast variant ranks once and overlooks overlaps. The paper ends with
    the masks' order; values are the code's, which also orders regions by them. They need not fall from one region to the next: what a
    region leaves outside the mask can be denser than what it shared. Gauss–Legendre nodes replace the code's Riemann sum of 100 steps.
    Lowest and highest values are those of the image as people see it, so that baselines are grey in normalised inputs too.

    The code enlarges each image to 224 × 224, cuts it, and shrinks the cuts. Here it is cut as it is, at 64 × 64 in about a thirtieth of
    the time, with settings that shrink with q = √(h·w)/224: scales 50, 100, 150, 250, 500, 1200 times q (a scale is a contrast times an
    area, and enlarging by 1/q makes contrasts of neighbours q times as large and areas 1/q² times), segments of at least 150 q² pixels,
    regions that add at least 50 q², dilated by a disk of radius 5 q. At q = 1 these are the authors'.

    Args:
        steps: quadrature nodes, for each of the two baselines.

    Raises:
        CardgenError: no quadrature nodes are asked for.
    """
    attributions = _attributions(model, inputs, targets, context, steps).flatten(1).cpu().double()
    relative = sqrt(inputs.shape[2] * inputs.shape[3]) / SIDE
    labels = label_maps(inputs, context.space).cpu()
    found = [
        ranked(values, _regions(of, round(RADIUS * relative)).flatten(1), max(1, round(LEAST * relative**2)))
        for values, of in zip(attributions, labels, strict=True)
    ]
    return torch.stack(found).float().to(inputs.device).view(-1, 1, *inputs.shape[2:])


def ranked(values: Float[Tensor, " p"], regions: Bool[Tensor, "r p"], least: int) -> Float[Tensor, " p"]:
    """The mean value of the pixels that came with each pixel; regions that add less than `least` pixels are not added."""
    found, left = torch.zeros_like(values), torch.ones_like(values, dtype=torch.bool)
    gains = torch.stack([values[region].sum() for region in regions])
    areas, members = regions.sum(1), regions.T.contiguous()
    while bool((areas >= least).any()):
        best = torch.where(areas >= least, gains / areas, -torch.inf).argmax()
        new = (regions[best] & left).nonzero()[:, 0]
        found[new] = values[new].mean()
        left[new] = False
        gains -= values[new] @ members[new].double()
        areas -= members[new].sum(0)
    found[left] = values[left].mean()
    return found


def label_maps(inputs: Float[Tensor, "n c h w"], space: Space) -> Int[Tensor, "n s h w"]:
    """Felzenszwalb's segments of each image, numbered from 0 at each scale."""
    return cuts(inputs, space, ("felzenszwalb",), _felzenszwalb)


def _attributions(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context, steps: int
) -> Float[Tensor, "n h w"]:
    shares = (inputs - context.space.colour("black", inputs)) / context.space.range(inputs)
    ends = (shares.amin((1, 2, 3), keepdim=True), shares.amax((1, 2, 3), keepdim=True))
    starts = [context.space.between(end.expand_as(inputs)) for end in ends]
    found = [path_integral(model, inputs, start, targets, steps, context.batch) for start in starts]
    return torch.stack(found).mean(0).amax(1)


def _felzenszwalb(picture: Picture) -> Int[np.ndarray, "s h w"]:
    """Segments at each scale of the picture, its values stretched to [−1, 1]."""
    relative = sqrt(picture.shape[0] * picture.shape[1]) / SIDE
    low, high = picture.min(), picture.max()
    stretched = 2 * (picture - low) / (high - low if high > low else 1) - 1
    smallest = max(1, round(SMALLEST * relative**2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got image with third dimension", RuntimeWarning)
        return np.stack([felzenszwalb(stretched, scale * relative, SIGMA, smallest) for scale in SCALES])


def _regions(labels: Int[Tensor, "s h w"], radius: int) -> Bool[Tensor, "r h w"]:
    """Every segment of every scale, with all pixels no further than `radius` from it."""
    height, width = labels.shape[1:]
    sizes = labels.flatten(1).amax(1) + 1
    numbers = labels + (sizes.cumsum(0) - sizes)[:, None, None]
    masks = torch.zeros(int(sizes.sum()), height, width, dtype=torch.bool)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    for down, right in product(range(-radius, radius + 1), repeat=2):
        if down**2 + right**2 <= radius**2:
            masks[numbers, (rows + down).clamp(0, height - 1), (columns + right).clamp(0, width - 1)] = True
    return masks
