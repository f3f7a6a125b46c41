"""How masking networks are trained: their loss for a classifier, from images and labels alone."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from cardgen.errors import CardgenError
from cardgen.forward import prepared
from cardgen.maskers import KINDS, Maps, Masker, SelectiveUNet
from cardgen.pyramid import features_and_logits
from cardgen.space import Space
from cardgen.subjects.masker_losses import backgrounds, phang_loss, real_time_loss

FAKES = 0.3
"""Share of the masks that are asked for a class that is not in the image."""
Loss = Callable[[nn.Module, Float[Tensor, "n c h w"], Int[Tensor, " n"]], Float[Tensor, ""]]


def masker_loss(kind: str, classifier: nn.Module, space: Space) -> Loss:
    """The mean loss of a batch, from a method's masking network, inputs in the classifier's own space, and labels.

    The classifier is in evaluation mode and frozen meanwhile, and given back as it was; its feature maps are computed anew, without
    their graph. Random draws (which masks are asked for another class and which, what pixels are hidden behind) come from torch's
    global generators, so whoever trains seeds those.

    Raises:
        CardgenError: no method of that name has a masking network.
    """
    losses: Mapping[str, Callable[..., Float[Tensor, " n"]]] = {
        "real_time_saliency": _real_time,
        "phang_masker": _phang,
    }
    if kind not in losses:
        raise CardgenError(f"masking network; expected one of {', '.join(KINDS)}, got {kind}; choose one of these")
    terms = losses[kind]

    def loss(masker: nn.Module, inputs: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        assert isinstance(masker, KINDS[kind])
        with prepared(classifier):
            return terms(masker, classifier, space, inputs, labels).mean()

    return loss


def _real_time(
    masker: SelectiveUNet,
    classifier: nn.Module,
    space: Space,
    inputs: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """The loss of the mask, asked for the label or for another class, and that of the class vectors.

    The authors train the vectors first and the decoder after; here both learn at once, each by its own loss, as the mask's gradient
    does not reach the vectors.
    """
    features, clean = features_and_logits(classifier, inputs, masker.layers)
    others = another(labels, clean.shape[1])
    fake = (torch.rand(len(labels), device=inputs.device) < FAKES) & (others != labels)
    targets = torch.where(fake, others, labels)
    masks = masker(features, targets, tuple(inputs.shape[2:])).float()
    explained = real_time_loss(classifier, inputs, backgrounds(inputs, space), masks, labels, fake)
    return explained + selection_loss(masker, features, labels, others)


def selection_loss(
    masker: SelectiveUNet, features: Maps, labels: Int[Tensor, " n"], others: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Cross-entropy of a class's being in the image, by its class vector: the mean of that of the label and of one that is not."""
    there, absent = (masker.evidence(features, classes).flatten(1).mean(1) for classes in (labels, others))
    return (softplus(-there) + softplus(absent)) / 2


def _phang(
    masker: Masker,
    classifier: nn.Module,
    space: Space,
    inputs: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """The loss of the mask. Pixels are hidden behind the mean colour, which the authors found to do as well as inpainting."""
    features, clean = features_and_logits(classifier, inputs, masker.layers)
    masks = masker(features, labels, tuple(inputs.shape[2:])).float()
    hidden = space.colour("mean", inputs).expand_as(inputs)
    return phang_loss(classifier, inputs, hidden, masks, labels, clean)


def another(labels: Int[Tensor, " n"], classes: int) -> Int[Tensor, " n"]:
    """A class other than each label, all alike; the label itself where there is but one."""
    steps = torch.rand(len(labels), device=labels.device) * (classes - 1)
    return (labels + 1 + steps.long()) % classes
