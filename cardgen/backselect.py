"""Backward selection: features removed one group after another, and the few that alone keep the confidence."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cardgen.draws import generator
from cardgen.errors import CardgenError


def log_odds(scores: Float[Tensor, "m k"], targets: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
    """log f_c − log(1 − f_c) from logits, in float64; of a model with one output, whose f_c is 1 throughout, its logit.

    It orders as f_c does, and still tells apart what f_c, near 0 or 1, rounds to the same number.
    """
    scores, own = scores.double(), targets[:, None]
    if scores.shape[1] == 1:
        return scores[:, 0]
    return scores.gather(1, own)[:, 0] - scores.scatter(1, own, -torch.inf).logsumexp(1)


def confidence_of(scores: Float[Tensor, "m k"], targets: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
    """f_c from logits, in float64."""
    return scores.double().softmax(1).gather(1, targets[:, None])[:, 0]


@lru_cache(maxsize=8)
def shuffled(features: int) -> Int[Tensor, " p"]:
    """The order in which features go between which the model makes no difference: one for all samples, in no direction of the image."""
    return torch.randperm(features, generator=generator("backselect", features))


def smallest(values: Float[Tensor, "n p"], count: int) -> Int[Tensor, "n count"]:
    """Where the smallest values of each row are, the smallest first; equal values in their order. float32.

    By keys of which no two are equal, the value's bits before the place: a tenth of the time of a stable sort of all.
    """
    bits = (values + 0.0).view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32
    return (keys + torch.arange(values.shape[1], device=values.device)).topk(count, dim=1, largest=False).indices


def ranked(
    order: Int[Tensor, "n p"], left: Int[Tensor, " k"], confidences: Float[Tensor, "n k"], confidence: float
) -> Float[Tensor, "n p"]:
    """What each feature is worth: (place in the order of removal) / p, the last one 1, and 1 more in the sufficient subset.

    Args:
        order: features in the order in which they were removed.
        left: how many features were left, from all p down to none.
        confidences: f_c with these left.
        confidence: share of f_c with all features that is enough. The subset is the smallest with it: empty where f_c of the bare
            background has it.

    Raises:
        CardgenError: a confidence that is no share; or one of the model's that is no number.
    """
    if not bool(confidences.isfinite().all()):
        raise CardgenError(
            "the model returned NaN or infinities; expected finite logits, also where the image is hidden; mend the model"
        )
    if not 0 < confidence <= 1:
        raise CardgenError(
            f"a subset that keeps {confidence:g} of the confidence; expected a share above 0, up to 1; mend the parameter confidence"
        )
    features = order.shape[1]
    enough = confidences >= confidence * confidences[:, :1]
    size = torch.where(enough, left, features).amin(1, keepdim=True)
    place = torch.arange(features, device=order.device)
    worth = (place + 1) / features + (place >= features - size)
    return torch.zeros_like(worth).scatter(1, order, worth)
