"""Linearity: is the attribution of a·f + b·g the same sum of those of f and g?"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen import draws
from cardgen.errors import CardgenError
from cardgen.forward import logits
from cardgen.methods import Context
from cardgen.metrics import metric
from cardgen.recipes import ORIGINAL, Network, Sibling
from cardgen.records import Source
from cardgen.repair import Unhooked
from cardgen.scores import Scores
from cardgen.study import Study, Subject
from cardgen.words import measured

OTHER = Sibling("seed", 1)
PAIRS = ((2.0, 1.0), (1.0, -0.5), (-1.5, 1.0), (-0.5, -2.0))
"""a and b: of all signs, of different sizes, and none that sum to 1, where what is the same for all networks would be linear."""


class Combined(nn.Module):
    """a·f + b·g, in logits."""

    def __init__(self, first: nn.Module, second: nn.Module, a: float, b: float) -> None:
        super().__init__()
        self.first, self.second, self.a, self.b = first, second, a, b

    def forward(self, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        return self.a * logits(self.first, inputs) + self.b * logits(self.second, inputs)


@metric(
    key="linearity",
    title="Linearity",
    attribute="model_sensitivity",
    question="Are attributions of a weighted sum of two networks the weighted sum of their attributions?",
    quantity="relative difference between attributions of the sum and the sum of attributions",
    direction="lower",
    source=Source(paper="Sundararajan et al. 2017", url="https://arxiv.org/abs/1703.01365", where="axiom of linearity"),
    rule="axiom",
    size="again",
    requires=("model_weight_randomization",),
    siblings=lambda p: (OTHER,),
    other_networks=True,
    passes=lambda n, explainer, p: 4 * n * explainer.passes,
)
def linearity(study: Study) -> Scores:
    """‖A_{a f + b g} − (a A_f + b A_g)‖₂ / (|a| ‖A_f‖₂ + |b| ‖A_g‖₂), f the model, g the same trained again; all channels of A.

    a f + b g is one network that gives the weighted sum of both networks' logits; the class is the original prediction, for all three.
    a and b are one of four pairs (2, 1), (1, −½), (−1½, 1), (−½, −2), which the sample's own generator picks: so each sum explains many
    samples at once. Lower is better, 0 is linearity; the rule has a tolerance. Not valid where A_f is zero everywhere. Sundararajan,
    Taly, Yan 2017 give the axiom, and no networks to test it on.

    The size of what is added is below, not that of the sum, which is small where attributions of the two networks cancel, and would make
    rounding look like a failure. Gradients, input × gradient, integrated gradients and SmoothGrad are linear in the logits. What asks for
    probabilities is not, nor what takes magnitudes or cuts off at zero inside; guided backprop is where both weights are positive, and
    there alone.

    Methods of class activation take the layer that they take of f, within the sum: they do not see g, and fail. A method that refuses a
    sum (raises CardgenError) is not defined on it: the value of its samples is 1. Reported: the median of each pair, or why it was refused.

    Raises:
        CardgenError: g is not there, has other classes, or cannot be explained.
    """
    subject, original = study.subject, study.attributions()
    _require_classes(subject)
    study.attributions(OTHER)  # what refuses g alone is no refusal of the sum
    chosen = _chosen(subject, slice(0, study.n)).to(original.device)
    errors = torch.ones(study.n, dtype=torch.float64, device=original.device)
    reported: dict[str, str | float] = {}
    for k, (a, b) in enumerate(PAIRS):
        mine, name = chosen == k, f"{a:g} f {'+' if b > 0 else '-'} {abs(b):g} g"
        if not mine.any():
            continue
        try:
            errors[mine] = _errors(study, k)[mine]
            reported[name] = float(errors[mine].median())
        except CardgenError as error:
            reported[name] = f"refused: {error.what}"
    said = f"Median difference by sum: {measured(reported)}."
    told = list(dict.fromkeys(reported.values()))
    if len(reported) > 1 and len(told) == 1 and isinstance(told[0], str):
        reported, said = {"every sum": told[0]}, f"Every sum is {told[0]}."
    return Scores(
        errors.cpu().numpy(), original.flatten(1).any(1).cpu().numpy(), study.flat(), reported=reported, reason=said
    )


def _chosen(subject: Subject, part: slice) -> Int[Tensor, " m"]:
    """Which pair each sample's own generator picks."""
    picked = [
        torch.randint(len(PAIRS), (1,), generator=draws.generator(subject.seed, "linearity", one))
        for one in subject.ids[part]
    ]
    return torch.cat(picked)


def _errors(study: Study, k: int) -> Float[Tensor, " n"]:
    """Of the samples that picked this pair; 0 for all others."""
    subject, (a, b) = study.subject, PAIRS[k]

    def compute(part: slice) -> Tensor:
        whole = study.upto(part.stop)
        one, other = (whole.attributions(recipe)[part].flatten(1).double() for recipe in (ORIGINAL, OTHER))
        rows = (_chosen(subject, part) == k).nonzero()[:, 0].to(one.device)
        found = torch.zeros(len(one), dtype=torch.float64, device=one.device)
        if len(rows):
            combined = _of_sum(study, rows + part.start, a, b).flatten(1).double()
            size = abs(a) * one[rows].norm(dim=1) + abs(b) * other[rows].norm(dim=1)
            apart = (combined - (a * one[rows] + b * other[rows])).norm(dim=1)
            found[rows] = torch.where(
                size > 0, apart / size.clamp_min(torch.finfo(size.dtype).tiny), (apart > 0).double()
            )
        return found

    return study.memo(("linearity", k), compute)


def _of_sum(study: Study, rows: Int[Tensor, " m"], a: float, b: float) -> Float[Tensor, "m _ h w"]:
    """Attributions of some samples to a·f + b·g."""
    subject = study.subject

    def told(context: Context) -> Context:
        return replace(context, layer=context.layer and f"first.{context.layer}")

    with subject.changed(OTHER) as second:  # counts the passes of g, as those of f are
        recipe = Network(("a f + b g", a, b), lambda model, example: Combined(model, second, a, b), told=told)
        return study.explain_rows(rows, subject.targets[rows], recipe)


def _require_classes(subject: Subject) -> None:
    with subject.changed(OTHER) as second, torch.no_grad():
        mine, its = (logits(Unhooked(model), subject.inputs[:1]).shape[1] for model in (subject.model, second))
    if mine != its:
        raise CardgenError(
            f"linearity adds the outputs of two networks; expected as many of both, got {mine} of the model and {its} of {OTHER.name}; "
            "give another sibling"
        )
