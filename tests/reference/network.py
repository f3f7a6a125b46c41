"""One image at a time through a float64 copy of a network."""

import copy
import math

import torch


def exact(model):
    """A float64 copy in evaluation mode."""
    if all(p.dtype == torch.float64 for p in model.parameters()) and not model.training:
        return model
    return copy.deepcopy(model).double().eval()


def logits(model, image):
    """Scores of one image, as a list."""
    with torch.no_grad():
        return exact(model)(image.double()[None])[0].tolist()


def probability(model, image, target):
    """exp(s_c) / Σ exp(s_k), written out."""
    scores = logits(model, image)
    largest = max(scores)
    return math.exp(scores[target] - largest) / sum(math.exp(s - largest) for s in scores)
