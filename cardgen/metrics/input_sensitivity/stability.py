"""Stability: how far the explanation can be made to move by a change that hardly shows."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cardgen.ascent import Search
from cardgen.errors import CardgenError
from cardgen.methods import Explainer
from cardgen.metrics import metric
from cardgen.perturbations import ball, change, keeps
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


def _passes(n: int, explainer: Explainer, p: Mapping[str, Any]) -> int:
    climbs = p["draws"] // 2 if explainer.method.terms else 0
    found: int = n * (explainer.passes * (1 + 2 * p["draws"] + climbs) + 1 + 2 * p["draws"])
    return found


@metric(
    key="stability",
    title="Stability",
    attribute="input_sensitivity",
    question="Does the explanation stay the same under the worst change that can be found within a hardly visible one?",
    quantity="relative change of the attributions under the worst perturbation found",
    unit="ratio",
    direction="lower",
    source=Source(
        paper="Alvarez-Melis & Jaakkola 2018 (robustness)", url="https://arxiv.org/abs/1806.08049", where="equation 2"
    ),
    rule="unchanged",
    size="again",
    requires=("model_weight_randomization",),
    passes=_passes,
)
def stability(study: Study, *, draws: int = 10, radius: float = 0.02) -> Scores:
    """max over the δ found of ‖A(x + δ) − A(x)‖₂ / ‖A(x)‖₂, δ in the ∞-ball of `radius` times each channel's range.

    A are the attributions as the method declares them, all channels; the class explained and the method's own seed stay the same. The
    search (`cardgen.ascent`) begins with the `draws` points of sensitivity_max, whose explanations it shares, and explains as many
    more: corners of the ball on coarse grids, in turn with steps of projected gradient ascent on ‖A(x + δ) − A(x)‖₂. Only points that
    keep the predicted class count. Lower is better; noise and constants reach 0, so that a pass needs the method to depend on the model.
    Not valid where no point keeps the class, or where A(x) is zero.

    There is a gradient for methods that declare their `terms`. For slopes of a network that is linear in pieces it is zero everywhere,
    and guided backpropagation, occlusion and RISE declare none; there all further points are corners: as many explanations, in a weaker
    search. So the number is a lower bound of the maximum over the ball, closer for some methods than for others. Reported: the share of
    steps that had a gradient, how many points changed the prediction, and how many times as far the search came as the points of
    sensitivity_max (median).

    Alvarez-Melis, Jaakkola 2018, equation 2 divides by ‖δ‖₂. Where attributions jump, as slopes at the kink of a ReLU do, that quotient
    has no bound and says only how close a kink was found; within a ball of fixed size the change itself is what can be compared.
    Ghorbani et al. 2019 climb likewise, under the same condition on the prediction.

    Args:
        study: one method on one subject.
        draws: points of sensitivity_max, and further points of the search; call k is the same whatever their number.
        radius: of the ball, in shares of the range.
    """
    if draws < 1 or radius <= 0:
        raise CardgenError(
            f"stability with {draws} draws and radius {radius:g}; expected at least 1 draw and a radius above 0; "
            f"mend the parameters draws and radius"
        )
    subject, n = study.subject, study.n
    recipes = [ball(radius, draw) for draw in range(draws)]
    changes = torch.stack([change(study, recipe) for recipe in recipes])
    kept = torch.stack([keeps(subject, n, recipe) for recipe in recipes])
    random = torch.where(kept, changes, -1.0).amax(0)
    searched, climbed, flipped = study.memo(("searched", draws, radius), partial(_searched, study, draws, radius)).T
    worst = torch.maximum(random, searched)
    valid = study.attributions().flatten(1).any(1) & (worst >= 0)
    further = (worst / random)[valid & (random > 0)]
    return Scores(
        worst.clamp_min(0).cpu().numpy(),
        valid.cpu().numpy(),
        study.flat(),
        reported={
            "with_gradient": float(climbed.mean()) / max(draws // 2, 1),
            "flipped": int((~kept).sum()) + int(flipped.sum()),
            "times_random": float(further.median()) if len(further) else None,
        },
    )


def _searched(study: Study, draws: int, radius: float, part: slice) -> Tensor:
    search = Search(study, part, radius)
    for k in range(draws):
        search.call(k)
    return torch.stack([search.best, search.climbed, search.flipped], dim=1)
