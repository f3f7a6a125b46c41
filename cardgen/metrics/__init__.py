"""Evaluations of saliency methods, one a file. `METRICS` maps keys to them; the `metric` decorator registers a function.

A metric is a function `measure(study, *, parameters=defaults) → Scores`: one number a sample, in the metric's own unit and direction. What
the number means for a verdict is the decision rule's business, named in the decorator and written in `cardgen.verdicts`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from cardgen.methods import Explainer, Fits, keyword_defaults, merged
from cardgen.recipes import Sibling
from cardgen.records import Attribute, Direction, MetricEntry, Source, Value
from cardgen.registry import Registry
from cardgen.scores import Scores
from cardgen.study import Study

Size = Literal["maps", "again", "few", "retrained"]
"""How many samples a budget gives: metrics that read the original maps, those that explain again, those that repeat or time, and those
that train models, which take one draw of each noise control."""

Measure = Callable[..., Scores]
F = TypeVar("F", bound=Callable[..., Any])
Passes = Callable[[int, Explainer, Mapping[str, Any]], int]
Siblings = Callable[[Mapping[str, Any]], tuple[Sibling, ...]]


@dataclass(frozen=True)
class Metric:
    """A registered metric: its entry in the catalogue, its function, its sample size's kind, and the passes that it costs."""

    entry: MetricEntry
    function: Measure
    size: Size
    passes: Passes
    fits: Fits = lambda model, example: None
    siblings: Siblings = lambda parameters: ()
    other_networks: bool = False
    trains: Callable[[Mapping[str, Any]], int] = lambda parameters: 0

    @property
    def defaults(self) -> dict[str, Value]:
        """Parameters and their defaults."""
        return keyword_defaults(self.function)

    def parameters(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """Defaults with `given` in their place; an unknown name is refused with the nearest."""
        return merged(self.entry.key, self.defaults, given)

    def measure(self, study: Study, parameters: Mapping[str, Value]) -> Scores:
        """The scores, with the samples forwarded for them counted."""
        with study.subject.open():
            scores, passes = study.subject.memo.run(lambda: self.function(study, **parameters))
        found: Scores = scores.with_passes(passes)
        return found


METRICS: Registry[Metric] = Registry("cardgen.metrics")


def metric(
    *,
    key: str,
    title: str,
    attribute: Attribute,
    question: str,
    quantity: str,
    direction: Direction,
    source: Source,
    rule: str,
    size: Size,
    unit: str = "",
    needs: tuple[str, ...] = (),
    requires: tuple[str, ...] = (),
    fits: Fits = lambda model, example: None,
    siblings: Siblings = lambda parameters: (),
    other_networks: bool = False,
    trains: Callable[[Mapping[str, Any]], int] = lambda parameters: 0,
    version: int = 1,
    passes: Passes = lambda n, explainer, parameters: n * explainer.passes,
) -> Callable[[F], F]:
    """Register a metric; raise `version` whenever its numbers move.

    Args:
        key: the name on the command line and of its records.
        title: the name people read.
        attribute: the card's attribute that it speaks on.
        question: what it asks, in one sentence.
        quantity: what the number is, in a few words.
        direction: whether a higher or a lower number is better, or neither.
        source: paper and equation.
        rule: the decision rule, a key of `cardgen.verdicts.RULES`.
        size: which of the budget's sample sizes it takes.
        unit: of the number; "probability" also asks for a difference of at least 0.01, "correlation" of at least 0.05.
        needs: what the subject must have: masks, rule (masks that are proven to be what drives the model), weights (a model that can be
            changed, not only asked), classes (two or more), synonyms (the samples in other words), labels (of the samples), or training
            (labelled images to train on).
        requires: metrics whose pass this one's pass needs.
        fits: raises CardgenError where the model cannot be measured; the words up to the first `;` become the reason.
        siblings: the other trained models that it takes, from its parameters.
        other_networks: whether it explains networks other than the model, its siblings or such as are derived from it; a method that
            trains a network of its own for the model cannot explain those.
        trains: how many models it trains for a method, from its parameters.
        version: of the numbers.
        passes: samples forwarded in all, from (n, the method with its hyperparameters, parameters); an estimate for plans and progress.
    """
    entry = MetricEntry(
        key=key,
        title=title,
        attribute=attribute,
        question=question,
        quantity=quantity,
        unit=unit,
        direction=direction,
        source=source,
        rule=rule,
        needs=needs,
        requires=requires,
        version=version,
    )

    def register(function: F) -> F:
        METRICS.add(key, Metric(entry, function, size, passes, fits, siblings, other_networks, trains))
        return function

    return register
