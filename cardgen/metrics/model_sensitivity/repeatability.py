"""Repeatability: are maps the same for a model that was trained again?"""

from collections.abc import Mapping
from typing import Any

import torch

from cardgen.consistency import among_images
from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.randomisation import to_sibling
from cardgen.recipes import Sibling
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


def seeds(parameters: Mapping[str, Any]) -> tuple[Sibling, ...]:
    """The models trained again, from 1 on."""
    return tuple(Sibling("seed", k + 1) for k in range(parameters["models"]))


@metric(
    key="repeatability",
    title="Repeatability",
    attribute="model_sensitivity",
    question="Are maps alike for two models of one architecture that were trained from different seeds?",
    quantity="structural similarity to the maps of the model trained again",
    direction="higher",
    source=Source(paper="Arun et al. 2020", url="https://arxiv.org/abs/2008.02766", where="repeatability"),
    rule="vs_baseline",
    size="again",
    requires=("model_weight_randomization",),
    siblings=seeds,
    other_networks=True,
    passes=lambda n, explainer, p: n * explainer.passes * (1 + p["models"]),
)
def repeatability(study: Study, *, models: int = 1) -> Scores:
    """SSIM of a sample's maps from the model and from the same architecture trained from another seed; the mean over such models.

    Maps are normalised by minimum and maximum, each by itself; the class is the original prediction. Higher is better; between −1 and 1.
    Judged against the similarity of maps of different images of the same model, a part `baseline`: each sample's map against those of the
    next five samples, flat ones left out. Noise keeps its maps whatever the model, so a pass requires that maps do depend on it.
    Spearman's correlation is reported, of both.

    Arun et al. 2020 train an InceptionV3 twice, and set its SSIM (their code: in skimage's uniform window of 7 × 7) beside that of two
    networks trained to detect or to segment. The baseline of different images, of 50 random pairs, is theirs for randomised weights.

    Args:
        study: one method on one subject.
        models: trained again, 1 or more; with one, the interval is over images and tells nothing of further seeds.

    Raises:
        CardgenError: a model that is not there or cannot be explained, or none asked for.
    """
    if models < 1:
        raise CardgenError(f"repeatability with {models} models; expected 1 at least; raise the parameter models")
    return among_images(study, torch.stack([to_sibling(study, seed) for seed in seeds({"models": models})]))
