"""Data randomisation: do maps differ from those of a model that has learnt random labels?"""

from cardgen.metrics import metric
from cardgen.randomisation import against_itself, to_sibling
from cardgen.recipes import Sibling
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

RANDOM = Sibling("random-labels")


@metric(
    key="data_randomization",
    title="Data Randomization",
    attribute="label_sensitivity",
    question="Do maps differ from those of a model that was trained on random labels?",
    quantity="Spearman correlation of the magnitudes of maps with those of the model of random labels",
    unit="correlation",
    direction="lower",
    source=Source(paper="Adebayo et al. 2018", url="https://arxiv.org/abs/1810.03292", where="section 3.2"),
    rule="randomisation",
    size="again",
    needs=("weights",),
    siblings=lambda p: (RANDOM,),
    other_networks=True,
    passes=lambda n, explainer, p: n * (4 * explainer.passes + 2),
)
def data_randomization(study: Study) -> Scores:
    """Spearman correlation of |A| with |A'|, A' the map of a model of the same architecture that has learnt random labels by heart.

    Lower is better; between −1 and 1. The class is the prediction of the original model, for both. A map that depends on what the labels
    teach differs: both models fit their labels, and only one of them had something to learn from the images. As in all randomisation
    metrics the rule also needs the method's similarity to itself, of |A| too, under another seed and under weights changed by
    0.1 %: a map that changes anyway says nothing by changing. Spearman's correlation of A itself, SSIM and HOG are reported.

    Adebayo et al. 2018, section 3.2, show the rank correlation with and without absolute values, and judge by eye. One sibling is
    compared with, as in the paper: the interval is over images, and tells nothing of other random labels.

    Raises:
        CardgenError: there is no such sibling, or it cannot be explained.
    """
    return against_itself(study, to_sibling(study, RANDOM)[None], judged="spearman_abs")
