"""Perturbation testing, least relevant first: how long the class's logit lasts as pixels are set to zero."""

import numpy as np

from cardgen.curves import area, logit_curve, mean_curve
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="perturbation_lerf",
    title="Perturbation Testing (Least Relevant First)",
    attribute="input_sensitivity",
    question="Does the score last without the least relevant pixels?",
    quantity="area under the curve, least relevant first",
    unit="logit",
    direction="higher",
    source=Source(paper="Ancona et al. 2017", url="https://arxiv.org/abs/1711.06104", where="perturbation, LeRF"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"]) + 1,
)
def perturbation_lerf(study: Study, *, steps: int = 50, substrate: str = "zero") -> Scores:
    """∫₀¹ s_c(x with the share t of least relevant pixels set to zero) dt, by the trapezoid rule over `steps` equal steps.

    s_c is the logit of the class explained. Higher is better; no bounds: see perturbation_morf, which says what a sample's curve
    can reach, and what zero, the signed order and ties are. The smallest values go first, so removing pixels that speak against
    the class may raise the logit above that of the image.

    Computed as insertion into the substrate, most relevant first, and read backwards: the same images, and the same area. Where the
    pixels are no multiple of the steps, the last step of insertion is the first here.

    Ancona, Ceolini, Öztireli, Gross 2017; the order is that of Samek et al. 2017. The area is this package's summary.

    Args:
        study: one method on one subject.
        steps: equal steps from the image to the bare substrate.
        substrate: what stands where pixels are removed.
    """
    values = logit_curve(study, steps, substrate, insert=True)
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    return Scores(
        area(values, pixels).cpu().numpy(),
        np.ones(study.n, dtype=bool),
        study.flat(),
        reported={
            "on_image": float(values[:, -1].double().mean()),
            "on_substrate": float(values[:, 0].double().mean()),
        },
        curve=mean_curve(values.flip(1), "share of pixels set to zero", "logit of the class"),
    )
