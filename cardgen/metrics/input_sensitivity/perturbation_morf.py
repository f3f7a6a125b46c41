"""Perturbation testing, most relevant first: how fast the class's logit falls as pixels are set to zero."""

import numpy as np

from cardgen.curves import area, logit_curve, mean_curve
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="perturbation_morf",
    title="Perturbation Testing (Most Relevant First)",
    attribute="input_sensitivity",
    question="Does the score fall without the most relevant pixels?",
    quantity="area under the curve, most relevant first",
    unit="logit",
    direction="lower",
    source=Source(paper="Ancona et al. 2017", url="https://arxiv.org/abs/1711.06104", where="perturbation, MoRF"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"]) + 1,
)
def perturbation_morf(study: Study, *, steps: int = 50, substrate: str = "zero") -> Scores:
    """∫₀¹ s_c(x with the share t of most relevant pixels set to zero) dt, by the trapezoid rule over `steps` equal steps.

    s_c is the logit of the class explained. Lower is better; no bounds, as logits have none: what a sample's curve can reach lies
    near s_c(x) and s_c of the bare substrate, whose means are reported. Scores are not divided by that range, which may be zero
    or below; the rule compares with noise on the same sample, whose logits have the same scale.

    Pixels rank by the map with its sign, from the largest value to the smallest, so pixels that speak against the class go last; a
    pixel goes with all its channels. Ties are broken at random, from the sample's own generator. Zero is 0 in the model's own
    space: the data's mean where that was subtracted, black where nothing was. Deletion differs in the score (probability) and the
    substrate; where zero is the data's mean both take the same forward passes.

    Ancona, Ceolini, Öztireli, Gross 2017 set features to zero and plot the score; the order is that of Samek et al. 2017, who take
    regions and noise. The area under the curve is this package's summary.

    Args:
        study: one method on one subject.
        steps: equal steps from the image to the bare substrate.
        substrate: what stands where pixels are removed.
    """
    values = logit_curve(study, steps, substrate, insert=False)
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    return Scores(
        area(values, pixels).cpu().numpy(),
        np.ones(study.n, dtype=bool),
        study.flat(),
        reported={
            "on_image": float(values[:, 0].double().mean()),
            "on_substrate": float(values[:, -1].double().mean()),
        },
        curve=mean_curve(values, "share of pixels set to zero", "logit of the class"),
    )
