"""Insertion: how fast the class's probability rises when the most salient pixels come first."""

import numpy as np

from cardgen.curves import area, curve, mean_curve
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="insertion",
    title="Insertion",
    attribute="input_sensitivity",
    question="Does the prediction return when the pixels called most salient are put back first?",
    quantity="area under the insertion curve",
    unit="probability",
    direction="higher",
    source=Source(paper="Petsiuk et al. 2018", url="https://arxiv.org/abs/1806.07421", where="section 4.1"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"] + 1),
)
def insertion(study: Study, *, steps: int = 50, substrate: str = "blur") -> Scores:
    """∫₀¹ f_c(substrate with the share t of most salient pixels put back) dt, by the trapezoid rule over `steps` equal steps.

    f_c is the softmax probability of the class predicted on the original image. Higher is better; range 0 to 1. The substrate is
    the image under a true Gaussian (σ = 5, 11 taps, mirrored at the border); the authors' code blurs with a kernel that is itself
    mirrored at its border. Ties are broken at random, from the sample's own generator. Petsiuk, Das, Saenko 2018, section 4.1.

    IAUC of Gomez, Fréour, Mouchère 2022 is the same over the cells of the map's own grid; their paper divides the curve by its maximum,
    their code does not, and explains the class of the blurred image unless told which.

    Args:
        study: one method on one subject.
        steps: equal steps from the bare substrate to the image.
        substrate: what the image's pixels are put into.
    """
    values = curve(study, steps, substrate, insert=True)
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    return Scores(
        area(values, pixels).cpu().numpy(),
        np.ones(study.n, dtype=bool),
        study.flat(),
        curve=mean_curve(values, "share of pixels put back", "probability of the class"),
    )
