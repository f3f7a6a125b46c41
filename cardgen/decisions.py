"""What every decision rule takes and gives, and the words that they share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from cardgen.records import Comparison, MetricEntry, Value, VerdictName
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds


@dataclass(frozen=True)
class Control:
    """A control's scores on the same samples, one row a draw; `parts` are those of its scores, draws first."""

    title: str
    kind: str
    values: Float[np.ndarray, "draws n"]
    valid: Bool[np.ndarray, "draws n"]
    parts: Mapping[str, Float[np.ndarray, "draws ..."]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The title as it stands inside a sentence."""
        return self.title[0].lower() + self.title[1:]


Controls = Mapping[str, Control]


@dataclass(frozen=True)
class Decision:
    """What a rule found; the record's fields of the same names."""

    verdict: VerdictName
    reason: str
    n: int
    thresholds: Mapping[str, Value]
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    effect: float | None = None
    p: float | None = None
    advice: str = ""
    controls: Mapping[str, Comparison] = field(default_factory=dict)


Rule = Callable[[Scores, Controls, MetricEntry, Thresholds, int], Decision]


def about(needed: float, n: int, bars: Thresholds) -> str:
    """A number of samples in words: more than there are now, and enough for any verdict."""
    if needed > 10_000:
        return "more than 10 000 samples"
    return f"about {int(np.ceil(max(needed, n + 1, bars.samples) / 10) * 10)} samples"


def few(n: int, bars: Thresholds) -> str:
    """The reason where there are too few samples for a verdict."""
    return f"Too few samples to judge: {n}, at least {bars.samples} are needed."


def enough(bars: Thresholds) -> str:
    """The advice where there are too few samples for a verdict."""
    return f"at least {bars.samples} samples"
