"""Completeness: do the attributions add up to what the class's score gains over the baseline?"""

import torch

from cardgen.forward import with_classes
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

ROUNDING = 1e-4


@metric(
    key="completeness",
    title="Completeness",
    attribute="input_sensitivity",
    question="Do the attributions sum to the difference between the class's score on the image and on the baseline?",
    quantity="relative error of the attributions' sum",
    direction="lower",
    source=Source(paper="Sundararajan et al. 2017", url="https://arxiv.org/abs/1703.01365", where="section 3"),
    rule="axiom",
    size="maps",
    requires=("model_weight_randomization",),
    passes=lambda n, explainer, p: n * (explainer.passes + 1) + 1,
)
def completeness(study: Study, *, substrate: str = "black") -> Scores:
    """|Σ A − (s_c(x) − s_c(x̄))| / |s_c(x) − s_c(x̄)|: the relative error of a sample's attributions, summed over pixels and channels.

    s_c is the logit of the class explained, x̄ the baseline that the method declares (a hyperparameter of its own), else `substrate`.
    0 is exact; the rule counts the samples within its tolerance. An attribution that is zero everywhere is no explanation of any
    difference: not valid, and flat, so that it is a miss. A sample whose score hardly differs from the baseline's, by less than 1e-4 of
    the larger of the two and 1, is not valid either, since float32's rounding alone is a relative error of a hundredth or more there; it
    does not count, whatever its attributions, of which zero are right. Sundararajan, Taly, Yan 2017, section 3,
    proposition 1, where it is an equality. Quantus and others test equality of floats, on the map's own channels, against one
    baseline for all methods, and so let no method pass.

    Args:
        study: one method on one subject; its attributions count, so maps alone do not do.
        substrate: the baseline of methods that declare none.
    """
    subject, n = study.subject, study.n
    attributions = study.attributions().double().flatten(1)
    declared = study.method.complete if study.method else ""
    baseline = str(study.parameters[declared]) if declared else substrate
    targets = subject.targets[:n, None]
    on_image = with_classes(subject.logits(n), subject.targets[:n]).double().gather(1, targets)[:, 0]
    on_baseline = subject.bare(baseline, n).double().gather(1, targets)[:, 0]
    difference = on_image - on_baseline
    size = torch.maximum(on_image.abs(), on_baseline.abs()).clamp_min(1)
    differs = difference.abs() > ROUNDING * size
    valid = differs & attributions.any(1)
    errors = torch.where(valid, (attributions.sum(1) - difference).abs() / difference.abs().clamp_min(1e-300), 0.0)
    found = errors[valid]
    return Scores(
        errors.cpu().numpy(),
        valid.cpu().numpy(),
        study.flat() & differs.cpu().numpy(),
        reported={
            "baseline": baseline,
            "median_error": float(found.median()) if len(found) else None,
            "no_difference": int((~differs).sum()),
        },
        reason="" if declared else "The method makes no such claim.",
    )
