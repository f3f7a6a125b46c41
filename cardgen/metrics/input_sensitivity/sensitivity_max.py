"""Maximum sensitivity: how far the explanation moves when the image hardly does."""

import torch

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.perturbations import ball, change
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="sensitivity_max",
    title="Maximum Sensitivity",
    attribute="input_sensitivity",
    question="Does the explanation stay the same when the image changes by hardly anything?",
    quantity="largest relative change of the attributions",
    unit="ratio",
    direction="lower",
    source=Source(paper="Yeh et al. 2019", url="https://arxiv.org/abs/1901.09392", where="definition 3.1"),
    rule="unchanged",
    size="again",
    requires=("model_weight_randomization",),
    passes=lambda n, explainer, p: n * explainer.passes * (p["draws"] + 1),
)
def sensitivity_max(study: Study, *, draws: int = 10, radius: float = 0.02) -> Scores:
    """max over δ of ‖A(x + δ) − A(x)‖₂ / ‖A(x)‖₂, δ in the ∞-ball of `radius` times each channel's range.

    A are the attributions as the method declares them, all channels, not the map; the class explained and the method's own seed stay
    the same. δ is uniform in the ball, from the sample's own generator, and x + δ is kept within the space. Lower is better; 0 is
    what noise and constants reach, so that a pass needs the method to depend on the model. Not valid where A(x) is zero.

    Yeh et al. 2019, definition 3.1 has no denominator; their experiments and code divide by ‖A(x)‖. The maximum over `draws` random
    points under-estimates the maximum over the ball, the more so the fewer: corners of the ball were seen to give 1.27 times as
    much, coarse ones 2 to 7 times (`stability` looks there). One published version of their code divides the running maximum by the
    norm again at every draw, another draws normal δ.

    Args:
        study: one method on one subject.
        draws: points of the ball; draw k is the same whatever their number.
        radius: of the ball, in shares of the range.
    """
    if draws < 1 or radius <= 0:
        raise CardgenError(
            f"sensitivity_max with {draws} draws and radius {radius:g}; expected at least 1 draw and a radius above 0; "
            f"mend the parameters draws and radius"
        )
    changes = torch.stack([change(study, ball(radius, draw)) for draw in range(draws)])
    valid = study.attributions().flatten(1).any(1)
    return Scores(changes.amax(0).cpu().numpy(), valid.cpu().numpy(), study.flat())
