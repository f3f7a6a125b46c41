"""Digests of what identifies a record, and whether a record's key is the one that its parts give. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import combinations

from cardgen.records import Record, Value

SHORT = 12
"""Characters of a digest that stands in a key's part."""
EXACT, HALVINGS = 2, 1024
"""A stored number of so few digits, or of so small a power of two below, is taken for itself; others may be rounded."""
SHARED = 2
"""Parameters of a method and a metric that may have one name."""


def digest(parts: object) -> str:
    """The first 128 bits of the sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()[
        :32
    ]


def key_fits(record: Record, method_parameters: Mapping[str, Value]) -> bool | None:
    """Whether a record's key is the digest of what the record tells; None where rounded parameters leave that open.

    A record holds the parameters of method and metric together, the method's first, so every way to tell them apart is tried.

    Args:
        record: to check.
        method_parameters: of its method.json; none where it has none.
    """
    parts = {
        **record.key_parts,
        "engine": record.versions.get("engine"),
        "method": f"{record.method} {record.versions.get('method')}",
        "metric": f"{record.metric} {record.versions.get('metric')}",
    }
    for of_method, of_metric in _ways(record.parameters, method_parameters):
        shorts = {"method_parameters": digest(of_method)[:SHORT], "metric_parameters": digest(of_metric)[:SHORT]}
        if record.key == digest({**parts, **shorts}):
            return True
    return None if any(map(_rounded, record.parameters.values())) else False


def _ways(parameters: Mapping[str, Value], known: Mapping[str, Value]) -> Iterator[tuple[Mapping[str, Value], ...]]:
    """Parameters of the method, and of the metric; names that both have stand only once."""
    items = list(parameters.items())
    for at in range(len(items) + 1):
        first, rest = dict(items[:at]), dict(items[at:])
        for size in range(min(at, SHARED) + 1):
            for shared in combinations(first.items(), size):
                # what stands is the metric's; the method's own is told elsewhere, beside sizes that a budget may have cut here
                own = {name: known[name] for name, _ in shared if name in known}
                yield from ((method, {**rest, **dict(shared)}) for method in (first, {**first, **own}))


def _rounded(value: Value) -> bool:
    return isinstance(value, float) and float(f"{value:.{EXACT}g}") != value and value.as_integer_ratio()[1] > HALVINGS
