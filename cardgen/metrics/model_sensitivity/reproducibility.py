"""Reproducibility: are maps the same for a model of another architecture that has learnt the same?"""

from cardgen.consistency import among_images
from cardgen.metrics import metric
from cardgen.randomisation import to_sibling
from cardgen.recipes import Sibling
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

OTHER = Sibling("architecture")


@metric(
    key="reproducibility",
    title="Reproducibility",
    attribute="model_sensitivity",
    question="Are maps alike for two models of different architectures that have learnt the same?",
    quantity="structural similarity to the maps of the other architecture",
    direction="higher",
    source=Source(paper="Arun et al. 2020", url="https://arxiv.org/abs/2008.02766", where="reproducibility"),
    rule="vs_baseline",
    size="again",
    requires=("model_weight_randomization",),
    siblings=lambda p: (OTHER,),
    other_networks=True,
    passes=lambda n, explainer, p: n * explainer.passes * 2,
)
def reproducibility(study: Study) -> Scores:
    """SSIM of a sample's maps from the model and from one of another architecture that was trained on the same data.

    As repeatability otherwise: maps normalised each by itself, the original prediction's class, higher is better, between −1 and 1;
    judged against maps of different images of the same model, a part `baseline`, and only beside a pass of model weight randomisation.
    Methods of class activation take the layer of the same name, or the other model's own last features. Spearman's correlation is
    reported. Arun et al. 2020 compare an InceptionV3 with a DenseNet-121.

    Raises:
        CardgenError: there is no such sibling, or the method cannot explain it.
    """
    return among_images(study, to_sibling(study, OTHER)[None])
