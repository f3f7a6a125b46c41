"""Mean IoU: how well the map, cut at a threshold, covers the mask and nothing else."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

LEVELS = 256


@metric(
    key="mean_iou",
    title="Mean IoU",
    attribute="perceptual_correspondence",
    question="Do the map's highest pixels cover the object, and nothing else?",
    quantity="intersection over union of the mask and as many of the map's highest pixels",
    unit="fraction",
    direction="higher",
    source=Source(paper="Saporta et al. 2022", url="https://www.nature.com/articles/s42256-022-00536-x", where="mIoU"),
    rule="vs_noise",
    size="maps",
    needs=("masks",),
)
def mean_iou(study: Study) -> Scores:
    """|S ∩ M| / |S ∪ M|, S the |M| most salient pixels, so h / (2|M| − h) where h of them are hits. Higher is better; 0 to 1.

    Ties are broken at random, from the sample's own generator. Not valid for an empty mask, as in the authors' code, or a full one,
    which any map covers.

    Reported: `otsu`, the mean over samples at Otsu's threshold, as Saporta et al. 2022 have it, and `otsu_share`, the mean share of
    the image that lies above it. Their code puts each map into 256 levels, floor(255 (A − min) / (max − min)), and takes what lies
    above the level that parts the histogram into the two groups furthest apart (OpenCV's THRESH_OTSU). It also rewards a method for a
    histogram that falls apart at the right area, which is why the mask's own area is judged. A flat map has nothing above: 0. Their
    rule that a mask counts only where the model predicts the finding has no place here: the class explained is the prediction.
    """
    if study.subject.masks is None:
        raise CardgenError("mean_iou needs ground-truth masks; the data has none; give masks= or a masks/ folder")
    masks = study.subject.masks[: study.n].flatten(1)
    area = masks.sum(1, keepdim=True)
    top = torch.arange(masks.shape[1], device=masks.device) < area
    hits = (masks.gather(1, study.order()) & top).sum(1).double()
    valid = masks.any(1) & ~masks.all(1)
    above = above_otsu(study.maps().flatten(1))
    ious = (above & masks).sum(1) / (above | masks).sum(1).clamp_min(1)
    return Scores(
        (hits / (2 * area[:, 0] - hits).clamp_min(1)).cpu().numpy(),
        valid.cpu().numpy(),
        study.flat(),
        reported={
            "otsu": float(ious[valid].mean()) if valid.any() else None,
            "otsu_share": float(above[valid].double().mean()) if valid.any() else None,
        },
    )


def above_otsu(maps: Float[Tensor, "n p"]) -> Bool[Tensor, "n p"]:
    """Pixels above Otsu's threshold of their own map's 256 levels.

    With counts N₀, N₁ and sums of levels S₀, S₁ up to a level and above it, the level maximises the variance between the two groups,
    (S₀ N₁ − S₁ N₀)² / (N₀ N₁); the lowest of equals.
    """
    values = maps.double()
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    levels = ((values - low) / (high - low).clamp_min(1e-300) * (LEVELS - 1)).long()
    histogram = torch.zeros(len(maps), LEVELS, dtype=torch.float64, device=maps.device)
    histogram.scatter_add_(1, levels, torch.ones_like(values))
    below = histogram.cumsum(1)
    sums = (histogram * torch.arange(LEVELS, device=maps.device)).cumsum(1)
    rest, rest_sums = below[:, -1:] - below, sums[:, -1:] - sums
    between = (sums * rest - rest_sums * below).square() / (below * rest).clamp_min(1)
    found: Tensor = levels > between.argmax(1, keepdim=True)
    return found
