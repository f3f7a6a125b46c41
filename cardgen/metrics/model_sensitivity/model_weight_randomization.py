"""Model weight randomisation: do maps change when the trained model is exchanged for an untrained one?"""

from cardgen.metrics import metric
from cardgen.randomisation import scores
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="model_weight_randomization",
    title="Model Weight Randomization",
    attribute="model_sensitivity",
    question="Do maps of the trained model differ from those of the same model with random weights?",
    quantity="Spearman correlation with the maps of re-initialised models",
    unit="correlation",
    direction="lower",
    source=Source(
        paper="Arun et al. 2020", url="https://arxiv.org/abs/2008.02766", where="trained against random weights"
    ),
    rule="randomisation",
    size="again",
    needs=("weights",),
    passes=lambda n, explainer, p: n * (explainer.passes * (p["reinitialisations"] + 3) + 2),
)
def model_weight_randomization(study: Study, *, reinitialisations: int = 5) -> Scores:
    """Mean over re-initialisations of the Spearman correlation between a sample's maps from the trained and the re-initialised model.

    All parameters and normalisation statistics are drawn anew, each layer from its own seed; the class stays the trained model's
    prediction. Lower is better; between −1 and 1. The rule also needs the method's similarity to itself, under another seed and
    under weights changed by 0.1 %: a map that changes anyway says nothing by changing. Arun et al. 2020 compare by SSIM;
    Spearman's correlation of the map decides here, and that of its absolute value, SSIM, and HOG are reported.

    Args:
        study: one method on one subject.
        reinitialisations: untrained models.
    """
    return scores(study, reinitialisations)
