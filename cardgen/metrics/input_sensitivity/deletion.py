"""Deletion: how fast the class's probability falls when the most salient pixels go first."""

import numpy as np

from cardgen.curves import area, curve, mean_curve
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="deletion",
    title="Deletion",
    attribute="input_sensitivity",
    question="Does the prediction fall when the pixels called most salient are removed first?",
    quantity="area under the deletion curve",
    unit="probability",
    direction="lower",
    source=Source(paper="Petsiuk et al. 2018", url="https://arxiv.org/abs/1806.07421", where="section 4.1"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"]) + 1,
)
def deletion(study: Study, *, steps: int = 50, substrate: str = "mean") -> Scores:
    """∫₀¹ f_c(x with the share t of most salient pixels replaced) dt, by the trapezoid rule over `steps` equal steps, step 0 included.

    f_c is the softmax probability of the class explained, unnormalised. Lower is better; range 0 to 1. Ties in the map are broken
    at random, from the sample's own generator. Petsiuk, Das, Saenko 2018, section 4.1; they fix the number of pixels a step at
    224 = 1/224 of the image, here it is 1/50, and the substrate is the data's mean, as in their code.

    DAUC of Gomez, Fréour, Mouchère 2022 is the same over the cells of the map's own grid; their paper divides the curve by its maximum,
    their code does not. Quantus leaves step 0 out and gives every step a width of 1.

    Args:
        study: one method on one subject.
        steps: equal steps from the image to the bare substrate.
        substrate: what stands where pixels are removed.
    """
    values = curve(study, steps, substrate, insert=False)
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    return Scores(
        area(values, pixels).cpu().numpy(),
        np.ones(study.n, dtype=bool),
        study.flat(),
        curve=mean_curve(values, "share of pixels removed", "probability of the class"),
    )
