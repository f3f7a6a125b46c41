"""Robustness: how far the explanation moves for each bit that the image does, under noise."""

import torch

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.perturbations import change, distance, keeps, noisy
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="robustness",
    title="Robustness",
    attribute="input_sensitivity",
    question="Does the explanation move no faster than the image does under slight noise?",
    quantity="local Lipschitz estimate of the attributions, over their norm",
    direction="lower",
    source=Source(
        paper="Alvarez-Melis & Jaakkola 2018 (robustness)", url="https://arxiv.org/abs/1806.08049", where="equation 2"
    ),
    rule="unchanged",
    size="again",
    requires=("model_weight_randomization",),
    passes=lambda n, explainer, p: n * (explainer.passes + 1) * (p["draws"] + 1),
)
def robustness(study: Study, *, draws: int = 20, sigma: float = 0.01) -> Scores:
    """max over draws of (‖A(x') − A(x)‖₂ / ‖A(x)‖₂) / ‖x' − x‖₂, x' = x with Gaussian noise of `sigma` times each channel's range.

    A are the attributions as the method declares them, all channels; the class explained and the method's own seed stay the same. Noise
    comes from the sample's own generator, x' is kept within the space, and ‖x' − x‖ counts in shares of the range, so that no unit of
    the input matters. Lower is better; unit: relative change for a step of one range in one value. Noise and constants reach 0, so that
    a pass needs the method to depend on the model.

    Only draws whose predicted class is that of x count: where the prediction changes, so should its explanation. Not valid where no
    draw is left, or where A(x) is zero. Reported: how many draws changed it, and how many samples have none left.

    Alvarez-Melis, Jaakkola 2018, equation 2 takes the supremum over a ball, by Bayesian optimisation, of attributions as they are. Noise
    is the weaker search, which `stability` makes good. Without the division by ‖A(x)‖ methods of different units could not be compared;
    reported as `lipschitz` is the median of the undivided estimate.

    Args:
        study: one method on one subject.
        draws: of noise; draw k is the same whatever their number.
        sigma: of the noise, in shares of the range.
    """
    if draws < 1 or sigma <= 0:
        raise CardgenError(
            f"robustness with {draws} draws and sigma {sigma:g}; expected at least 1 draw and a sigma above 0; "
            f"mend the parameters draws and sigma"
        )
    subject, n = study.subject, study.n
    recipes = [noisy(sigma, draw) for draw in range(draws)]
    changes = torch.stack([change(study, recipe) for recipe in recipes])
    kept = torch.stack([keeps(subject, n, recipe) for recipe in recipes])
    moved = torch.stack([distance(subject, n, recipe) for recipe in recipes])
    estimates = torch.where(kept & (moved > 0), changes / moved.clamp_min(1e-300), -1.0).amax(0)
    before = study.attributions().double().flatten(1)
    valid = before.any(1) & (estimates >= 0)
    own = (estimates * before.norm(dim=1))[valid]
    return Scores(
        estimates.clamp_min(0).cpu().numpy(),
        valid.cpu().numpy(),
        study.flat(),
        reported={
            "flipped_draws": int((~kept).sum()),
            "no_draw_left": int((estimates < 0).sum()),
            "lipschitz": float(own.median()) if len(own) else None,
        },
    )
