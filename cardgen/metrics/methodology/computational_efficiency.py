"""Computational efficiency: what one map costs."""

from dataclasses import replace
from functools import partial

import numpy as np
from torch.nn import functional as F

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.records import Source, Value
from cardgen.scores import Scores
from cardgen.study import Study
from cardgen.timing import median_seconds, peak_memory_mb

REPETITIONS = 5


@metric(
    key="computational_efficiency",
    title="Cost of a map",
    attribute="computational_efficiency",
    question="How long does one map take?",
    quantity="samples forwarded for a map (a backward pass counts as one more)",
    unit="passes",
    direction="lower",
    source=Source(
        paper="Boggust et al. 2023", url="https://doi.org/10.1145/3593013.3593997", where="computational efficiency"
    ),
    rule="descriptive",
    size="few",
    passes=lambda n, explainer, p: explainer.passes * (n * (REPETITIONS + 2) + REPETITIONS + 7),
)
def computational_efficiency(study: Study) -> Scores:
    """Samples that pass through the model for one map, counted by a hook; a pass that records gradients counts twice.

    Timing: median seconds a map of five runs after a warm-up, for one sample alone and for all samples in full batches, and the
    memory that one map takes at its peak, in MB (CUDA's allocator, or the process's resident set on Linux). Where the model takes
    other image sizes: the seconds for one sample at half and at twice the size.
    """
    device = study.subject.inputs.device
    one, everything = slice(0, 1), slice(0, study.n)
    _, passes = study.subject.memo.run(lambda: study.explain(one))
    timing: dict[str, Value] = {
        "seconds_batch_1": median_seconds(lambda: study.explain(one), device, REPETITIONS),
        "seconds_best_batch": median_seconds(lambda: study.explain(everything), device, REPETITIONS) / study.n,
        "peak_memory_mb": peak_memory_mb(lambda: study.explain(one), device) or None,
        **_at_other_sizes(study),
    }
    return Scores(np.full(study.n, float(passes)), np.ones(study.n, dtype=bool), study.flat(), timing=timing)


def _at_other_sizes(study: Study) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, scale in (("half", 0.5), ("double", 2.0)):
        inputs = F.interpolate(study.subject.inputs[:1], scale_factor=scale, mode="bilinear")
        masks = study.subject.masks
        if masks is not None:
            masks = F.interpolate(masks[:1, None].float(), size=inputs.shape[2:])[:, 0] > 0.5
        targets, ids = study.subject.targets[:1], study.subject.ids[:1]
        one = replace(study.subject, inputs=inputs, targets=targets, ids=ids, masks=masks, labels=None, synonyms=None)
        other = replace(study, subject=one, n=1)
        try:
            seconds = median_seconds(partial(other.explain, slice(0, 1)), inputs.device, 1)
        except (RuntimeError, CardgenError):  # the model takes one size only, or the image is too small to be explained
            continue
        found[f"seconds_{name}_size"] = seconds
    return found
