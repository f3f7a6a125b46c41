"""Maps of a network against those of the same network with other weights."""

from reference.maps import spearman
from reference.methods import exact, gradient
from reference.network import probability


def largest_gradient(model, image, target):
    """The map of vanilla gradients: max over channels of |∂s_c/∂x|."""
    return gradient(exact(model), image.double(), target).abs().amax(0)


def similarity(model, other, image, target):
    """Spearman correlation of one sample's maps from two networks; the class is the same."""
    return spearman(largest_gradient(model, image, target), largest_gradient(other, image, target))


def mean_similarity(model, others, image, target):
    """The mean over re-initialised networks."""
    return sum(similarity(model, other, image, target) for other in others) / len(others)


def other_class(model, image, target):
    """The least likely class; if that is the target itself, the most likely other one."""
    classes = range(exact(model)(image.double()[None]).shape[1])
    chances = {c: probability(model, image, c) for c in classes}
    least = min(chances, key=chances.get)
    return least if least != target else max((c for c in classes if c != target), key=chances.get)


def target_similarity(model, image, target):
    """Spearman correlation of one sample's maps for the target and for the other class."""
    other = other_class(model, image, target)
    return spearman(largest_gradient(model, image, target), largest_gradient(model, image, other))


def moved(model, others, image, target):
    """Mean over redrawn networks of |f_c of the other − f_c|."""
    before = probability(model, image, target)
    return sum(abs(probability(other, image, target) - before) for other in others) / len(others)


def median_layer(model, others_of_layers, image, target, threshold=0.1):
    """Mean similarity at the median layer (the upper one of two) of those that move f_c by more than the threshold; None without.

    `others_of_layers` holds for each layer the networks with that layer alone drawn anew.
    """
    similarities = [
        mean_similarity(model, others, image, target)
        for others in others_of_layers
        if moved(model, others, image, target) > threshold
    ]
    return sorted(similarities)[len(similarities) // 2] if similarities else None
