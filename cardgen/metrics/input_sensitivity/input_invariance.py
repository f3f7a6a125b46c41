"""Input invariance: does the attribution stay when the same image is written with a shift, and the network takes it back?"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import logits
from cardgen.metrics import metric
from cardgen.perturbations import change
from cardgen.recipes import Network
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.shift import SHIFTS, Shifted, shifted
from cardgen.space import UNNORMALISED
from cardgen.study import Study
from cardgen.words import measured

TOLERANCE = 1e-4


def require_precision(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model that does not compute the same once a shift of its input is added and taken back, as in half precision.

    Raises:
        CardgenError: its logits move.
    """
    if torch.finfo(example.dtype).eps > 1e-6:
        raise CardgenError(
            "a shift of the input that is taken back leaves its rounding in half precision; expected float32; leave the metric out"
        )
    with torch.no_grad():
        clean = logits(model, example)
        for shift in SHIFTS.values():
            by = shift(UNNORMALISED, example)
            _require_same(clean, logits(Shifted(model, by), example + by))


def _require_same(clean: Float[Tensor, "n k"], moved: Float[Tensor, "n k"]) -> None:
    difference = (moved - clean).abs().amax()
    if not difference <= TOLERANCE * clean.abs().amax():
        raise CardgenError(
            f"logits differ by {float(difference):.2g} once a shift of the input is added and taken back; expected the same within 1e-4 "
            f"of the largest, as in float32; leave the metric out"
        )


@metric(
    key="input_invariance",
    title="Input Invariance",
    attribute="input_sensitivity",
    question="Are attributions the same when all images are shifted, by a constant or an image, and the network takes it back?",
    quantity="relative difference of attributions between the network and its shifted twin",
    direction="lower",
    source=Source(paper="Kindermans et al. 2019", url="https://arxiv.org/abs/1711.00867", where="section 2"),
    rule="axiom",
    size="again",
    requires=("model_weight_randomization",),
    fits=require_precision,
    passes=lambda n, explainer, p: n * (explainer.passes + 1) * (1 + len(SHIFTS)),
)
def input_invariance(study: Study) -> Scores:
    """max over shifts m of ‖A₁(x) − A₂(x + m)‖₂ / ‖A₁(x)‖₂, A₁ the attributions of f₁, A₂ those of f₂ with f₂(x + m) = f₁(x).

    f₂ subtracts m from its input before anything else (`cardgen.shift`). One m is a constant, minus the range of each channel, so that
    images in 0 … 1 lie in −1 … 0; the other is an image, the same for all samples. Lower is better, 0 is invariance; the rule has a
    tolerance. Not valid where A₁ is zero everywhere. Kindermans et al. 2019, section 2.

    What a method is told of its inputs moves along: black, white, grey and mean are colours of images, and an image that is shifted
    has shifted ones; `zero` is 0 for both networks. The paper finds integrated gradients invariant with a black reference, which
    moves along, and not with a zero one; so they are here. Slopes, and what is made of hidden features, stay. Input × gradient takes the
    input's values as they are, and fails. The paper lets the first bias absorb m, which padding with zeros spoils at the border.

    x + m − m is x up to a rounding of 1e-7 of the range; the logits must be those of f₁ on all samples, up to 1e-4 of the largest.
    A method that refuses f₂ (raises CardgenError) depends on how its input is written: its value is 1. Reported: the median of each shift,
    or why it was refused.

    Raises:
        CardgenError: the logits differ.
    """
    found = {name: _errors(study, shifted(name, study.subject.space)) for name in SHIFTS}
    reported: dict[str, str | float] = {
        name: told if isinstance(told, str) else float(told.median()) for name, told in found.items()
    }
    refused = torch.ones(study.n, dtype=torch.float64)
    return Scores(
        torch.stack([refused if isinstance(told, str) else told.cpu() for told in found.values()]).amax(0).numpy(),
        study.attributions().flatten(1).any(1).cpu().numpy(),
        study.flat(),
        reported=reported,
        reason=f"Median difference by shift: {measured(reported)}.",
    )


def _errors(study: Study, recipe: Network) -> Float[Tensor, " n"] | str:
    """The difference of each sample, or why the method refuses."""
    subject = study.subject
    _require_same(subject.logits(study.n), subject.logits(study.n, recipe))
    study.attributions()  # what refuses f₁ alone is no refusal of f₂
    try:
        return change(study, recipe)
    except CardgenError as error:
        return f"refused: {error.what}"
