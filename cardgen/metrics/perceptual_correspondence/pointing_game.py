"""Pointing game: is the map's maximum on the object?"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

TOLERANCE = 15 / 224


@metric(
    key="pointing_game",
    title="Pointing Game",
    attribute="perceptual_correspondence",
    question="Does the most salient pixel lie on the object, or close to it?",
    quantity="share of maxima on the object or within 15/224 of the image's side of it",
    unit="share",
    direction="higher",
    source=Source(paper="Zhang et al. 2016", url="https://arxiv.org/abs/1608.00507", where="section 4.1"),
    rule="vs_noise",
    size="maps",
    needs=("masks",),
)
def pointing_game(study: Study, *, tolerance: float = TOLERANCE) -> Scores:
    """1 where the map's maximum lies within the tolerance of the mask, else 0; over tied maxima, the share that does.

    Higher is better. Not valid for an empty mask, where there is nothing to hit, nor for one that fills the image, or does with the
    tolerance, where nothing can miss. Zhang et al. 2016, section 4.1: 15 pixels at an
    image size of 224, as a Euclidean distance; here the tolerance scales with the shorter side.

    Args:
        study: one method on one subject.
        tolerance: in shares of the image's shorter side.
    """
    masks = study.subject.masks
    if masks is None:
        raise CardgenError("pointing_game needs ground-truth masks; the data has none; give masks= or a masks/ folder")
    maps, masks = study.maps(), masks[: study.n]
    hits = widened(masks, tolerance * min(masks.shape[1:])).flatten(1)
    maxima = (maps == maps.amax((1, 2), keepdim=True)).flatten(1).double()
    values = (hits * maxima).sum(1) / maxima.sum(1)
    return Scores(values.cpu().numpy(), (hits.any(1) & ~hits.all(1)).cpu().numpy(), study.flat())


def widened(masks: Bool[Tensor, "n h w"], radius: float) -> Bool[Tensor, "n h w"]:
    """Pixels whose distance to the nearest pixel of the mask is at most `radius`."""
    reach = int(radius)
    offsets = torch.arange(-reach, reach + 1, device=masks.device, dtype=torch.float32)
    disc: Float[Tensor, "k k"] = (offsets[:, None] ** 2 + offsets**2 <= radius**2).float()
    return F.conv2d(masks[:, None].float(), disc[None, None], padding=reach)[:, 0] > 0.5
