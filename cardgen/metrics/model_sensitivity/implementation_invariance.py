"""Implementation invariance: does the attribution stay when the network computes the same in another way?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.equivalents import REWRITES
from cardgen.errors import CardgenError
from cardgen.forward import logits
from cardgen.metrics import metric
from cardgen.perturbations import change
from cardgen.recipes import Network
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import is_flat
from cardgen.study import Study
from cardgen.words import measured

TOLERANCE = 1e-4


def require_rewrite(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model of which no equivalent network can be derived.

    Raises:
        CardgenError: no rewrite applies, or none gives the same logits, as in half precision.
    """
    reasons = []
    with torch.no_grad():
        clean = logits(model, example)
        for name, rewrite in REWRITES.items():
            try:
                moved = (logits(rewrite(model, example), example) - clean).abs().amax()
            except CardgenError as error:
                reasons.append(error.what)
                continue
            if moved <= TOLERANCE * clean.abs().amax():
                return
            reasons.append(f"{name.replace('_', ' ')} move the logits by {float(moved):.2g}")
    raise CardgenError(
        f"no equivalent network can be derived: {', '.join(dict.fromkeys(reasons))}; expected batch norms after convolutions, hidden "
        f"layers, or ReLU modules, in float32; leave the metric out"
    )


@metric(
    key="implementation_invariance",
    title="Implementation Invariance",
    attribute="model_sensitivity",
    question="Are attributions the same for two networks that compute the same function?",
    quantity="relative difference of attributions between equivalent networks",
    direction="lower",
    source=Source(paper="Sundararajan et al. 2017", url="https://arxiv.org/abs/1703.01365", where="section 2.2"),
    rule="axiom",
    size="again",
    needs=("weights",),
    requires=("model_weight_randomization",),
    fits=require_rewrite,
    other_networks=True,
    passes=lambda n, explainer, p: n * (explainer.passes + 1 + len(REWRITES) * (explainer.passes + 1)),
)
def implementation_invariance(study: Study) -> Scores:
    """max over rewrites of ‖A₁ − A₂‖₂ / ‖A₁‖₂, A₁ a sample's attributions of the network, A₂ those of one that computes the same.

    Rewrites (`cardgen.equivalents`): batch norms folded into the layers before them, hidden channels in another order, and x − min(x, 0)
    for ReLU modules. One counts only if its logits are those of the network on all samples, up to 1e-4 of the largest. Lower is better,
    0 is invariance; the rule has a tolerance. Not valid where A₁ is zero everywhere. Sundararajan, Taly, Yan 2017, section 2.2, give the
    axiom, and no networks to test it on.

    A method that refuses a rewritten network (raises CardgenError, itself or by what it fits) depends on how the network is written:
    its value is 1. Methods of class activation take the layer of the network's own name. Reported: the median of each rewrite over the
    samples, or why it was not used.

    Raises:
        CardgenError: no rewrite can be used.
    """
    original = study.attributions()
    outcomes = {name: _outcome(study, Network(name, rewrite)) for name, rewrite in REWRITES.items()}
    used = [outcome.errors for outcome in outcomes.values() if outcome.errors is not None]
    if not used:
        raise CardgenError(
            "no equivalent network can be derived, so invariance cannot be tested: "
            f"{'; '.join(outcome.said for outcome in outcomes.values())}; expected batch norms after convolutions, hidden layers, "
            "or ReLU modules, in float32; leave the metric out"
        )
    reported = {name: outcome.told for name, outcome in outcomes.items()}
    said = {name.replace("_", " "): told for name, told in reported.items()}
    return Scores(
        torch.stack(used).amax(0).cpu().numpy(),
        original.flatten(1).any(1).cpu().numpy(),
        is_flat(study.map_of(original)).cpu().numpy(),
        reported=reported,
        reason=f"Median difference by rewrite: {measured(said)}.",
    )


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What became of a rewrite: the error of each sample where it was used, and a word."""

    errors: Float[Tensor, " n"] | None
    said: str = ""

    @property
    def told(self) -> str | float:
        return self.said if self.said or self.errors is None else float(self.errors.median())


def _outcome(study: Study, recipe: Network) -> _Outcome:
    clean = study.subject.logits(study.n)
    try:
        moved = (study.subject.logits(study.n, recipe) - clean).abs().amax()
    except CardgenError as error:
        return _Outcome(None, f"not used: {error.what}")
    if not moved <= TOLERANCE * clean.abs().amax():
        return _Outcome(None, f"not used: logits differ by {float(moved):.2g}")
    try:
        return _Outcome(_errors(study, recipe))
    except CardgenError as error:
        return _Outcome(torch.ones(study.n, dtype=torch.float64, device=clean.device), f"refused: {error.what}")


def _errors(study: Study, recipe: Network) -> Float[Tensor, " n"]:
    with study.subject.changed(recipe) as network:
        if study.method is not None:
            study.method.fits(network, study.subject.inputs[:1])
    return change(study, recipe)
