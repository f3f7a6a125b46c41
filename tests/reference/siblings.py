"""Maps of a model against those of its siblings, in plain loops."""

import math

import numpy as np
import torch

from reference.maps import pixels, spearman
from reference.methods import exact, gradient

SIGMA, C1, C2 = 1.5, 0.01**2, 0.03**2


def normalised(saliency):
    """(A − min) / (max − min) of every pixel, row by row."""
    values = pixels(saliency)
    low, high = min(values), max(values)
    return [(v - low) / (high - low) for v in values]


def ssim(one, other):
    """The mean over every place of an 11 × 11 Gaussian window inside the map (9 × 9 where a side is 9 or 10). Wang et al. 2004."""
    h, w = one.shape
    radius = min(5, (min(h, w) - 1) // 2)
    a, b = ([normalised(m)[i * w : (i + 1) * w] for i in range(h)] for m in (one, other))
    places = [(i, j) for i in range(-radius, radius + 1) for j in range(-radius, radius + 1)]
    weights = [math.exp(-(i * i + j * j) / (2 * SIGMA**2)) for i, j in places]
    weights = [weight / sum(weights) for weight in weights]
    found = []
    for y in range(radius, h - radius):
        for x in range(radius, w - radius):
            p = [a[y + i][x + j] for i, j in places]
            q = [b[y + i][x + j] for i, j in places]
            mean_p, mean_q = (sum(k * v for k, v in zip(weights, values, strict=True)) for values in (p, q))
            var_p = sum(k * (v - mean_p) ** 2 for k, v in zip(weights, p, strict=True))
            var_q = sum(k * (v - mean_q) ** 2 for k, v in zip(weights, q, strict=True))
            both = sum(k * (u - mean_p) * (v - mean_q) for k, u, v in zip(weights, p, q, strict=True))
            luminance = (2 * mean_p * mean_q + C1) / (mean_p**2 + mean_q**2 + C1)
            found.append(luminance * (2 * both + C2) / (var_p + var_q + C2))
    return sum(found) / len(found)


def to_others(maps, i, similarity, count=5):
    """Mean similarity of map i to the next five, the first following on the last; flat ones left out."""
    others = [maps[(i + step) % len(maps)] for step in range(1, min(count, len(maps) - 1) + 1)]
    others = [other for other in others if len(set(pixels(other))) > 1]
    return sum(similarity(maps[i], other) for other in others) / len(others) if others else 0.0


def magnitudes(one, other):
    """Spearman's correlation of |A| and |A'|. Adebayo et al. 2018."""
    return spearman(one.abs(), other.abs())


def signed(model, image, target):
    """The map of input × gradient: Σ over channels of x ∂s_c/∂x."""
    return (image.double() * gradient(exact(model), image.double(), target)).sum(0)


def predicted(model, image):
    """The class of the largest logit."""
    scores = exact(model)(image.double()[None])[0].tolist()
    return scores.index(max(scores))


def contrast(one, other, mask):
    """Mean over the mask of A after (A − min)/(max − min), minus the same of the other model's map. Yang & Kim 2019, eq. of MCS."""
    inside = pixels(mask)
    difference = [p - q for p, q, hit in zip(normalised(one), normalised(other), inside, strict=True) if hit]
    return sum(difference) / len(difference)


def filled(values, noise):
    """The values put where the noise has its largest, second largest …; for noise without ties."""
    order = np.argsort(-np.array(pixels(noise)))
    found = np.empty(len(order))
    found[order] = sorted(values, reverse=True)
    return found


def matched_contrast(one, other, mask, noise):
    """The contrast of both maps' own values, both in the noise's order."""
    inside = np.array(pixels(mask), dtype=bool)
    return float((filled(normalised(one), noise) - filled(normalised(other), noise))[inside].mean())


def published(one, other, mask):
    """The contrast of BAM's own code: positive values, from their minimum to their 99th percentile, at most 1."""
    inside, found = np.array(pixels(mask), dtype=bool), []
    for saliency in (one, other):
        values = [max(v, 0.0) for v in pixels(saliency)]
        low, high = min(values), float(np.percentile(values, 99))
        found.append(np.array([min((v - low) / (high - low), 1.0) if high > low else 0.0 for v in values]))
    return float((found[0] - found[1])[inside].mean())


def linearity(attribution, model, other, image, target, a, b):
    """‖A of a f + b g − (a A_f + b A_g)‖ / (|a| ‖A_f‖ + |b| ‖A_g‖). `attribution` is of a function of one batch of images."""
    f, g = exact(model), exact(other)
    mine, its = (attribution(h, image.double(), target) for h in (f, g))
    both = attribution(lambda x: a * f(x) + b * g(x), image.double(), target)
    below = abs(a) * length(mine) + abs(b) * length(its)
    return length(both - (a * mine + b * its)) / below


def length(values):
    """√Σ v²."""
    return math.sqrt(sum(float(v) ** 2 for v in values.flatten()))


def squared_gradient(function, image, target):
    """(∂s_c/∂x)², which is not linear in s."""
    return gradient(function, image, target) ** 2


def plain_gradient(function, image, target):
    """∂s_c/∂x."""
    return gradient(function, image, target)


def tokens(vectors, words):
    """Embeddings [c, 1, words] of a text given as numbers of words."""
    return torch.stack([vectors[word] for word in words], dim=1)[:, None]
