"""Verdicts that others published, kept apart from measured ones.

`<key>.yaml` holds the verdicts on one method and its row in Table A1 of Boggust, Suresh et al., "Saliency Cards",
FAccT 2023, https://doi.org/10.1145/3593013.3593997; `evaluations.yaml` lists the evaluations of the card's template.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cardgen.errors import CardgenError
from cardgen.records import Attribute, Model
from cardgen.yamlfile import load_yaml

EVALUATIONS = "evaluations"
Text = Annotated[str, Field(min_length=1)]


class EvaluatedOn(Model):
    """What the entry itself names; empty where it does not say."""

    models: tuple[str, ...]
    data: tuple[str, ...]


class PublishedVerdict(Model):
    """One verdict mark of a published card. `proven`: guaranteed by the algorithm; `measured`: an experiment."""

    attribute: Attribute
    metric: Text
    verdict: Literal["pass", "fail", "inconclusive"]
    source: Text
    further_sources: tuple[str, ...]
    evaluated_on: EvaluatedOn
    kind: Literal["proven", "measured"]
    compared_with: tuple[str, ...]
    summary: Text


class TimingVariant(Model):
    """A variant with a time of its own; no time where it was too slow to be timed."""

    variant: Text
    seconds_order_of_magnitude: float | None
    note: str = ""


class TimingSetting(Model):
    """What was timed."""

    input: Text
    data: Text
    model: Text
    hardware: Text
    implementation: Text


class Paper(Model):
    """A paper as listed in the source."""

    title: Text
    authors: tuple[str, ...]
    year: int
    url: Text
    cited_by: Literal["card", "template", "paper", "added", ""] = ""


class TableRow(Model):
    """A method's row in Table A1."""

    name: Text
    determinism: Literal["deterministic", "conditional", "non_deterministic"]
    determinism_note: str
    hyperparameters: tuple[str, ...]
    model_access: Literal["gradients", "gradients_and_conv_layer", "inherited", "black_box"]
    model_access_note: str
    seconds_order_of_magnitude: float | None
    time_factor: float | None
    timing_variants: tuple[TimingVariant, ...]
    timing_setting: TimingSetting
    semantic_meaning: Text
    papers: tuple[Paper, ...]


class Literature(Model):
    """All that was published on one method; empty for a method that the source does not treat."""

    method: Text
    table: TableRow | None = None
    verdicts: tuple[PublishedVerdict, ...] = ()


class PublishedEvaluation(Model):
    """One evaluation of the card's template."""

    evaluation: Text
    title: Text
    attribute: Attribute
    paper: Paper
    further_sources: tuple[str, ...]


class PublishedEvaluations(Model):
    """The evaluations of the card's template, in its order."""

    evaluations: tuple[PublishedEvaluation, ...]


def load_literature(folder: Path, key: str) -> Literature:
    """What was published on the method `key`; empty where there is no file.

    Raises:
        CardgenError: the file is malformed, or speaks of another method.
    """
    path = folder / f"{key}.yaml"
    if not path.exists():
        return Literature(method=key)
    found = load_yaml(Literature, path)
    if found.method != key:
        raise CardgenError(
            f"{path}: method: expected {key!r} as in the file's name, got {found.method!r}; rename one of the two"
        )
    return found


def load_evaluations(folder: Path) -> tuple[PublishedEvaluation, ...]:
    """The evaluations of the card's template; none where the folder has no list of them."""
    path = folder / f"{EVALUATIONS}.yaml"
    return load_yaml(PublishedEvaluations, path).evaluations if path.exists() else ()


def load_every(folder: Path) -> dict[str, Literature]:
    """Method key → what was published on it, for every method that the source treats."""
    keys = sorted(path.stem for path in folder.glob("*.yaml") if path.stem != EVALUATIONS)
    return {key: load_literature(folder, key) for key in keys}
