"""Keys derived again without torch, from what a record tells, for every method and metric that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from publishing_fixtures import record

from cardgen.budgets import BUDGETS, sized
from cardgen.digests import digest, key_fits
from cardgen.keys import key_parts
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.records import Record, dumps
from cardgen.runner import TOLD

SAMPLES = [("one", "aa"), ("two", "bb")]


def jobs(budget: str) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    sizes = BUDGETS[budget]
    for method_key, method in METHODS.items():
        of_method = dict(method.parameters(sized(method.defaults, sizes.method)))
        for metric_key, metric in METRICS.items():
            of_metric = dict(metric.parameters(sized(metric.defaults, sizes.metric)))
            parts = key_parts(
                "ab" * 32, SAMPLES, "predicted", method, of_method, metric, of_metric, seed=0, dtype="float32", draws=5
            )
            yield method_key, metric_key, of_method, of_metric, parts


def stored(method: str, metric: str, parameters: dict[str, Any], parts: dict[str, Any]) -> Record:
    """The record as it is read back from its file."""
    versions = {
        "method": METHODS[method].entry.version,
        "metric": METRICS[metric].entry.version,
        "engine": parts["engine"],
    }
    told = {name: value for name, value in parts.items() if name not in TOLD}
    made = record(
        metric, method, catalogue=METRICS[metric].entry, controls={}, key=digest(parts), key_parts=told, versions=versions,
        parameters=parameters,
    )  # fmt: skip
    return Record.model_validate_json(dumps(made))


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_key_is_that_of_its_parts(budget: str) -> None:
    for method, metric, of_method, of_metric, parts in jobs(budget):
        found = stored(method, metric, {**of_method, **of_metric}, parts)
        assert key_fits(found, of_method) is not False, (method, metric)
        forged = found.model_copy(update={"key": "0" * 32})
        assert key_fits(forged, of_method) is (None if metric == "pointing_game" else False), (method, metric)
