"""Sufficiency: how few of the most salient pixels keep the prediction by themselves?"""

from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study
from cardgen.sufficient import sufficient


@metric(
    key="sufficiency",
    title="Sufficiency",
    attribute="input_sensitivity",
    question="Do few of the most salient pixels keep the prediction by themselves?",
    quantity="share of pixels that suffice",
    unit="share",
    direction="lower",
    source=Source(paper="Carter et al. 2019", url="https://arxiv.org/abs/1810.03805", where="section 3"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"] + 1),
)
def sufficiency(study: Study, *, steps: int = 50, confidence: float = 0.9, substrate: str = "random") -> Scores:
    """The share of pixels at the first of `steps` equal insertion steps with f_c ≥ confidence · f_c(x), all others being noise.

    Smaller is better; above 0, up to 1, which the image itself always reaches. f_c is the softmax probability of the class explained.
    Not valid where the bare substrate does already: no pixel is needed then, and every map would score 0.

    Carter et al. 2019 call a set of inputs sufficient if the model decides alike on it alone, and search it by removing one input at
    a time, asking the model at each; here the map proposes the order and is judged by how short its list is (the preservation check of
    Nauta et al. 2023). Their threshold is one for all samples of a task; 0.9 of the clean probability asks the same of sure and unsure
    predictions. They put one neutral value in the place of missing inputs (as `substrate="mean"` does); a uniform random image, one a
    sample, the same for all maps, leaves the model no colour of its own to lean on.

    Args:
        study: one method on one subject.
        steps: equal steps from the bare substrate to the image.
        confidence: share of the clean probability that has to stay.
        substrate: what stands where pixels are missing.
    """
    found = sufficient(study, steps, confidence, substrate)
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    values = found.size.double() / pixels
    return Scores(values.cpu().numpy(), (found.size > 0).cpu().numpy(), study.flat())
