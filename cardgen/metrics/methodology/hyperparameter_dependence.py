"""Hyperparameter dependence: how much maps change as each hyperparameter goes through the values people give it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from cardgen.errors import CardgenError
from cardgen.methods import Explainer
from cardgen.metrics import metric
from cardgen.records import Source, Value
from cardgen.scores import Scores
from cardgen.similarity import spearman
from cardgen.study import Study
from cardgen.words import listing

Change = tuple[str, Value]
"""A hyperparameter and its other value."""


@metric(
    key="hyperparameter_dependence",
    title="Other hyperparameters",
    attribute="hyperparameter_dependence",
    question="How much do maps change with the method's hyperparameters?",
    quantity="lowest Spearman correlation of the map with one under another hyperparameter",
    unit="correlation",
    direction="none",
    source=Source(
        paper="Boggust et al. 2023", url="https://doi.org/10.1145/3593013.3593997", where="hyperparameter dependence"
    ),
    rule="descriptive",
    size="few",
    passes=lambda n, explainer, p: n * (explainer.passes + sum(other.passes for other in explainer.variations())),
)
def hyperparameter_dependence(study: Study) -> Scores:
    """The lowest Spearman correlation of a sample's map with its maps as one hyperparameter at a time takes other values of its range.

    1 means that no value tried changes the pixels' ranking. The ranges are the method's own declaration. Reported: for each
    hyperparameter the values tried, and the mean correlation at the value that changes maps most. 1 for a method without
    hyperparameters; not valid for one that declares no range to try.
    """
    if study.method is None:
        raise CardgenError(
            "this metric explains again, under other hyperparameters; it got maps= only; pass method= instead"
        )
    explainer = Explainer(study.method, study.method.parameters(study.parameters))
    found = {_changed(explainer, other): _similarity(study, other) for other in explainer.variations()}
    means = {change: float(similarity.mean()) for change, similarity in found.items()}
    worst = sorted(_worst(means), key=lambda change: means[change])
    reported: dict[str, Value] = {name: _line(means, name, value) for name, value in worst}
    lowest = np.stack(list(found.values())).min(0) if found else np.ones(study.n)
    tried = np.full(study.n, bool(found) or not explainer.parameters)
    return Scores(lowest, tried, study.flat(), reported=reported, reason=_reason(explainer, means, worst))


def _changed(explainer: Explainer, other: Explainer) -> Change:
    """Name and value of the one hyperparameter that is another."""
    (change,) = [(name, value) for name, value in other.parameters.items() if value != explainer.parameters[name]]
    return change


def _similarity(study: Study, other: Explainer) -> Float[np.ndarray, " n"]:
    maps = replace(study, parameters=other.parameters).maps()
    found: Float[np.ndarray, " n"] = spearman(study.maps(), maps).cpu().numpy()
    return found


def _worst(means: Mapping[Change, float]) -> list[Change]:
    """Of each hyperparameter the value that changes maps most."""
    names = dict.fromkeys(name for name, _ in means)
    return [min((change for change in means if change[0] == name), key=lambda change: means[change]) for name in names]


def _line(means: Mapping[Change, float], name: str, worst: Value) -> str:
    """The values tried of one hyperparameter, and how alike maps are at the one that changes them most."""
    tried = [_text(value) for changed, value in means if changed == name]
    return f"{', '.join(tried)}: {means[name, worst]:z.2f} at {_text(worst)}"


def _reason(explainer: Explainer, means: Mapping[Change, float], worst: Sequence[Change]) -> str:
    if not explainer.parameters:
        return "Has no hyperparameters."
    if not means:
        return f"Declares no values to try for {listing(explainer.parameters)}."
    said = [f"{means[name, value]:z.2f} with {name} {_text(value)}" for name, value in worst]
    return f"Maps agree in rank (Spearman) with those of other settings, at the value tried that changes them most: {', '.join(said)}."


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
