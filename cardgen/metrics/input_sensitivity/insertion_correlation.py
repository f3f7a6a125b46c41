"""Insertion correlation: does a pixel's saliency say how much the class's probability rises when it comes?"""

from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.step_correlation import step_correlation
from cardgen.study import Study


@metric(
    key="insertion_correlation",
    title="Insertion Correlation",
    attribute="input_sensitivity",
    question="Do pixels of higher saliency bring more of the prediction with them when they are put back?",
    quantity="correlation of the rises along the insertion curve with the saliency put back",
    unit="correlation",
    direction="higher",
    source=Source(paper="Gomez et al. 2022", url="https://arxiv.org/abs/2201.13291", where="insertion correlation"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"] + 1),
)
def insertion_correlation(study: Study, *, steps: int = 50, substrate: str = "blur") -> Scores:
    """Pearson's correlation, over steps k, of f_c after less f_c before step k with the mean saliency of the pixels put back at step k.

    f_c is the softmax probability of the class explained, on the original image, along the curve of insertion: most salient pixels
    first, into the blurred image. Higher is better; −1 to 1. What counts as flat, what noise scores, and how steps differ from the
    authors' code: see deletion_correlation. Gomez, Fréour, Mouchère 2022, IC; their code explains the class of the blurred image
    unless told which, and blurs with a zero-padded box, here with insertion's Gaussian.

    Args:
        study: one method on one subject.
        steps: equal steps from the bare substrate to the image.
        substrate: what the image's pixels are put into.
    """
    return step_correlation(study, steps, substrate, insert=True)
