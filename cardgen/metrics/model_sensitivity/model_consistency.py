"""Model consistency: are maps the same for the model once it is compressed?"""

import torch

from cardgen.consistency import against
from cardgen.metrics import metric
from cardgen.randomisation import MEASURES, to_reset, to_sibling
from cardgen.recipes import Sibling, Weights
from cardgen.records import Source, Value
from cardgen.scores import Scores
from cardgen.study import Study

COMPRESSED = (Sibling("compressed", "pruned"), Sibling("compressed", "int8"))


@metric(
    key="model_consistency",
    title="Model Consistency",
    attribute="model_sensitivity",
    question="Are maps alike for the model and for its compressed self?",
    quantity="Spearman correlation with the maps of the compressed model",
    unit="correlation",
    direction="higher",
    source=Source(paper="Ding & Koehn 2021", url="https://arxiv.org/abs/2104.05824", where="model consistency"),
    rule="vs_baseline",
    size="again",
    needs=("weights",),
    requires=("model_weight_randomization",),
    siblings=lambda p: COMPRESSED,
    other_networks=True,
    passes=lambda n, explainer, p: n * explainer.passes * (1 + len(COMPRESSED) + p["reinitialisations"]),
)
def model_consistency(study: Study, *, reinitialisations: int = 5) -> Scores:
    """Spearman correlation of a sample's maps from the model and from its compressed self; the mean over two ways to compress.

    Pruned: the smallest half of all weights at zero, then tuned further. int8: weights rounded to eight bits, activations left as
    they are (`cardgen.subjects.compression`). Both predict as the model does, so that their maps should be alike; the class is the
    original prediction. Higher is better; between −1 and 1. Judged against the correlation with maps of the model re-initialised, parts
    `baseline`; noise keeps its maps whatever the model, and so has no lead, and a pass requires that maps do depend on it. Each
    compression is reported. The two are no sample of ways to compress, so the interval is over images, and draws of the baseline.

    Ding & Koehn 2021 take distilled language models, and have no baseline; their code takes Pearson's correlation, after values below
    1 % of the largest magnitude are put to zero.

    Args:
        study: one method on one subject.
        reinitialisations: untrained models.

    Raises:
        CardgenError: a compressed model is not there, or cannot be explained.
    """
    rank = list(MEASURES).index("spearman")
    similarity = torch.stack([to_sibling(study, sibling)[:, rank] for sibling in COMPRESSED])
    layers = len(study.subject.layers)
    draws = [Weights(reset=layers, draw=draw) for draw in range(reinitialisations)]
    baseline = torch.stack([to_reset(study, recipe)[:, rank] for recipe in draws])
    reported: dict[str, Value] = {
        f"mean_{sibling.variant}": float(found.mean()) for sibling, found in zip(COMPRESSED, similarity, strict=True)
    }
    return against(study, similarity.mean(0, keepdim=True), baseline, "maps of the model with random weights", reported)
