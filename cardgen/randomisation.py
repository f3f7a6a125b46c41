"""Maps of the same method under other weights, or of another model: what all metrics of model sensitivity share, measured once."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cardgen.recipes import Reseed, Sibling, Weights
from cardgen.records import Curve
from cardgen.scores import Scores
from cardgen.similarity import hog_similarity, spearman, spearman_abs, ssim
from cardgen.study import Study

JITTER = 1e-3
NEGLIGIBLE = 0.01
MEASURES = {"spearman": spearman, "spearman_abs": spearman_abs, "ssim": ssim, "hog": hog_similarity}
RANKS = ("spearman", "spearman_abs")
"""Those by which the rule of randomisation may judge."""


def to_reset(study: Study, recipe: Weights) -> Float[Tensor, "n measures"]:
    """Similarity of the original maps to those with layers re-initialised, under every measure."""

    def compute(part: slice) -> Tensor:
        return _alike(study.upto(part.stop).maps()[part], study.map_of(study.explain(part, recipe)))

    return study.memo(("to_reset", recipe), compute)


def to_sibling(study: Study, recipe: Sibling) -> Float[Tensor, "n measures"]:
    """Similarity of the original maps to those of a sibling model, under every measure."""

    def compute(part: slice) -> Tensor:
        whole = study.upto(part.stop)
        return _alike(whole.maps()[part], whole.maps(recipe)[part])

    return study.memo(("to_sibling", recipe), compute)


def _alike(original: Float[Tensor, "n h w"], other: Float[Tensor, "n h w"]) -> Float[Tensor, "n measures"]:
    return torch.stack([measure(original, other) for measure in MEASURES.values()], dim=1)


def self_similarity(study: Study, *, jittered: bool) -> Float[Tensor, "n ranks"]:
    """Rank correlations of the original maps with those of another method seed, or of weights jittered by 1e-3."""
    recipe = Weights(jitter=JITTER) if jittered else Reseed(1)

    def compute(part: slice) -> Tensor:
        original, other = study.upto(part.stop).maps()[part], study.map_of(study.explain(part, recipe))
        return torch.stack([MEASURES[name](original, other) for name in RANKS], dim=1)

    return study.memo(("self_similarity", recipe), compute)


def negligible(study: Study) -> Bool[Tensor, " n"]:
    """Samples on which the jitter of the weights moves no class's probability by 0.01 or more."""
    subject, n = study.subject, study.n
    moved = (subject.probabilities(n, Weights(jitter=JITTER)) - subject.probabilities(n)).abs().amax(1)
    return moved < NEGLIGIBLE


def between_images(study: Study, measure: str = "spearman") -> Float[Tensor, " n"]:
    """Rank correlation of each sample's map with the next sample's: how alike maps of different images are anyway."""
    maps = study.maps()
    return MEASURES[measure](maps, maps.roll(1, dims=0))


def scores(study: Study, draws: int, curve: Curve | None = None) -> Scores:
    """Scores for the randomisation rule, with all layers re-initialised `draws` times."""
    layers = len(study.subject.layers)
    found = torch.stack([to_reset(study, Weights(reset=layers, draw=draw)) for draw in range(draws)])
    return against_itself(study, found, curve)


def against_itself(
    study: Study,
    found: Float[Tensor, "draws n measures"],
    curve: Curve | None = None,
    valid: Bool[Tensor, " n"] | None = None,
    judged: str = "spearman",
) -> Scores:
    """Scores for the randomisation rule, from the similarity of maps to those of something else, under every measure.

    Values are the mean over draws of the rank correlation that is `judged`, one of `RANKS`. Parts, by the same: `similarity` [draws, n],
    and `self` [n], the method's similarity to itself, under another seed or under jittered weights, whichever is lower on average;
    samples whose prediction the jitter moves, 1 in `refused` [n], take part with the former. Samples that are not `valid`, if given,
    have no part in any mean; one must be.
    """
    found = found.double()
    kept = torch.ones(study.n, dtype=torch.bool, device=found.device) if valid is None else valid
    accepted = negligible(study)
    rank, similarity = RANKS.index(judged), found[..., list(MEASURES).index(judged)]
    reseeded = self_similarity(study, jittered=False)[:, rank]
    jittered = torch.where(accepted, self_similarity(study, jittered=True)[:, rank], reseeded)
    others = {f"mean_{name}": float(found[:, kept, i].mean()) for i, name in enumerate(MEASURES) if name != judged}
    return Scores(
        similarity.mean(0).cpu().numpy(),
        kept.cpu().numpy(),
        study.flat(),
        parts={
            "similarity": similarity.cpu().numpy(),
            "self": min(reseeded, jittered, key=lambda similarity: float(similarity[kept].mean())).cpu().numpy(),
            "refused": (~accepted).double().cpu().numpy(),
        },
        reported={
            **others,
            "self_reseeded": float(reseeded[kept].mean()),
            "self_jittered": float(jittered[kept].mean()),
            "jitter_refused": int((kept & ~accepted).sum()),
            **({"between_images": float(between_images(study, judged).mean())} if study.n > 1 else {}),
        },
        curve=curve,
    )
