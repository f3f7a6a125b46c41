"""Value-matched noise: the fair opponent of a metric that reads a map's values and not only their order.

Each member of the noise family lends its order, and the method's own values fill it: the pixel that the noise ranks k-th gets what the
pixel that the method ranks k-th has. The metric measures these maps itself; the rules
`vs_matched_noise` and `matched_noise` read their scores.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cardgen import draws
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.study import Study, Subject, descending

MATCHED = "matched/"
"""Begins the names of the parts of scores that hold those of value-matched noise, [draws, n]; the control's key follows, or,
where the metric makes a control of its own, its name."""


def family() -> list[str]:
    """Keys of the noise family's members."""
    return [key for key in METHODS if METHODS[key].entry.control == "noise"]


def require_draws(metric: str, noise_draws: int) -> None:
    """Refuse a metric without opponents.

    Raises:
        CardgenError: fewer than one draw of each member.
    """
    if noise_draws < 1:
        raise CardgenError(
            f"{metric} with {noise_draws} draws of noise; expected at least 1; raise the parameter noise_draws"
        )


def orders(subject: Subject, i: int, noise_draws: int) -> Int[Tensor, "orders p"]:
    """Sample i's pixels from most to least salient, for each draw of each member in turn."""
    pixels = subject.inputs.shape[2] * subject.inputs.shape[3]
    # the sample's own of Subject.ties, without those of all samples before it
    ties = draws.permutations(subject.ids[i : i + 1], pixels, subject.seed, "ties")[0].to(subject.inputs.device)
    found = []
    for key in family():
        for draw in range(noise_draws):
            study = Study(subject, i + 1, METHODS[key], METHODS[key].parameters({"draw": draw}))
            noise = study.explain(slice(i, i + 1)).flatten()
            found.append(ties[descending(noise[ties][None])[0]])
    return torch.stack(found)


def in_orders(
    values: Float[Tensor, "_ h w"], own: Int[Tensor, " p"], others: Int[Tensor, "orders p"]
) -> Float[Tensor, "orders+1 _ h w"]:
    """A sample's values as they are, then put into each of the other orders; `own` is the order of the method's map."""
    flat = values.flatten(1)
    ranked = flat[:, own]
    found = [flat, *(torch.empty_like(flat).index_copy_(1, other, ranked) for other in others)]
    return torch.stack(found).view(len(found), *values.shape)


def maps(study: Study, i: int, noise_draws: int) -> Float[Tensor, "maps h w"]:
    """Sample i's map, then value-matched noise."""
    own = study.upto(i + 1)
    return in_orders(own.maps()[i : i + 1], own.order()[i], orders(study.subject, i, noise_draws))[:, 0]


def parts(scores: Float[Tensor, "n orders"], noise_draws: int) -> Mapping[str, Float[np.ndarray, "draws n"]]:
    """The parts of Scores, from what the metric says of the value-matched noise of each sample."""
    grouped = scores.T.reshape(-1, noise_draws, len(scores)).double().cpu().numpy()
    return {f"{MATCHED}{key}": found for key, found in zip(family(), grouped, strict=True)}
