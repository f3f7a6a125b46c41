"""Deletion correlation: does a pixel's saliency say how much the class's probability falls when it goes?"""

from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.step_correlation import step_correlation
from cardgen.study import Study


@metric(
    key="deletion_correlation",
    title="Deletion Correlation",
    attribute="input_sensitivity",
    question="Do pixels of higher saliency take more of the prediction with them when they are removed?",
    quantity="correlation of the drops along the deletion curve with the saliency removed",
    unit="correlation",
    direction="higher",
    source=Source(paper="Gomez et al. 2022", url="https://arxiv.org/abs/2201.13291", where="deletion correlation"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"]) + 1,
)
def deletion_correlation(study: Study, *, steps: int = 50, substrate: str = "mean") -> Scores:
    """Pearson's correlation, over steps k, of f_c before less f_c after step k with the mean saliency of the pixels removed at step k.

    f_c is the softmax probability of the class explained, along the curve of deletion: most salient pixels first, `steps` equal
    steps, ties broken at random from the sample's own generator. Higher is better; −1 to 1. Deletion asks for the order only; this
    asks whether values go with effects. Scale and offset of the map do not matter, a monotone change of its values does.
    Maps without information do not score 0: removing pixels in any order moves f_c more in some steps than in others, and their saliency
    falls from step to step by construction. So the score means nothing without that of noise on the same samples.

    Not valid, and counted as flat: constant maps, and samples whose drops have a standard deviation below 1e-6, where float32's
    rounding is all there is to correlate. The rule gives them no lead over anything; where noise moves nothing either, there is no such
    quantity for the sample. Reported: `still`, the samples of the second kind.

    Gomez, Fréour, Mouchère 2022, DC; their code takes a model that ends in a softmax. They step over the cells of the map's own grid, at
    most 196 times; here steps are 1/50 of the pixels, as deletion's. Their code gives all steps ⌊cells/steps⌋ cells and stops with an
    error where that does not come out even; here steps are rounded and each mean is over its own count. What they call black is 0
    in the model's own space; here it is the data's mean, as in deletion, so that both share their forward passes. A constant map or
    curve gives them NaN.

    Args:
        study: one method on one subject.
        steps: equal steps from the image to the bare substrate.
        substrate: what stands where pixels are removed.
    """
    return step_correlation(study, steps, substrate, insert=False)
