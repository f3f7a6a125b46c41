"""Plausibility: how much of the map's mass lies where people say that it should."""

import torch
from torch import Tensor

from cardgen import matched
from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="plausibility",
    title="Plausibility",
    attribute="perceptual_correspondence",
    question="Does the map's mass lie on what people marked as the evidence?",
    quantity="share of the map's positive mass inside the mask",
    unit="fraction",
    direction="higher",
    source=Source(paper="Ding & Koehn 2021", url="https://arxiv.org/abs/2104.05824", where="plausibility"),
    rule="vs_matched_noise",
    version=2,
    size="maps",
    needs=("masks",),
)
def plausibility(study: Study, *, noise_draws: int = 5) -> Scores:
    """Σ_mask max(A, 0) / Σ max(A, 0). Higher is better; 0 to 1.

    A map without a positive value puts its mass nowhere; it scores as if it were spread evenly, with the mask's share of the image,
    as a flat map does. It so stays in, and leads over nothing; how many there are is reported, `without_mass`. Not valid for an empty
    mask or a full one, where all maps score alike.

    Parts `matched/<control>` [draws, n]: the same of the map's own values in the order of each noise control. Without them any map of
    one bright spot could be lucky, and none of even brightness could be good.

    Ding & Koehn 2021 ask of a language model's saliency whether it favours cue words over attractors; in an image all pixels outside
    the mask are the latter. The share of mass is the relevance mass accuracy of Arras et al. 2022. Quantus' sums values as they are, so
    that negative ones make shares below 0 and above 1.

    Args:
        study: one method on one subject.
        noise_draws: draws of each member of the noise family.
    """
    matched.require_draws("plausibility", noise_draws)
    subject = study.subject
    if subject.masks is None:
        raise CardgenError("plausibility needs ground-truth masks; the data has none; give masks= or a masks/ folder")
    masks = subject.masks.flatten(1)

    def compute(part: slice) -> Tensor:
        whole = study.upto(part.stop)
        maps, order = whole.maps()[part].flatten(1), whole.order()[part]
        rows = []
        for j, i in enumerate(range(*part.indices(part.stop))):
            ranked = maps[j, order[j]].double().clamp_min(0)
            total = ranked.sum()
            ranked = ranked / total if total > 0 else torch.full_like(ranked, 1 / len(ranked))
            orders = torch.cat([order[j][None], matched.orders(subject, i, noise_draws)])
            rows.append(masks[i][orders].double() @ ranked)
        return torch.stack(rows)

    table = study.memo(("plausibility", noise_draws), compute)
    masks = masks[: study.n]
    valid = (masks.any(1) & ~masks.all(1)).cpu().numpy()
    empty = (study.maps().flatten(1).amax(1) <= 0).cpu().numpy()
    return Scores(
        table[:, 0].cpu().numpy(),
        valid,
        study.flat() & valid,
        parts=matched.parts(table[:, 1:], noise_draws),
        reported={"without_mass": int((empty & valid).sum())},
    )
