"""Cascading randomisation: how maps change as layers are re-initialised from the top down."""

import torch

from cardgen.metrics import metric
from cardgen.randomisation import scores, to_reset
from cardgen.recipes import Weights
from cardgen.records import Curve, Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="cascading_randomization",
    title="Cascading Randomization",
    attribute="model_sensitivity",
    question="Do maps change as the model's layers lose their weights, from the last to the first?",
    quantity="Spearman correlation after the last layer, the same measurement as Model Weight Randomization",
    unit="correlation",
    direction="lower",
    source=Source(paper="Adebayo et al. 2018", url="https://arxiv.org/abs/1810.03292", where="section 3"),
    rule="randomisation",
    size="again",
    needs=("weights",),
    passes=lambda n, explainer, p: (
        n * (explainer.passes * (p["reinitialisations"] + 3) + 2)
        + min(n, p["curve_samples"]) * explainer.passes * p["reinitialisations"] * (p["depths"] - 1)
    ),
)
def cascading_randomization(
    study: Study, *, reinitialisations: int = 5, depths: int = 8, curve_samples: int = 16
) -> Scores:
    """Spearman correlation of a sample's map with its maps as layers are re-initialised from the top down; the last point is judged.

    Layers are the modules with parameters or statistics of their own, in the order of execution; weights and normalisation statistics
    are drawn anew, each layer from its own seed, the same in every point. Lower is better; between −1 and 1. The untouched model's
    similarity of 1 is not part of any average. The curve holds at most `depths` points, evenly spaced over the layers, and all but its last
    rest on the first `curve_samples` samples. Adebayo et al. 2018, section 3: they judge curves by eye.

    Args:
        study: one method on one subject.
        reinitialisations: draws of the weights.
        depths: points of the curve.
        curve_samples: samples behind all of its points but the last.
    """
    layers = len(study.subject.layers)
    points = sorted({round(layers * (i + 1) / depths) for i in range(depths)} - {0})
    few = study.first(curve_samples)
    means = [
        float(
            torch.stack(
                [
                    to_reset(few if k < layers else study, Weights(reset=k, draw=draw))[:, 0]
                    for draw in range(reinitialisations)
                ]
            ).mean()
        )
        for k in points
    ]
    curve = Curve(
        x_label="share of layers re-initialised, from the top",
        y_label="Spearman correlation with the original maps",
        x=[k / layers for k in points],
        y=means,
    )
    return scores(study, reinitialisations, curve)
