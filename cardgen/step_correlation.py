"""Do the steps of a curve that change the score most have the highest saliency? What deletion and insertion correlation share."""

import torch
from jaxtyping import Float
from torch import Tensor

from cardgen.curves import counts, curve
from cardgen.scores import Scores
from cardgen.similarity import is_flat, pearson
from cardgen.study import Study

STILL = 1e-6
"""Standard deviation, over steps, below which a probability's changes are rounding."""


def step_saliency(study: Study, steps: int) -> Float[Tensor, "n {steps}"]:
    """Mean saliency of the pixels that change at each step, float64."""
    ordered = study.maps().flatten(1).double().gather(1, study.order())
    ends = counts(ordered.shape[1], steps).to(ordered.device)
    sums = torch.nn.functional.pad(ordered.cumsum(1), (1, 0))[:, ends]
    return sums.diff(dim=1) / ends.diff()


def step_correlation(study: Study, steps: int, substrate: str, *, insert: bool) -> Scores:
    """Pearson's correlation, over steps, of the change of f_c with the mean saliency of the pixels changed.

    A change is a drop as pixels go and a rise as they come. Flat, without a value of their own: maps that are constant, and samples
    whose changes have a standard deviation below 1e-6.
    """
    values = curve(study, steps, substrate, insert=insert).double()
    changes = values.diff(dim=1) * (1 if insert else -1)
    constant, still = is_flat(study.maps()), changes.std(dim=1, correction=0) < STILL
    flat = constant | still
    found = pearson(changes, step_saliency(study, steps)).where(~flat, 0.0)
    return Scores(
        found.cpu().numpy(),
        (~flat).cpu().numpy(),
        flat.cpu().numpy(),
        reported={"still": int((still & ~constant).sum())},
    )
