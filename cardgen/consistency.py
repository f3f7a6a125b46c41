"""Maps that should agree, against maps that have less in common: what the metrics judged by `vs_baseline` share."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cardgen.baseline import THOSE
from cardgen.randomisation import MEASURES
from cardgen.records import Value
from cardgen.scores import Scores
from cardgen.similarity import is_flat
from cardgen.study import Study

OTHERS = 5
"""Other samples whose maps each sample's map is compared with."""
IMAGES = "maps of different images"


def other_samples(study: Study, measure: str) -> Float[Tensor, " n"]:
    """Mean similarity of each sample's map to those of the next five samples: how alike its maps are anyway.

    Flat maps, which are like none, are no such others. 0 where there are none.
    """
    maps = study.maps()
    there = ~is_flat(maps)
    found, weight = [], []
    for step in range(1, min(OTHERS, study.n - 1) + 1):
        found.append(MEASURES[measure](maps, maps.roll(-step, dims=0)))
        weight.append(there.roll(-step).double())
    if not found:
        return torch.zeros(study.n, dtype=torch.float64, device=maps.device)
    weights = torch.stack(weight)
    return (torch.stack(found) * weights).sum(0) / weights.sum(0).clamp_min(1)


def against(
    study: Study,
    similarity: Float[Tensor, "models n"],
    baseline: Float[Tensor, "draws n"],
    those: str,
    reported: Mapping[str, Value],
    valid: Bool[Tensor, " n"] | None = None,
) -> Scores:
    """Scores for the rule `vs_baseline`; values are the mean similarity over models. `those` says what the baseline's maps are."""
    return Scores(
        similarity.double().mean(0).cpu().numpy(),
        np.ones(study.n, dtype=bool) if valid is None else valid.cpu().numpy(),
        study.flat(),
        parts={"similarity": similarity.double().cpu().numpy(), "baseline": baseline.double().cpu().numpy()},
        reported={THOSE: those, "mean_baseline": float(baseline.mean()), **reported},
    )


def among_images(study: Study, found: Float[Tensor, "models n measures"]) -> Scores:
    """SSIM to the maps of other models, against that of maps of different images; Spearman's correlation of both is reported."""
    similarity = found[..., list(MEASURES).index("ssim")]
    reported: dict[str, Value] = {
        "mean_spearman": float(found[..., list(MEASURES).index("spearman")].mean()),
        "mean_spearman_baseline": float(other_samples(study, "spearman").mean()),
    }
    return against(study, similarity, other_samples(study, "ssim")[None], IMAGES, reported)
