"""Figures that are read off maps alone: sparsity, pointing game, rank correlation. Plain loops in float64."""

import math


def pixels(saliency):
    """All values of a map, row by row."""
    return [float(v) for row in saliency.tolist() for v in row]


def sparsity(saliency):
    """max/mean after (A − min)/(max − min): Gomez et al. 2022, section 3.3."""
    values = pixels(saliency)
    low, high = min(values), max(values)
    normalised = [(v - low) / (high - low) for v in values]
    return max(normalised) / (sum(normalised) / len(normalised))


def pointing_game(saliency, mask, tolerance=15 / 224):
    """Share of the maxima that have a pixel of the mask within the tolerance (Euclidean, of the shorter side). Zhang et al. 2016."""
    h, w = saliency.shape
    top = max(pixels(saliency))
    hits = []
    for i in range(h):
        for j in range(w):
            if float(saliency[i, j]) == top:
                distances = [math.hypot(i - a, j - b) for a in range(h) for b in range(w) if mask[a, b]]
                hits.append(min(distances) <= tolerance * min(h, w))
    return sum(hits) / len(hits)


def complexity(saliency):
    """−Σ p log₂ p over the share p of each pixel in Σ|A|, divided by log₂ of the number of pixels: Nauta et al. 2023."""
    magnitudes = [abs(v) for v in pixels(saliency)]
    shares = [m / sum(magnitudes) for m in magnitudes]
    return sum(p * math.log2(1 / p) for p in shares if p) / math.log2(len(shares))


def average_precision(saliency, mask):
    """Σ (R_k − R_{k−1}) P_k over all values as thresholds, highest first, each counted out anew."""
    values, inside = pixels(saliency), [bool(v) for v in pixels(mask)]
    total, before = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = [hit for value, hit in zip(values, inside, strict=True) if value >= threshold]
        recall = sum(chosen) / sum(inside)
        total += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    return total


def ranks(values):
    """1 + number of smaller values + half the number of other equal ones."""
    return [1 + sum(u < v for u in values) + (sum(u == v for u in values) - 1) / 2 for v in values]


def pearson(a, b):
    """Σ(a−ā)(b−b̄) / √(Σ(a−ā)² Σ(b−b̄)²)."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return top / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def spearman(one, other):
    """Pearson's correlation of average ranks; a flat map with another: 0; two flat maps: 1."""
    a, b = pixels(one), pixels(other)
    flat_a, flat_b = len(set(a)) == 1, len(set(b)) == 1
    if flat_a or flat_b:
        return float(flat_a and flat_b)
    return pearson(ranks(a), ranks(b))


def relative_difference(one, other):
    """‖A_i − A_j‖₂ / ‖A_i‖₂."""
    a, b = pixels(one), pixels(other)
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / sum(x**2 for x in a))


def lowest_spearman(runs):
    """Over all pairs of runs of one sample."""
    return min(spearman(a, b) for i, a in enumerate(runs) for b in runs[i + 1 :])


def largest_difference(runs):
    """Over all pairs of runs of one sample, in either order."""
    return max(relative_difference(a, b) for a in runs for b in runs if a is not b)


def spectrum(saliency):
    """|F|² by frequency (u, v) in cycles a pixel, −½ < u, v ≤ ½, of the discrete Fourier transform summed pixel by pixel."""
    h, w = saliency.shape
    found = {}
    for k in range(h):
        for m in range(w):
            phases = [2 * math.pi * (k * i / h + m * j / w) for i in range(h) for j in range(w)]
            values = pixels(saliency)
            real = sum(v * math.cos(p) for v, p in zip(values, phases, strict=True))
            imaginary = sum(v * math.sin(p) for v, p in zip(values, phases, strict=True))
            u, v = (k if 2 * k <= h else k - h) / h, (m if 2 * m <= w else m - w) / w
            found[u, v] = real**2 + imaginary**2
    return found


def fine_share(saliency, bar=0.25, power=1, distance=math.hypot):
    """Share of the spectral energy, the mean's at (0, 0) left out, at frequencies above half of Nyquist's ½."""
    energy = {place: e**power for place, e in spectrum(saliency).items() if place != (0, 0)}
    return sum(e for (u, v), e in energy.items() if distance(u, v) > bar + 1e-9) / sum(energy.values())


def roc_auc(saliency, mask):
    """Over all pairs of a pixel inside and one outside: 1 where the former is larger, 1/2 where they are equal. Mann & Whitney 1947."""
    values, inside = pixels(saliency), [bool(v) for v in pixels(mask)]
    positive = [v for v, hit in zip(values, inside, strict=True) if hit]
    negative = [v for v, hit in zip(values, inside, strict=True) if not hit]
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in positive for b in negative)
    return wins / (len(positive) * len(negative))


def plausibility(saliency, mask):
    """Σ_mask max(A, 0) / Σ max(A, 0); the mask's share of the image where no value is positive. Ding & Koehn 2021, Arras et al. 2022."""
    positive, inside = [max(v, 0.0) for v in pixels(saliency)], [bool(v) for v in pixels(mask)]
    if not any(positive):
        return sum(inside) / len(inside)
    return sum(v for v, hit in zip(positive, inside, strict=True) if hit) / sum(positive)


def iou(chosen, mask):
    """|S ∩ M| / |S ∪ M| of two lists of booleans."""
    both = sum(a and b for a, b in zip(chosen, mask, strict=True))
    return both / sum(a or b for a, b in zip(chosen, mask, strict=True))


def iou_at_own_area(saliency, mask):
    """Of as many of the highest pixels as the mask has; for maps without ties. Saporta et al. 2022, at another threshold."""
    values, inside = pixels(saliency), [bool(v) for v in pixels(mask)]
    least = sorted(values, reverse=True)[sum(inside) - 1]
    return iou([v >= least for v in values], inside)


def otsu(levels):
    """The level t for which the variance between the groups ≤ t and > t is largest, each tried in turn: Otsu 1979."""
    best, found = -1.0, 0
    for t in range(256):
        low, high = [v for v in levels if v <= t], [v for v in levels if v > t]
        if not low or not high:
            continue
        distance = sum(high) / len(high) - sum(low) / len(low)
        between = len(low) * len(high) * distance**2
        if between > best * (1 + 1e-12):
            best, found = between, t
    return found


def iou_at_otsu(saliency, mask):
    """Of the pixels above Otsu's threshold of the map's 256 levels. Saporta et al. 2022."""
    values, inside = pixels(saliency), [bool(v) for v in pixels(mask)]
    low, high = min(values), max(values)
    levels = [int(255 * (v - low) / (high - low)) for v in values]
    return iou([level > otsu(levels) for level in levels], inside)
