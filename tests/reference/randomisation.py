"""Maps of a network against those of the same network with other weights."""

from reference.maps import spearman
from reference.methods import exact, gradient


def largest_gradient(model, image, target):
    """The map of vanilla gradients: max over channels of |∂s_c/∂x|."""
    return gradient(exact(model), image.double(), target).abs().amax(0)


def similarity(model, other, image, target):
    """Spearman correlation of one sample's maps from two networks; the class is the same."""
    return spearman(largest_gradient(model, image, target), largest_gradient(other, image, target))


def mean_similarity(model, others, image, target):
    """The mean over re-initialised networks."""
    return sum(similarity(model, other, image, target) for other in others) / len(others)
