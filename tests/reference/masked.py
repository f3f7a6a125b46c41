"""The map as a soft mask: Chattopadhyay et al. 2018 and Jung & Oh 2021, pixel by pixel."""

import torch

from reference.network import exact, probability


def normalised(saliency):
    """(A − min) / (max − min) of one map."""
    values = [float(v) for v in saliency.flatten()]
    low, high = min(values), max(values)
    return [[(float(v) - low) / (high - low) for v in row] for row in saliency]


def shown(image, mask, colour):
    """Each channel of each pixel: the mask's share of the image, the rest of the colour."""
    out = torch.zeros_like(image, dtype=torch.float64)
    for channel in range(image.shape[0]):
        for i, row in enumerate(mask):
            for j, m in enumerate(row):
                out[channel, i, j] = m * float(image[channel, i, j]) + (1 - m) * colour
    return out


def inverse(mask):
    """1 − m."""
    return [[1 - m for m in row] for row in mask]


def before_and_after(model, image, target, mask, colour):
    """f_c of the image and of the masked one."""
    model = exact(model)
    return probability(model, image, target), probability(model, shown(image, mask, colour), target)


def average_drop(model, image, target, saliency, colour=0.0):
    """max(0, Y − O) / Y, Y the confidence in the image and O in the masked one; the term of one image, not in per cent."""
    y, o = before_and_after(model, image, target, normalised(saliency), colour)
    return max(0.0, y - o) / y


def increase_in_confidence(model, image, target, saliency, colour=0.0):
    """1 where Y < O."""
    y, o = before_and_after(model, image, target, normalised(saliency), colour)
    return float(y < o)


def average_drop_deletion(model, image, target, saliency, colour=0.0):
    """(Y − D) / Y, D the confidence under the inverse of the mask."""
    y, d = before_and_after(model, image, target, inverse(normalised(saliency)), colour)
    return (y - d) / y
