"""Saliency methods made on the spot, and studies of them."""

from cardgen.draws import content_ids
from cardgen.methods import Method
from cardgen.metrics import METRICS
from cardgen.records import MethodEntry, Source
from cardgen.study import Study, Subject


def made_method(function, *, access="none", passes=0, reduction="sum", **fields):
    """A method of any function (model, inputs, targets, context, *, hyperparameters) → attributions."""
    entry = MethodEntry(
        key="made",
        title="Made",
        source=Source(paper="Nobody 2026", url="https://example.org"),
        access=access,
        reduction=reduction,
        signed=True,
        random=False,
    )
    return Method(entry, function, lambda parameters: passes, **fields)


def study_of(small, method, *, batch=32, **parameters):
    """A study of a method on a small subject."""
    subject = Subject(
        small.model, small.inputs, small.targets, content_ids(small.inputs), masks=small.masks, batch=batch
    )
    return Study(subject, len(subject), method, method.parameters(parameters))


def measured(key, small, method, *, batch=32, **parameters):
    """Scores of a metric, with its default parameters."""
    metric = METRICS[key]
    return metric.measure(study_of(small, method, batch=batch, **parameters), metric.parameters({}))
