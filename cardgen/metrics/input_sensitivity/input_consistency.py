"""Input consistency: is the map the same when words are swapped for synonyms?"""

from jaxtyping import Float
from torch import Tensor

from cardgen.consistency import against, other_samples
from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.perturbations import keeps
from cardgen.recipes import Inputs
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import spearman
from cardgen.study import Study, Subject


def in_other_words(subject: Subject, part: slice) -> Float[Tensor, "m c h w"]:
    """Some samples with their words swapped for synonyms.

    Raises:
        CardgenError: there are none.
    """
    if subject.synonyms is None:
        raise CardgenError(
            "input_consistency needs the same samples in other words; the data has none; give synonyms=, of the inputs' shape"
        )
    return subject.synonyms[part]


SYNONYMS = Inputs("synonyms", in_other_words)


@metric(
    key="input_consistency",
    title="Input Consistency",
    attribute="input_sensitivity",
    question="Are maps alike when words are swapped for synonyms?",
    quantity="Spearman correlation with the map of the text in other words",
    unit="correlation",
    direction="higher",
    source=Source(paper="Ding & Koehn 2021", url="https://arxiv.org/abs/2104.05824", where="input consistency"),
    rule="vs_baseline",
    size="again",
    needs=("synonyms",),
    requires=("model_weight_randomization",),
    passes=lambda n, explainer, p: n * (2 * explainer.passes + 2),
)
def input_consistency(study: Study) -> Scores:
    """Spearman correlation of a text's map with the map of the same text in other words, position by position.

    Texts come as embeddings `[n, c, 1, words]`, each paired with one as long in which words are swapped for synonyms. The class is the
    original prediction, for both. Higher is better; between −1 and 1. Not valid where the swap moves the prediction: the model then
    reads something else. Judged against the similarity of maps of different texts, a part `baseline`, of the next five samples. Noise
    keeps its maps whatever the text says, at a correlation of 1, so that no method could beat it; a pass requires instead that
    maps depend on the model.

    Ding & Koehn 2021 have no baseline. Their code takes Pearson's correlation, after values below a share of the largest magnitude are
    put to zero, and leaves out pairs of different lengths.

    Raises:
        CardgenError: the samples have no synonyms.
    """
    similarity = spearman(study.maps(), study.maps(SYNONYMS))
    valid = keeps(study.subject, study.n, SYNONYMS)
    baseline = other_samples(study, "spearman")
    return against(
        study, similarity[None], baseline[None], "maps of different texts", {"moved": int((~valid).sum())}, valid
    )
