"""What a record's identity is made of. Where the key is the same, nothing needs to be measured again."""

from collections.abc import Mapping, Sequence

from cardgen.digests import SHORT, digest
from cardgen.methods import Method
from cardgen.metrics import Metric
from cardgen.records import Value

ENGINE = 1
"""Raised when batching, seeding or segments change numbers of every metric."""
CONTROLS = 2
"""Raised when the noise family changes, or a prior that a rule compares with; metrics that measure value-matched noise then raise
their own version."""
PICTURES = 1
"""Raised when example pictures are drawn differently."""


def data_part(samples: Sequence[tuple[str, str]]) -> str:
    """The part of a key that says which samples were measured."""
    return digest(samples)[:SHORT]


def key_parts(
    weights: str,
    samples: Sequence[tuple[str, str]],
    target: str,
    method: Method,
    method_parameters: Mapping[str, Value],
    metric: Metric,
    metric_parameters: Mapping[str, Value],
    *,
    seed: int,
    dtype: str,
    draws: int,
) -> dict[str, Value]:
    """The parts of a key, readable one by one, so that a change can be explained.

    Args:
        weights: digest of the model's weights.
        samples: name and content digest of each sample measured.
        target: how the class explained is chosen.
        method: with its parameters.
        metric: with its parameters.
        seed: of the run.
        dtype: of the model.
        draws: of each noise control, 0 where the rule needs none; for a rule that compares with priors alone, they are named instead.
    """
    return {
        "engine": ENGINE,
        "weights": weights[:SHORT],
        "data": data_part(samples),
        "n": len(samples),
        "target": target,
        "method": f"{method.entry.key} {method.entry.version}",
        "method_parameters": digest(dict(method_parameters))[:SHORT],
        "metric": f"{metric.entry.key} {metric.entry.version}",
        "metric_parameters": digest(dict(metric_parameters))[:SHORT],
        "seed": seed,
        "dtype": dtype,
        "controls": f"{CONTROLS} {draws}"
        if draws
        else f"{CONTROLS} priors"
        if metric.entry.rule == "unchanged"
        else "none",
    }


def scores_key(parts: Mapping[str, Value]) -> str:
    """The key of the scores alone, which do not depend on controls."""
    return digest({name: value for name, value in parts.items() if name != "controls"})
