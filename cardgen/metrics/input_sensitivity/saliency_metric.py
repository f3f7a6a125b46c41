"""Saliency metric: how small a box around the most salient pixels still shows the class."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cardgen import draws
from cardgen.boxes import cropped, moved, share, tightest
from cardgen.errors import CardgenError
from cardgen.forward import variant_log_probabilities
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study, Subject

SHARES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
"""α: the shares of most salient pixels whose boxes are tried, at least one pixel each; beside the whole image."""
SMALLEST = 0.05


@metric(
    key="saliency_metric",
    title="Saliency Metric",
    attribute="input_sensitivity",
    question="Does the model still see the class in a small box around the most salient pixels?",
    quantity="log of the box's share of the image less log of the class's probability in the crop",
    unit="nats",
    direction="lower",
    source=Source(paper="Dabkowski & Gal 2017", url="https://arxiv.org/abs/1705.07857", where="saliency metric"),
    rule="matched_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + 2 + len(SHARES) * (1 + p["noise_draws"])),
)
def saliency_metric(study: Study, *, noise_draws: int = 5) -> Scores:
    """min over α of log(max(a, 0.05)) − log f_c(x cropped to the tightest box around the share α of most salient pixels).

    a is the box's area as a share of the image; the crop is resized bilinearly to the size of the input; f_c is the softmax probability
    of the class explained. Lower is better; the whole image, log 1 − log f_c(x), is one of the boxes. Ties are broken at random, from
    the sample's own generator. Dabkowski & Gal 2017, who ask how well a small crop is recognised, without artefacts of masking.

    The threshold. The paper takes masks that are nearly binary, and thresholds other maps at an α chosen on held-out images. A score
    would then rest on other samples, and every subject would have to set some aside. Here each sample takes the box, of the same 15,
    that serves it best. Thresholds are shares of pixels, not multiples of the map's mean, so that values do not count.

    The control. Where there are few classes small boxes score well wherever they lie (log 0.05 + log 10 = −0.7), and maps of one
    compact blob have more of them than noise: on digits on scenes a random blob beats every member of the noise family, by 0.39
    standard deviations (n = 96). So the map is compared with its own boxes: part `matched/own_boxes_elsewhere` [draws, n] holds the same
    score of boxes of the same sizes, each placed at random, from the sample's own generator.

    Reported: `share`, the one α that is best on average, and `at_share`, the mean score with it, which is what the paper's choice comes
    to when made on these samples; `at_mean`, the mean score with boxes around the pixels above the map's mean, as Zolna et al. 2018
    threshold, though without their restriction to the largest connected region (a flat map has the whole image); `area`, the mean
    share of the image of the boxes that serve best.

    Args:
        study: one method on one subject.
        noise_draws: times that the boxes are placed at random; draw k is the same whatever their number.
    """
    if noise_draws < 1:
        raise CardgenError(
            f"{noise_draws} draws of boxes elsewhere; expected at least 1; raise the parameter noise_draws"
        )
    boxes = _boxes(study)
    own = study.memo("scores of boxes", lambda part: _scores(study.subject, part, _boxes(study.upto(part.stop))[part]))
    whole = -study.subject.logits(study.n).double().log_softmax(1).gather(1, study.subject.targets[: study.n, None])
    tried = torch.cat([own[:, :-1], whole], dim=1)
    elsewhere = [torch.minimum(_elsewhere(study, draw).amin(1), whole[:, 0]) for draw in range(noise_draws)]
    areas = torch.cat([share(boxes[:, :-1], _pixels(study.subject)), torch.ones_like(whole)], dim=1)
    best, single = tried.argmin(1, keepdim=True), tried.mean(0)
    return Scores(
        tried.gather(1, best)[:, 0].cpu().numpy(),
        np.ones(study.n, dtype=bool),
        study.flat(),
        parts={"matched/own_boxes_elsewhere": torch.stack(elsewhere).cpu().numpy()},
        reported={
            "share": (*SHARES, 1.0)[int(single.argmin())],
            "at_share": float(single.min()),
            "at_mean": float(own[:, -1].mean()),
            "area": float(areas.gather(1, best).mean()),
        },
    )


def _pixels(subject: Subject) -> int:
    return subject.inputs.shape[2] * subject.inputs.shape[3]


def _boxes(study: Study) -> Int[Tensor, "n k 4"]:
    """The boxes of SHARES, and that of the pixels above the map's mean."""
    pixels = _pixels(study.subject)

    def compute(part: slice) -> Tensor:
        whole = study.upto(part.stop)
        maps = whole.maps()[part].flatten(1).double()
        kept = torch.tensor([max(1, round(alpha * pixels)) for alpha in SHARES], device=maps.device)
        above = (maps > maps.mean(1, keepdim=True)).sum(1, keepdim=True)
        kept = torch.cat([kept.expand(len(maps), -1), above.where(above > 0, pixels)], dim=1)
        return tightest(whole.order()[part], kept, study.subject.inputs.shape[3])

    return study.memo("boxes", compute)


def _elsewhere(study: Study, draw: int) -> Float[Tensor, "n k"]:
    """Scores of boxes of the same sizes as those of SHARES, each placed at random."""
    subject = study.subject
    height, width = subject.inputs.shape[2:]

    def compute(part: slice) -> Tensor:
        boxes = _boxes(study.upto(part.stop))[part, :-1]
        where = draws.uniform(subject.ids[part], (len(SHARES), 2), subject.seed, "boxes elsewhere", draw)
        return _scores(subject, part, moved(boxes, where.to(boxes.device), height, width))

    return study.memo(("boxes elsewhere", draw), compute)


def _scores(subject: Subject, part: slice, boxes: Int[Tensor, "m k 4"]) -> Float[Tensor, "m k"]:
    """log(max(area, 0.05)) − log f_c of each box."""
    inputs, targets = subject.inputs[part], subject.targets[part]

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        out.copy_(cropped(inputs[i], boxes[i, first:last]))

    found = variant_log_probabilities(subject.model, inputs, targets, boxes.shape[1], write, subject.batch)
    return share(boxes, _pixels(subject)).clamp_min(SMALLEST).log() - found.double()
