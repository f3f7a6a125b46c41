"""Model contrast score: do objects matter more to the model that names them than to one that names the scene behind them?"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cardgen import matched
from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.recipes import ORIGINAL, Sibling
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import is_flat
from cardgen.soft_masks import normalised
from cardgen.study import Study

SCENE = Sibling("scene")


@metric(
    key="model_contrast_score",
    title="Model Contrast Score",
    attribute="label_sensitivity",
    question="Is the map brighter on the object for the model of objects than for one of scenes?",
    quantity="mean of the normalised map on the object, less that of the scene model's map",
    unit="fraction",
    direction="higher",
    source=Source(paper="Yang & Kim 2019", url="https://arxiv.org/abs/1907.09701", where="model contrast score"),
    rule="contrast_matched_noise",
    size="again",
    needs=("masks", "weights"),
    siblings=lambda p: (SCENE,),
    other_networks=True,
    passes=lambda n, explainer, p: n * (2 * explainer.passes + 1),
)
def model_contrast_score(study: Study, *, noise_draws: int = 5) -> Scores:
    """The mean over the mask of Â minus that of Â', Â the map of the model, Â' that of the scene model, each min–max normalised.

    Both explain what they themselves predict of the same image. Higher is better; between −1 and 1; 0 for a map that is the same for both.
    Not valid where one of the two maps is flat, and has no normalised form, and for an empty mask or a full one, where no order matters.

    Parts `matched/<control>` [draws, n]: the same of noise that lends its order to both maps, whose own sorted values fill it. A map that
    is brighter for one model than for the other all over has a contrast, and beats none of these.

    Yang & Kim 2019 normalise otherwise (their code): positive values summed over channels, from their minimum to their 99th percentile,
    cut off at 1; and they take images only that both models get right. Here the map is the method's own, by its declared reduction, and
    every image counts. Of a map with negative values the minimum then decides where 0 comes to lie, so the contrast by their
    normalisation, of the same map, is reported.

    Args:
        study: one method on one subject.
        noise_draws: draws of each member of the noise family.

    Raises:
        CardgenError: no masks, no scene model, or one that cannot be explained.
    """
    matched.require_draws("model_contrast_score", noise_draws)
    subject = study.subject
    if subject.masks is None:
        raise CardgenError(
            "model_contrast_score needs ground-truth masks; the data has none; give masks= or a masks/ folder"
        )
    masks = subject.masks.flatten(1)

    def compute(part: slice) -> Tensor:
        whole = study.upto(part.stop)
        one, other = (
            torch.stack([normalised(saliency).flatten() for saliency in maps[part]])
            for maps in (whole.maps(recipe) for recipe in (ORIGINAL, SCENE))
        )
        ranked = one.sort(1, descending=True).values - other.sort(1, descending=True).values
        rows = []
        for j, i in enumerate(range(*part.indices(part.stop))):
            inside = _shares(masks[i])
            others = inside[matched.orders(subject, i, noise_draws)] @ ranked[j]
            rows.append(torch.cat([(inside @ (one[j] - other[j]))[None], others]))
        return torch.stack(rows)

    table = study.memo(("model_contrast_score", noise_draws), compute)
    masks = masks[: study.n]
    exists = masks.any(1) & ~masks.all(1)
    flat = (is_flat(study.maps()) | is_flat(study.maps(SCENE))) & exists
    counted = exists & ~flat
    one, other = (_published(study.maps(recipe)) for recipe in (ORIGINAL, SCENE))
    published = ((one - other) * masks).sum(1) / masks.sum(1).clamp_min(1)
    return Scores(
        table[:, 0].cpu().numpy(),
        counted.cpu().numpy(),
        flat.cpu().numpy(),
        parts=matched.parts(table[:, 1:], noise_draws),
        reported={"mean_published_normalisation": float(published[counted].mean())} if bool(counted.any()) else {},
    )


def _shares(mask: Bool[Tensor, " p"]) -> Float[Tensor, " p"]:
    """What each pixel weighs in the mean over the mask."""
    return mask.double() / mask.sum().clamp_min(1)


def _published(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n p"]:
    """Positive values from their minimum to their 99th percentile, as 0 to 1; 0 where these are one."""
    values = maps.flatten(1).double().clamp_min(0)
    # row by row: torch takes no quantile of more than 16 million values at once
    low, high = values.amin(1, keepdim=True), torch.stack([row.quantile(0.99) for row in values])[:, None]
    return ((values - low) / torch.where(high > low, high - low, torch.inf)).clamp(0, 1)
