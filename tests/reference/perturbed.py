"""Completeness, infidelity and maximum sensitivity from their papers: one sample, one perturbation, one value after the other."""

import math

import torch

from reference.network import exact, logits


def values(tensor):
    """All values, one after the other."""
    return [float(v) for v in tensor.double().flatten().tolist()]


def completeness(model, image, target, attributions, baseline):
    """|Σ A − (s_c(x) − s_c(x̄))| / |s_c(x) − s_c(x̄)|: Sundararajan et al. 2017, proposition 1."""
    difference = logits(model, image)[target] - logits(model, baseline)[target]
    return abs(math.fsum(values(attributions)) - difference) / abs(difference)


def drop(model, image, target, perturbation):
    """s_c(x) − s_c(x − I)."""
    model = exact(model)
    return logits(model, image)[target] - logits(model, image.double() - perturbation.double())[target]


def predicted(perturbation, phi):
    """Σ I Φ over channels and pixels; a Φ of one channel holds for all channels."""
    total = 0.0
    for channel in range(perturbation.shape[0]):
        own = phi[channel if phi.shape[0] > 1 else 0]
        total += math.fsum(i * p for i, p in zip(values(perturbation[channel]), values(own), strict=True))
    return total


def best(predictions, drops):
    """The b that minimises Σ (b p − y)²."""
    power = math.fsum(p * p for p in predictions)
    return math.fsum(p * y for p, y in zip(predictions, drops, strict=True)) / power if power else 0.0


def unexplained(predictions, drops):
    """Σ (b p − y)² / Σ y² over draws 1, 3, 5 …, with the b ≥ 0 that draws 0, 2, 4 … like best."""
    b = max(best(predictions[::2], drops[::2]), 0.0)
    rest = math.fsum((b * p - y) ** 2 for p, y in zip(predictions[1::2], drops[1::2], strict=True))
    return rest / math.fsum(y * y for y in drops[1::2])


def plain(predictions, drops):
    """The mean of (I·Φ − (s_c(x) − s_c(x − I)))²: Yeh et al. 2019, definition 2.1."""
    return math.fsum((p - y) ** 2 for p, y in zip(predictions, drops, strict=True)) / len(drops)


def fitted(predictions, drops):
    """The same after the best scaling on all draws, of either sign: the authors' code."""
    b = best(predictions, drops)
    return plain([b * p for p in predictions], drops)


def infidelity(model, image, target, phi, kinds):
    """The mean over kinds of perturbation of what stays unexplained; `kinds` holds a list of perturbations each."""
    found = []
    for perturbations in kinds:
        drops = [drop(model, image, target, one) for one in perturbations]
        found.append(unexplained([predicted(one, phi) for one in perturbations], drops))
    return sum(found) / len(found)


def matched(phi, saliency, noise):
    """Φ with its pixels moved: where the noise is k-th largest goes the pixel where the map is k-th largest. Without ties."""
    h, w = saliency.shape
    places = [(i, j) for i in range(h) for j in range(w)]
    mine = sorted(places, key=lambda p: -float(saliency[p]))
    its = sorted(places, key=lambda p: -float(noise[p]))
    found = torch.zeros_like(phi)
    for (a, b), (i, j) in zip(mine, its, strict=True):
        found[:, i, j] = phi[:, a, b]
    return found


def sensitivity(before, after):
    """max over draws of ‖A(x + δ) − A(x)‖₂ / ‖A(x)‖₂: Yeh et al. 2019, definition 3.1 and section 5."""
    norm = math.sqrt(math.fsum(v * v for v in values(before)))
    moved = [
        math.sqrt(math.fsum((u - v) ** 2 for u, v in zip(values(one), values(before), strict=True))) for one in after
    ]
    return max(moved) / norm


def lipschitz(image, before, draws, width=1.0):
    """max over draws that keep the prediction of ‖A(x') − A(x)‖₂ / ‖A(x)‖₂ / ‖x' − x‖₂: Alvarez-Melis & Jaakkola 2018, equation 2.

    Draws are (x', A(x'), whether the prediction is kept); lengths of x are in units of `width`. None where none is kept.
    """
    found = []
    for moved, after, kept in draws:
        if kept:
            steps = [(u - v) / width for u, v in zip(values(moved), values(image), strict=True)]
            found.append(sensitivity(before, [after]) / math.sqrt(math.fsum(s * s for s in steps)))
    return max(found) if found else None


def ascent(image, corners, radius, explain, slope):
    """The largest relative change that corners and gradient steps in turn find, value by value, in [0, 1].

    `explain` gives A(x), one value for each of x; `slope` gives ∂A_i/∂x_i of such a method.
    """
    x, before = values(image), values(explain(image))
    best, point, reach = 0.0, x, 1.0
    for k, corner in enumerate(corners):
        candidate, climbs = values(corner), False
        if k % 2:
            here = torch.tensor(point, dtype=torch.float64).view(image.shape)
            away = [a - b for a, b in zip(values(explain(here)), before, strict=True)]
            uphill = [a * s for a, s in zip(away, values(slope(here)), strict=True)]
            climbs = any(uphill)
            if climbs:
                least = 1e-4 * max(map(abs, uphill))
                signs = [math.copysign(1, u) if abs(u) > least else 0.0 for u in uphill]
                steps = [p - v + 2 * reach * radius * s for p, v, s in zip(point, x, signs, strict=True)]
                kept = [min(max(s, -radius), radius) for s in steps]
                candidate = [min(max(v + s, 0.0), 1.0) for v, s in zip(x, kept, strict=True)]
        there = torch.tensor(candidate, dtype=torch.float64).view(image.shape)
        change = sensitivity(explain(image), [explain(there)])
        if change > best:
            best, point = change, candidate
        elif climbs:
            reach /= 2
    return best
