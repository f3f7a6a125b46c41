"""Methods that mask: one image at a time in float64, from the papers' formulas, with plain loops."""

import math
from pathlib import Path

import numpy as np
import skimage
import torch
from PIL import Image, ImageOps

from reference.methods import interpolation
from reference.network import exact, logits, probability


def composed(image, background, shown):
    """The image where `shown` [h, w] is 1, the background where it is 0."""
    return background.double() + shown.double() * (image.double() - background.double())


def log_odds(model, image, target):
    """log f_c − log(1 − f_c), from the logits."""
    scores = logits(model, image)
    others = [s for k, s in enumerate(scores) if k != target]
    most = max(others)
    return scores[target] - most - math.log(sum(math.exp(s - most) for s in others))


def back_select(model, image, target, background, regions, score=log_odds, tie=1e-4, turn=None):
    """Regions in the order in which they go: each time the one without which the score stays highest. Carter et al. 2019, algorithm 2.

    `regions` numbers the pixels' regions; of those within `tie` of the best the first in `turn` goes.
    """
    left, order = list(range(int(regions.max()) + 1)), []
    while left:
        values = {}
        for region in left:
            shown = torch.zeros(regions.shape)
            for other in left:
                if other != region:
                    shown[regions == other] = 1
            values[region] = score(model, composed(image, background, shown), target)
        best = max(values.values())
        tied = [region for region in left if values[region] >= best - tie]
        order.append(min(tied, key=turn.index) if turn else tied[0])
        left.remove(order[-1])
    return order


def find_sis(model, image, target, background, regions, order, share=0.9):
    """The features removed last, added until f_c is enough. Carter et al. 2019, algorithm 3."""
    shown, found = torch.zeros(regions.shape), []
    bar = share * probability(model, image, target)
    for region in [None, *reversed(order)]:
        if region is not None:
            shown[regions == region] = 1
            found.append(region)
        if probability(model, composed(image, background, shown), target) >= bar:
            return found
    return found


def worth(regions, order, subset):
    """(Place in the order) / (number of features), and one more in the subset."""
    out = torch.zeros(regions.shape, dtype=torch.float64)
    for place, region in enumerate(order):
        out[regions == region] = (place + 1) / len(order) + (region in subset)
    return out


def gradient_back_select(model, image, target, background, removals):
    """Pixels in groups: those first whose mask has the smallest derivative of f_c. Carter et al. 2021, section 3.3.

    Returns the groups, each in order.
    """
    model, (h, w) = exact(model), image.shape[1:]
    shown, groups = torch.ones(h, w, dtype=torch.float64), []
    for step in range(removals):
        z = shown.clone().requires_grad_()
        f = model(composed(image, background, z)[None]).softmax(1)[0, target]
        (slope,) = torch.autograd.grad(f, z)
        still = [p for p in range(h * w) if shown.view(-1)[p] == 1]
        until = h * w * (step + 1) // removals - h * w * step // removals
        groups.append(sorted(still, key=lambda p: slope.view(-1)[p].item())[:until])
        for p in groups[-1]:
            shown.view(-1)[p] = 0
    return groups


class Adam:
    """Adam with its usual constants, from the paper's algorithm 1."""

    def __init__(self, rate):
        self.rate, self.time, self.mean, self.square = rate, 0, 0.0, 0.0

    def step(self, value, slope):
        self.time += 1
        self.mean = 0.9 * self.mean + 0.1 * slope
        self.square = 0.999 * self.square + 0.001 * slope**2
        mean, square = self.mean / (1 - 0.9**self.time), self.square / (1 - 0.999**self.time)
        return value - self.rate * mean / (square.sqrt() + 1e-8)


def neighbours(h, w):
    """Pairs of pixels above and beside each other."""
    down = [((i, j), (i + 1, j)) for i in range(h - 1) for j in range(w)]
    return down, [((i, j), (i, j + 1)) for i in range(h) for j in range(w - 1)]


def variation(mask, power):
    """Σ |m(p) − m(q)|^power over neighbours."""
    down, across = neighbours(*mask.shape)
    return sum((mask[p] - mask[q]).abs() ** power for p, q in [*down, *across])


def gaussian_enlarged(mask, h, w, sigma):
    """Each pixel the mean of all cells weighted by a Gaussian of their distance, lengths in shares of the sides."""

    def matrix(length, cells):
        rows = []
        for v in range(length):
            row = [math.exp(-(((v + 0.5) / length - (u + 0.5) / cells) ** 2) / (2 * sigma**2)) for u in range(cells)]
            rows.append([r / sum(row) for r in row])
        return torch.tensor(rows, dtype=torch.float64)

    return matrix(h, mask.shape[0]) @ mask @ matrix(w, mask.shape[1]).T


def moved(image, down, across):
    """The image whose pixel (i, j) is pixel (i + down, j + across) of the given one, or the nearest that there is."""
    h, w = image.shape[1:]
    out = torch.zeros_like(image)
    for i in range(h):
        for j in range(w):
            out[:, i, j] = image[:, min(max(i + down, 0), h - 1), min(max(j + across, 0), w - 1)]
    return out


def first_disc(model, image, target, background, cells, sigma=5 / 224, discs=16):
    """The smallest centred disc that takes away 99 % of what the background takes."""
    h, w = image.shape[1:]
    whole, bare = probability(model, image, target), probability(model, background, target)
    for k in range(1, discs + 1):
        mask = torch.ones(cells, dtype=torch.float64)
        for i in range(cells[0]):
            for j in range(cells[1]):
                y, x = (i + 0.5) / cells[0] - 0.5, (j + 0.5) / cells[1] - 0.5
                mask[i, j] = float(math.hypot(y, x) * math.sqrt(2) > k / discs)
        seen = composed(image, background, gaussian_enlarged(mask, h, w, sigma))
        if whole - probability(model, seen, target) >= 0.99 * (whole - bare):
            return mask
    return mask


def meaningful_perturbation(model, image, target, background, shifts, side=28, area=1e-4, tv=1e-2, start=None):
    """1 − the enlarged mask after one step of Adam a shift (down, across). Fong & Vedaldi 2017, equation 4."""
    model, (h, w), sigma = exact(model), image.shape[1:], 5 / 224
    cells = (min(side, h), min(side, w))
    mask = first_disc(model, image, target, background, cells) if start is None else start
    adam = Adam(0.1)
    for down, across in shifts:
        m = mask.clone().requires_grad_()
        seen = composed(moved(image, down, across), moved(background, down, across), gaussian_enlarged(m, h, w, sigma))
        loss = model(seen[None]).softmax(1)[0, target] + area * (1 - m).sum() + tv * variation(m, 3)
        mask = adam.step(mask, torch.autograd.grad(loss, m)[0]).clamp(0, 1)
    return 1 - gaussian_enlarged(mask, h, w, sigma)


def enlarged(mask, h, w):
    """Bilinear without aligned corners."""
    rows, columns = (torch.tensor(interpolation(n, size)) for n, size in zip(mask.shape, (h, w), strict=True))
    return rows @ mask @ columns.T


def background(files, channels, h, w, number, top, left, mirror):
    """A crop of a photograph that comes with scikit-image, cut to twice h × w; the numbers are shares, as drawn."""
    folder = Path(skimage.__file__).parent / "data"
    file = files[int(number * len(files))]
    picture = ImageOps.fit(Image.open(folder / file).convert("RGB"), (2 * w, 2 * h), Image.Resampling.BILINEAR)
    i, j = int(top * (h + 1)), int(left * (w + 1))
    crop = np.asarray(picture)[i : i + h, j : j + w]
    crop = crop[:, ::-1] if mirror < 0.5 else crop
    return torch.tensor(crop.copy()).permute(2, 0, 1).double()[[c % 3 for c in range(channels)]] / 255


def complete_sound_mask(model, image, target, backgrounds, scale=4, area=2e-5, tv=0.01):
    """σ(w), enlarged, after one step of Adam for each set of backgrounds. Gupta et al. 2022, section 4."""
    model, (h, w) = exact(model), image.shape[1:]
    weights, adam = torch.zeros(math.ceil(h / scale), math.ceil(w / scale), dtype=torch.float64), Adam(0.05)
    for behind in backgrounds:
        x = weights.clone().requires_grad_()
        mask = enlarged(1 / (1 + torch.exp(-x)), h, w)
        loss = area * mask.sum() + tv * variation(mask, 2)
        for picture in behind:
            f = model(composed(image, picture, mask)[None]).softmax(1)[0, target]
            loss = loss - torch.log(f) / len(behind)
        weights = adam.step(weights, torch.autograd.grad(loss, x)[0])
    return enlarged(1 / (1 + torch.exp(-weights)), h, w)


def bilateral(mask, image, edge=0.0225):
    """Half of the mean squared difference of neighbouring cells, and half of that of neighbouring pixels, weighted by e^(−(∇I / edge)²)."""
    h, w = image.shape[1:]
    large, total = enlarged(mask, h, w), 0
    for pairs in neighbours(*mask.shape):
        total = total + sum((mask[p] - mask[q]) ** 2 for p, q in pairs) / len(pairs)
    for pairs in neighbours(h, w):
        for p, q in pairs:
            step = ((image[:, p[0], p[1]] - image[:, q[0], q[1]]) ** 2).mean()
            total = total + torch.exp(-step / edge**2) * (large[p] - large[q]) ** 2 / len(pairs)
    return total / 2


def igos_plus_plus(model, image, target, baseline, noise, steps, side=28, area=1.0, tv=20.0):
    """1 − the product of the two masks, after one step of Nesterov's gradient descent an image of noise. Khorram et al. 2021, section 3."""
    model, image, baseline, (h, w) = exact(model), image.double(), baseline.double(), image.shape[1:]
    cells = (min(side, h), min(side, w))
    rate = cells[0] * cells[1] / (50 + 16 * tv)
    masks = [torch.ones(cells, dtype=torch.float64) for _ in range(2)]
    last = list(masks)
    for k, shift in enumerate(noise):
        deletes, inserts = (mask.clone().requires_grad_() for mask in masks)
        large, other = enlarged(deletes, h, w), enlarged(inserts, h, w)
        loss = 0
        for t in [(s + 1) / steps for s in range(steps)]:
            for mask in (large, large * other):
                loss = loss + model((composed(image, baseline, t * mask) + shift)[None]).softmax(1)[0, target] / steps
            for mask in (other, large * other):
                loss = loss - model((composed(baseline, image, t * mask) + shift)[None]).softmax(1)[0, target] / steps
        both = deletes * inserts
        loss = loss / 2 + area * (1 - both).abs().mean() + tv * bilateral(both, image)
        slopes = torch.autograd.grad(loss, (deletes, inserts))
        ahead = [mask - rate * slope for mask, slope in zip(masks, slopes, strict=True)]
        masks = [(a + k / (k + 3) * (a - b)).clamp(0, 1) for a, b in zip(ahead, last, strict=True)]
        last = ahead
    return 1 - enlarged(masks[0] * masks[1], h, w)
