"""Determinism: does the same input give the same map?"""

from itertools import combinations

import numpy as np
import torch

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.recipes import Reseed
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import is_flat, relative_difference, spearman
from cardgen.study import Study


@metric(
    key="determinism",
    title="Repeated runs",
    attribute="determinism",
    question="Do repeated runs of the method give the same map?",
    quantity="lowest Spearman correlation between runs",
    unit="correlation",
    direction="higher",
    source=Source(paper="Boggust et al. 2023", url="https://doi.org/10.1145/3593013.3593997", where="determinism"),
    rule="descriptive",
    size="few",
    passes=lambda n, explainer, p: n * explainer.passes * p["runs"],
)
def determinism(study: Study, *, runs: int = 5) -> Scores:
    """The lowest Spearman correlation between any two of a sample's maps from `runs` runs with different seeds.

    1 means that all runs rank the pixels alike. Reported: the largest ‖A_i − A_j‖₂ / ‖A_i‖₂ over pairs i < j and samples, and whether
    all maps are identical to the last bit. Every run explains anew, so that non-determinism of the hardware counts too.
    """
    if runs < 2:
        raise CardgenError(f"determinism compares runs with each other; expected runs ≥ 2, got {runs}; raise runs")
    everything = slice(0, study.n)
    maps = [study.map_of(study.explain(everything, Reseed(draw))) for draw in range(runs)]
    pairs = list(combinations(maps, 2))
    lowest = torch.stack([spearman(a, b) for a, b in pairs]).amin(0)
    relative = max(float(relative_difference(a, b).amax()) for a, b in pairs)
    identical = all(torch.equal(a, b) for a, b in pairs)
    found = (
        f"Deterministic: {runs} runs with different seeds gave identical maps"
        if identical
        else f"Not deterministic: {runs} runs with different seeds gave maps that agree in rank to "
        f"{float(lowest.amin()):.2f} at worst (Spearman)"
    )
    return Scores(
        lowest.cpu().numpy(),
        np.ones(study.n, dtype=bool),
        is_flat(maps[0]).cpu().numpy(),
        reported={
            "runs": runs,
            "identical": identical,
            "max_relative_difference": relative,
            "min_spearman": float(lowest.amin()),
        },
        reason=f"{found}.",
    )
