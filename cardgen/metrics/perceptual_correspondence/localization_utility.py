"""Localization utility: the map as a detector of the object's pixels."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="localization_utility",
    title="Localization Utility",
    attribute="perceptual_correspondence",
    question="Do the object's pixels rank above all others?",
    quantity="area under the precision–recall curve of the map as a detector of the object's pixels",
    direction="higher",
    source=Source(paper="Arun et al. 2020", url="https://arxiv.org/abs/2008.02766", where="localization utility"),
    rule="vs_noise",
    size="maps",
    needs=("masks",),
)
def localization_utility(study: Study) -> Scores:
    """Σ_k (R_k − R_{k−1}) P_k over the map's distinct values as thresholds, from the highest down: average precision.

    P_k is the share of object pixels among the pixels at or above threshold k, R_k the share of the object's pixels that are there.
    Higher is better; between 0 and 1; a map without information has about the object's share of the image. Pixels of one value are
    one threshold, so no order among them matters and a flat map has exactly that share. Not valid for an empty mask or a full one.
    Arun et al. 2020 report the area under the precision–recall curve; joining its points by straight lines, as the trapezoid rule
    does, is too optimistic (Davis & Goadrich 2006) and gives a flat map half of (1 + that share), so steps are summed here. They
    compare with the average mask over the data, which is measured as a prior.
    """
    if study.subject.masks is None:
        raise CardgenError(
            "localization_utility needs ground-truth masks; the data has none; give masks= or a masks/ folder"
        )
    masks = study.subject.masks[: study.n].flatten(1)
    order = study.order()
    values = average_precision(study.maps().flatten(1).gather(1, order), masks.gather(1, order))
    return Scores(values.cpu().numpy(), (masks.any(1) & ~masks.all(1)).cpu().numpy(), study.flat())


def average_precision(descending: Float[Tensor, "n p"], positive: Bool[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """Average precision, float64, of values in descending order; 0 where nothing is positive."""
    hits = positive.double().cumsum(1)
    ends = _ends_of_groups(descending)
    precision = hits.gather(1, ends) / (ends + 1)
    return (precision * positive).sum(1) / hits[:, -1].clamp_min(1)


def _ends_of_groups(ordered: Float[Tensor, "n p"]) -> Int[Tensor, "n p"]:
    """The last place that holds the same value, for every place."""
    last = ordered.shape[1] - 1
    places = torch.arange(last + 1, device=ordered.device).expand_as(ordered)
    is_end = torch.ones_like(ordered, dtype=torch.bool)
    is_end[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    return torch.where(is_end, places, last).flip(1).cummin(dim=1).values.flip(1)
