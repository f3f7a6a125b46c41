"""Regions of an image that go alone or one after the other, and sufficient sets: pixel by pixel, one forward pass after the other."""

import itertools

from reference import curves, maps
from reference.network import probability


def bands(length, parts):
    """The first pixel of each of `parts` bands of a side, and its end: ⌈b · length / parts⌉."""
    return [-(-b * length // parts) for b in range(parts + 1)]


def grid(height, width, parts):
    """The pixels (row, column) of each region, row by row."""
    rows, columns = bands(height, parts), bands(width, parts)
    return [
        [(i, j) for i in range(rows[a], rows[a + 1]) for j in range(columns[b], columns[b + 1])]
        for a in range(parts)
        for b in range(parts)
    ]


def squares(height, width, side):
    """The pixels of each whole square of a lattice in the middle of the image, row by row."""
    top, left = height % side // 2, width % side // 2
    return [
        [(top + side * a + i, left + side * b + j) for i in range(side) for j in range(side)]
        for a in range(height // side)
        for b in range(width // side)
    ]


def replaced(image, region, background):
    """The image with the background in a region."""
    shown = image.clone()
    for i, j in region:
        shown[:, i, j] = background[:, i, j]
    return shown


def total(saliency, region):
    """The saliency summed over a region."""
    return sum(float(saliency[p]) for p in region)


def drops(model, image, target, regions, background):
    """f_c(x) − f_c(x without one region), for each region."""
    whole = probability(model, image, target)
    return [whole - probability(model, replaced(image, region, background), target) for region in regions]


def faithfulness(model, image, target, saliency, background, parts=8):
    """Alvarez-Melis & Jaakkola 2018, section 5.2, on regions: Pearson's correlation of sums, as if all were of one size, with drops."""
    regions = grid(*saliency.shape, parts)
    return maps.pearson(
        [total(saliency, r) / len(r) for r in regions], drops(model, image, target, regions, background)
    )


def luminosity_calibration(model, image, target, saliency, background, parts=8):
    """The same of the ranks of means and drops; drops to the nearest ten-thousandth."""
    regions = grid(*saliency.shape, parts)
    fallen = [round(d / 1e-4) for d in drops(model, image, target, regions, background)]
    means = [total(saliency, r) / len(r) for r in regions]
    return maps.pearson(maps.ranks(means), maps.ranks(fallen))


def region_perturbation(model, image, target, saliency, background, steps=100, side=9):
    """1/(L+1) Σ_{k=0}^{L} f(x^0) − f(x^k): Samek et al. 2017, section III. Without ties."""
    regions = sorted(squares(*saliency.shape, side), key=lambda region: -total(saliency, region))[:steps]
    whole, shown, fallen = probability(model, image, target), image, [0.0]
    for region in regions:
        shown = replaced(shown, region, background)
        fallen.append(whole - probability(model, shown, target))
    return sum(fallen) / len(fallen)


def only(image, pixels, background):
    """The background with the image in some pixels."""
    return replaced(background, pixels, image)


def sufficient(model, image, target, saliency, background, steps=50, confidence=0.9):
    """The most salient pixels up to the first of equal steps at which they are enough."""
    order, whole = curves.descending(saliency), probability(model, image, target)
    for count in curves.counts(len(order), steps):
        if probability(model, only(image, order[:count], background), target) >= confidence * whole:
            return order[:count]
    return order


def sufficiency(model, image, target, saliency, background, steps=50, confidence=0.9):
    """The set's share of the pixels."""
    return len(sufficient(model, image, target, saliency, background, steps, confidence)) / saliency.numel()


def left(model, image, target, saliency, background, steps=50, confidence=0.9):
    """The sufficient set, and what stays of it when its groups go for good wherever enough is left, the least salient first."""
    chosen = sufficient(model, image, target, saliency, background, steps, confidence)
    whole, kept = probability(model, image, target), list(chosen)
    edges = curves.counts(len(chosen), steps)
    for start, stop in reversed(list(itertools.pairwise(edges))):
        rest = [pixel for pixel in kept if pixel not in chosen[start:stop]]
        if probability(model, only(image, rest, background), target) >= confidence * whole:
            kept = rest
    return chosen, kept
