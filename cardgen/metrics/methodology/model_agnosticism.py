"""Model agnosticism: what a method must see of a model, found by hiding it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.forward import logits
from cardgen.memory import ran_out
from cardgen.metrics import metric
from cardgen.recipes import Network
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import relative_difference
from cardgen.study import Study
from cardgen.subjects.black_box import BlackBox

TOLERANCE = 1e-3
WORDS = 120
LEVELS = ("outputs", "gradients", "everything")
SUFFICIENT: Mapping[str, str] = {"none": "outputs", "outputs": "outputs", "gradients": "gradients"}
"""The level that a method's declared access amounts to; any other access is everything."""
RUNS: Mapping[str, int] = {"none": 4, "outputs": 4, "gradients": 3}
"""How often a method of an access can be run: on the whole model twice, and on each network that shows enough."""


class Layerless(nn.Module):
    """A model that passes gradients on and shows neither layers nor parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._hidden = (model,)  # in a tuple, so that it is no submodule

    def forward(self, inputs: Tensor) -> Any:
        return self._hidden[0](inputs)


def outputs_only(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> BlackBox:
    """The model behind a function."""
    return BlackBox(partial(logits, model))


def layerless(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> Layerless:
    """The model without its layers."""
    return Layerless(model)


HIDING: Mapping[str, Network] = {
    "outputs": Network("outputs only", outputs_only),
    "gradients": Network("no layers", layerless),
}


@metric(
    key="model_agnosticism",
    title="Access that suffices",
    attribute="model_agnosticism",
    question="What does the method need to see of a model?",
    quantity="relative difference between maps with the least access that suffices and with the whole model",
    direction="none",
    source=Source(
        paper="Boggust et al. 2023", url="https://doi.org/10.1145/3593013.3593997", where="model agnosticism"
    ),
    rule="descriptive",
    size="few",
    passes=lambda n, explainer, p: (
        n * explainer.passes * RUNS.get(explainer.method.entry.access, 2)
        + (explainer.passes // 2 if explainer.method.entry.access == "gradients" else 0)
    ),
)
def model_agnosticism(study: Study) -> Scores:
    """‖A − A'‖₂ / ‖A‖₂ of a sample's maps, A on the whole model and A' with the least access that suffices.

    The method runs on a black box that gives outputs only, on a network that passes gradients and shows no layers, and on the whole
    model. An access suffices where the method says that it fits, runs, and gives the whole model's map on every sample, up to 1e-3
    beyond the difference of two runs on the whole model; if it is everything, that difference is the value. So a method that quietly
    does something else where it finds no layers is not taken to work there. Reported: which access suffices, and which is declared.
    """
    first = study.maps()
    noise = torch.cat([relative_difference(first[part], study.map_of(study.explain(part))) for part in _parts(study.n)])
    tried = {level: _tried(study, HIDING[level], TOLERANCE + float(noise.amax())) for level in HIDING}
    least = next((level for level, found in tried.items() if isinstance(found, Tensor)), "everything")
    found = tried.get(least, noise)
    declared = study.method.entry.access if study.method else "none"
    return Scores(
        torch.as_tensor(found).cpu().numpy(),
        torch.ones(study.n, dtype=torch.bool).numpy(),
        study.flat(),
        reported={
            **{level: isinstance(found, Tensor) for level, found in tried.items()},
            "everything": True,
            "declared": declared,
        },
        reason=_reason(least, tried, declared),
    )


def _parts(n: int) -> list[slice]:
    """One sample first, so that little is spent where an access does not suffice; then the others."""
    return [slice(0, 1), slice(1, n)] if n > 1 else [slice(0, 1)]


def _tried(study: Study, recipe: Network, tolerance: float) -> Float[Tensor, " n"] | str:
    """Relative differences to the whole model's maps, or why the access does not suffice."""
    found = []
    try:
        with study.subject.changed(recipe) as network:
            if study.method is not None:
                study.method.fits(network, study.subject.inputs[:1])
        for part in _parts(study.n):
            moved = relative_difference(study.maps()[part], study.map_of(study.explain(part, recipe)))
            if not float(moved.amax()) <= tolerance:
                return f"its maps are others, by {float(moved.amax()):.2g} of their norm"
            found.append(moved)
    except Exception as error:  # whatever a method raises on what it cannot explain
        if ran_out(error):
            raise
        return f"it stops: {_first_words(error)}"
    return torch.cat(found)


def _first_words(error: Exception) -> str:
    text = str(error).strip().partition(";")[0].partition("\n")[0]
    return text[:WORDS].strip() or type(error).__name__


def _reason(least: str, tried: Mapping[str, Tensor | str], declared: str) -> str:
    """What is needed, what happens with less, and whether that is what the method declares."""
    found = {
        "outputs": "Works on any model that gives outputs",
        "gradients": f"Needs gradients and no layers; with outputs alone {tried['outputs']}",
        "everything": f"Needs the model's layers; with gradients alone {tried['gradients']}",
    }[least]
    expected = SUFFICIENT.get(declared, "everything")
    if LEVELS.index(expected) > LEVELS.index(least):
        found += f". It declares to need {declared}, which was more than it took"
    elif LEVELS.index(expected) < LEVELS.index(least):
        found += f". It declares to need {declared}, which was not enough"
    return f"{found}."
