"""The saliency metric of Dabkowski & Gal 2017: box by box, pixel by pixel."""

import math

import torch

from reference.curves import descending
from reference.network import exact, logits


def tightest(pixels):
    """First and last row, first and last column of the pixels."""
    rows, columns = [i for i, _ in pixels], [j for _, j in pixels]
    return min(rows), max(rows), min(columns), max(columns)


def value(image, channel, y, x, box):
    """Bilinear at (y, x), from the pixels in the box alone."""
    top, bottom, left, right = box
    y, x = min(max(y, top), bottom), min(max(x, left), right)
    i, j = math.floor(y), math.floor(x)
    below, beside = min(i + 1, bottom), min(j + 1, right)
    pick = lambda a, b: float(image[channel, a, b])  # noqa: E731
    upper = (1 - (x - j)) * pick(i, j) + (x - j) * pick(i, beside)
    lower = (1 - (x - j)) * pick(below, j) + (x - j) * pick(below, beside)
    return (1 - (y - i)) * upper + (y - i) * lower


def crop(image, box):
    """The box, stretched to the image's size."""
    c, h, w = image.shape
    top, bottom, left, right = box
    out = torch.zeros(c, h, w, dtype=torch.float64)
    for channel in range(c):
        for i in range(h):
            for j in range(w):
                y = top + (i + 0.5) * (bottom - top + 1) / h - 0.5
                x = left + (j + 0.5) * (right - left + 1) / w - 0.5
                out[channel, i, j] = value(image, channel, y, x, box)
    return out


def score(model, image, target, box, smallest=0.05):
    """log(max(area, 0.05)) − log p."""
    _, h, w = image.shape
    top, bottom, left, right = box
    area = (bottom - top + 1) * (right - left + 1) / (h * w)
    scores = logits(exact(model), crop(image, box))
    log_p = scores[target] - max(scores) - math.log(sum(math.exp(s - max(scores)) for s in scores))
    return math.log(max(area, smallest)) - log_p


def scores(model, image, target, saliency, shares):
    """Of the boxes around each share of most salient pixels, at least one of them."""
    order, model = descending(saliency), exact(model)
    counts = [max(1, round(share * len(order))) for share in shares]
    return [score(model, image, target, tightest(order[:count])) for count in counts]


def above_mean(model, image, target, saliency):
    """Of the box around all pixels above the map's mean."""
    mean = sum(float(v) for v in saliency.flatten()) / saliency.numel()
    h, w = saliency.shape
    pixels = [(i, j) for i in range(h) for j in range(w) if float(saliency[i, j]) > mean]
    return score(model, image, target, tightest(pixels))
