"""Curves of a score as pixels go or come, pixel by pixel, step by step, and what is made of them.

Deletion and insertion: Petsiuk et al. 2018, section 4.1. Their correlations with saliency: Gomez et al. 2022. Most and least relevant
first: Ancona et al. 2017.
"""

import itertools
import math

import torch

from reference.network import exact, logits, probability


def counts(pixels, steps):
    """k·pixels/steps rounded half up, for k = 0 … steps."""
    return [(2 * k * pixels + steps) // (2 * steps) for k in range(steps + 1)]


def descending(saliency):
    """Pixels (row, column) from most to least salient; for maps without ties."""
    h, w = saliency.shape
    pixels = [(i, j) for i in range(h) for j in range(w)]
    return sorted(pixels, key=lambda p: -saliency[p].item())


def curve(model, image, target, order, background, steps, insert, read=None):
    """f_c, or what else is read, after each step: pixels of `order` taken from the background (deletion) or the image (insertion)."""
    start, other = (background, image) if insert else (image, background)
    model, values = exact(model), []
    for count in counts(len(order), steps):
        shown = start.clone()
        for i, j in order[:count]:
            shown[:, i, j] = other[:, i, j]
        values.append((read or probability)(model, shown, target))
    return values


def area(values, shares):
    """Σ (t_k − t_{k−1}) (y_k + y_{k−1}) / 2."""
    return sum((shares[k] - shares[k - 1]) * (values[k] + values[k - 1]) / 2 for k in range(1, len(values)))


def blur(image, sigma=5.0, kernel=11):
    """Each pixel's mean under a Gaussian window of 11 × 11 taps, the image mirrored about its outermost pixels."""
    c, h, w = image.shape
    radius = kernel // 2
    taps = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-radius, radius + 1)]
    total = sum(a * b for a in taps for b in taps)
    mirror = lambda k, size: -k if k < 0 else (2 * (size - 1) - k if k >= size else k)  # noqa: E731
    pixels = image.double().tolist()
    out = torch.zeros(c, h, w, dtype=torch.float64)
    for channel, i, j in itertools.product(range(c), range(h), range(w)):
        out[channel, i, j] = sum(
            taps[a + radius] * taps[b + radius] / total * pixels[channel][mirror(i + a, h)][mirror(j + b, w)]
            for a in range(-radius, radius + 1)
            for b in range(-radius, radius + 1)
        )
    return out


def score(model, image, target, order, background, steps=50, insert=False):
    """The area under the curve over the share of pixels changed."""
    values = curve(model, image, target, order, background, steps, insert)
    shares = [count / len(order) for count in counts(len(order), steps)]
    return area(values, shares)


def deletion(model, image, target, saliency, colour=0.5, steps=50):
    """Lower is better; removed pixels take one colour in all channels."""
    background = torch.full_like(image, colour)
    return score(model, image, target, descending(saliency), background, steps)


def insertion(model, image, target, saliency, steps=50):
    """Higher is better; pixels return into the blurred image."""
    return score(model, image, target, descending(saliency), blur(image).to(image), steps, insert=True)


def logit(model, image, target):
    """s_c."""
    return logits(model, image)[target]


def most_relevant_first(model, image, target, saliency, colour=0.0, steps=50):
    """Area under s_c as pixels become one colour, the largest values first."""
    order, background = descending(saliency), torch.full_like(image, colour)
    values = curve(model, image, target, order, background, steps, False, read=logit)
    return area(values, [count / len(order) for count in counts(len(order), steps)])


def least_relevant_first(model, image, target, saliency, colour=0.0, steps=50):
    """The same, the smallest values first; after step k as many pixels are left as the (steps − k)-th count."""
    order, background = descending(saliency)[::-1], torch.full_like(image, colour)
    gone = [len(order) - left for left in reversed(counts(len(order), steps))]
    values = []
    for count in gone:
        shown = image.clone()
        for i, j in order[:count]:
            shown[:, i, j] = background[:, i, j]
        values.append(logit(exact(model), shown, target))
    return area(values, [count / len(order) for count in gone])


def step_means(saliency, order, steps):
    """The mean saliency of the pixels that change at each step."""
    ends = counts(len(order), steps)
    pieces = [order[a:b] for a, b in itertools.pairwise(ends)]
    return [math.fsum(float(saliency[pixel]) for pixel in piece) / len(piece) for piece in pieces]


def pearson(a, b):
    """Σ (a − ā)(b − b̄) / √(Σ (a − ā)² Σ (b − b̄)²)."""
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    products = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return products / math.sqrt(math.fsum((x - mean_a) ** 2 for x in a) * math.fsum((y - mean_b) ** 2 for y in b))


def changes(values, insert):
    """f_c before a step less after it, or after less before where pixels come."""
    return [(b - a) if insert else (a - b) for a, b in itertools.pairwise(values)]


def deletion_correlation(model, image, target, saliency, colour=0.5, steps=50):
    """Higher is better: the drops of the deletion curve against the saliency of what was removed."""
    order, background = descending(saliency), torch.full_like(image, colour)
    values = curve(model, image, target, order, background, steps, False)
    return pearson(changes(values, False), step_means(saliency, order, steps))


def insertion_correlation(model, image, target, saliency, steps=50):
    """Higher is better: the rises of the insertion curve against the saliency of what was put back."""
    order, background = descending(saliency), blur(image).to(image)
    values = curve(model, image, target, order, background, steps, True)
    return pearson(changes(values, True), step_means(saliency, order, steps))
