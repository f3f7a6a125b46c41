"""What `cardgen list` prints."""

from collections.abc import Iterator, Mapping

from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.records import Value
from cardgen.subjects.embedded import MODELS


def lines(what: str) -> Iterator[str]:
    """Lines on all methods, metrics or subjects."""
    if what == "methods":
        for key, method in sorted(METHODS.items(), key=lambda item: (item[1].entry.control, item[0])):
            kind = f"control ({method.entry.control})" if method.entry.control else f"needs {method.entry.access}"
            yield f"{key:24} {method.entry.title}; {kind}{_parameters(method.defaults)}"
    elif what == "metrics":
        for key, metric in sorted(METRICS.items(), key=lambda item: (item[1].entry.attribute, item[0])):
            needs = f"; needs {', '.join(metric.entry.needs)}" if metric.entry.needs else ""
            yield f"{key:28} {metric.entry.attribute}: {metric.entry.question}{needs}{_parameters(metric.defaults)}"
    else:
        for key, (classes, description, data) in MODELS.items():
            yield f"{key} on {data}: {len(classes)} classes; {description}"


def _parameters(defaults: Mapping[str, Value]) -> str:
    return "; " + ", ".join(f"{name}={value}" for name, value in defaults.items()) if defaults else ""
