"""Worst-case completeness and soundness, Gupta et al. 2022, equation 1 and definition 3.7: label by label, step by step."""

import torch

from reference.curves import counts, descending
from reference.network import exact, probability


def kept(model, image, label, saliency, colour, steps):
    """g_AUC: the mean of f_a over s = step, 2 step, …, all pixels; the s most salient ones are kept, the rest is of one colour."""
    order, values = descending(saliency), []
    for count in counts(len(order), steps)[1:]:
        shown = torch.full_like(image, colour)
        for i, j in order[:count]:
            shown[:, i, j] = image[:, i, j]
        values.append(probability(model, shown, label))
    return sum(values) / len(values)


def completeness(model, image, maps, colour=0.5, steps=50, least=0.01):
    """min over labels a with f_a ≥ ε₁ of min{max(g_AUC, ε₁) / f_a, 1}; `maps` holds the map of each label."""
    model, ratios = exact(model), []
    for label, saliency in maps.items():
        clean = probability(model, image, label)
        if clean >= least:
            ratios.append(min(max(kept(model, image, label, saliency, colour, steps), least) / clean, 1))
    return min(ratios)


def soundness(model, image, maps, colour=0.5, steps=50, floor=0.001, over=min):
    """min over labels a of min{max(f_a, ε₂) / g_AUC, 1}."""
    model, ratios = exact(model), []
    for label, saliency in maps.items():
        clean = probability(model, image, label)
        ratios.append(min(max(clean, floor) / kept(model, image, label, saliency, colour, steps), 1))
    return over(ratios)
