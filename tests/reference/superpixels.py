"""Methods over segments of the image from their formulas, one image at a time in float64, for segments and variants that are given."""

import itertools
import math

import numpy as np
import torch

from reference import methods, network

WIDTH = 0.25


def hidden(image, background, labels, present):
    """The image, with the background wherever a pixel's segment is not present."""
    shown = image.double().clone()
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            if not present[int(labels[i, j])]:
                shown[:, i, j] = background[:, i, j].double()
    return shown


def mean_colours(image, labels):
    """Every segment in its own mean colour."""
    shown = image.double().clone()
    for segment in set(labels.flatten().tolist()):
        shown[:, labels == segment] = image.double()[:, labels == segment].mean(1, keepdim=True)
    return shown


def painted(values, labels):
    """At each pixel the value of its segment."""
    return torch.tensor([[values[int(segment)] for segment in row] for row in labels], dtype=torch.float64)


def nearness(present):
    """exp(−D²/(2·0.25²)), D the cosine distance between z and the vector of ones."""
    size = len(present)
    dot, norm = sum(map(float, present)), math.sqrt(sum(map(float, present)))
    distance = 1 - (dot / (norm * math.sqrt(size)) if norm else 0)
    return math.exp(-(distance**2) / (2 * WIDTH**2))


def lime(model, image, target, labels, rows, background, features):
    """The weights of K-LASSO on f_c of the variants, at their segments' pixels. Ribeiro et al. 2016, algorithm 1."""
    rows = [[bool(z) for z in row] for row in rows]
    scores = [network.probability(model, hidden(image, background, labels, row), target) for row in rows]
    return painted(k_lasso(rows, scores, features), labels)


def k_lasso(rows, scores, features):
    """Lasso for the choice of at most K columns, then weighted least squares with an intercept on these."""
    z, f = np.array(rows, dtype=float), np.array(scores)
    weights = np.array([nearness(row) for row in rows])
    kept = list(range(z.shape[1])) if features >= z.shape[1] else chosen(z, f, weights, features)
    design = np.hstack([np.ones((len(f), 1)), z[:, kept]])
    fit = np.linalg.solve(design.T @ (weights[:, None] * design), design.T @ (weights * f))
    found = np.zeros(z.shape[1])
    found[kept] = fit[1:]
    return found


def chosen(z, f, weights, features):
    """The columns in the lasso at the smallest of many penalties that keeps no more than K of them, by coordinate descent."""
    root = np.sqrt(weights)
    x = (z - np.average(z, axis=0, weights=weights)) * root[:, None]
    y = (f - np.average(f, weights=weights)) * root
    products, slopes = x.T @ x, x.T @ y
    best, b = [], np.zeros(z.shape[1])
    for penalty in np.geomspace(1, 1e-3, 1000) * np.abs(slopes).max():
        moved = 1.0
        while moved > 1e-9 * np.abs(slopes).max():
            moved = 0.0
            for j in range(len(b)):
                slope = slopes[j] - products[j] @ b + products[j, j] * b[j]
                new = np.sign(slope) * max(abs(slope) - penalty, 0) / products[j, j]
                moved, b[j] = max(moved, abs(new - b[j])), new
        if np.count_nonzero(b) <= features:
            best = list(np.flatnonzero(b))
        if np.count_nonzero(b) > features + 1:
            break
    return best


def logit(model, image, target):
    """s_c."""
    return network.logits(model, image)[target]


def shapley(model, image, target, labels, background):
    """φ_j = Σ_S |S|! (M − |S| − 1)! / M! (v(S ∪ j) − v(S)) over all coalitions S without j, v the logit. Shapley 1953."""
    size = int(labels.max()) + 1
    value = {
        row: logit(model, hidden(image, background, labels, row), target)
        for row in itertools.product((False, True), repeat=size)
    }
    found = np.zeros(size)
    for j in range(size):
        for row in value:
            if not row[j]:
                s = sum(row)
                share = math.factorial(s) * math.factorial(size - s - 1) / math.factorial(size)
                found[j] += share * (value[(*row[:j], True, *row[j + 1 :])] - value[row])
    return found


def kernel_shap(model, image, target, labels, rows, background):
    """argmin_φ Σ_z (v(z) − v(∅) − φ·z)² under Σ φ = v(all) − v(∅), by a Lagrange multiplier; rows are drawn by their weight."""
    size = int(labels.max()) + 1
    score = lambda row: logit(model, hidden(image, background, labels, row), target)  # noqa: E731
    full, empty = score([True] * size), score([False] * size)
    matrix, right = np.zeros((size + 1, size + 1)), np.zeros(size + 1)
    for row in rows:
        z = np.array([float(present) for present in row])
        matrix[:size, :size] += 2 * np.outer(z, z)
        right[:size] += 2 * (score([bool(present) for present in row]) - empty) * z
    matrix[:size, size] = matrix[size, :size] = 1
    right[size] = full - empty
    return np.linalg.lstsq(matrix, right)[0][:size]


def spread(values, labels):
    """Each segment's value, divided by its number of pixels."""
    return painted([value / int((labels == j).sum()) for j, value in enumerate(values)], labels)


def xrai(model, image, target, scales, radius, least, steps):
    """Regions added greedily by the mean integrated gradient of the pixels that they bring. Kapishnikov et al. 2019, section 3.

    For images in [0, 1]. `scales` are label maps of one image; `radius` dilates their segments, `least` is the pixels that one must bring.
    """
    image = image.double()
    total = torch.zeros_like(image)
    for value in baselines(image):
        total += methods.integrated_gradients(model, image, target, torch.full_like(image, float(value)), steps) / 2
    return torch.from_numpy(greedy(over_channels(total).numpy(), regions(scales, radius), least))


def baselines(image):
    """Black and white: the image's lowest and highest value."""
    return [image.min(), image.max()]


def over_channels(attributions):
    """The highest value of any channel, signed."""
    return attributions.max(0).values


def regions(scales, radius):
    """Every segment of every label map as a set of pixels, with those within `radius`."""
    h, w = scales[0].shape
    around = [step for step in itertools.product(range(-radius, radius + 1), repeat=2) if math.hypot(*step) <= radius]
    found = []
    for labels in scales:
        members = [set() for _ in range(int(labels.max()) + 1)]
        for i, j in itertools.product(range(h), range(w)):
            members[int(labels[i, j])] |= {(i + y, j + x) for y, x in around if 0 <= i + y < h and 0 <= j + x < w}
        found += members
    return found


def greedy(attribution, candidates, least):
    """At each pixel the mean attribution of those that were added with it; what is left over gets its own."""
    mean = lambda some: sum(attribution[p] for p in some) / len(some)  # noqa: E731
    found, left = np.zeros_like(attribution), set(itertools.product(*map(range, attribution.shape)))
    while True:
        news = [new for new in (region & left for region in candidates) if len(new) >= least]
        if not news:
            break
        new = max(news, key=mean)
        for pixel in new:
            found[pixel] = mean(new)
        left -= new
    for pixel in left:
        found[pixel] = mean(left)
    return found
