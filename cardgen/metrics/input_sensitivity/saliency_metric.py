"""Saliency metric: how small a box around the most salient pixels still shows the class."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cardgen.boxes import cropped, share, tightest
from cardgen.forward import variant_log_probabilities
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

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
    source=Source(
        paper="Dabkowski & Gal 2017", url="https://arxiv.org/abs/1705.07857", where="section 4.1, saliency metric"
    ),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + len(SHARES) + 2),
)
def saliency_metric(study: Study) -> Scores:
    """min over α of log(max(a, 0.05)) − log f_c(x cropped to the tightest box around the share α of most salient pixels).

    a is the box's area as a share of the image; the crop is resized bilinearly to the size of the input; f_c is the softmax probability
    of the class explained. Lower is better; the whole image, log 1 − log f_c(x), is one of the boxes. Ties are broken at random, from
    the sample's own generator. Dabkowski & Gal 2017, who ask how well a small crop is recognised, without artefacts of masking.

    The threshold. The paper takes masks that are nearly binary, and thresholds other maps at an α chosen on held-out images. A score
    would then rest on other samples, and every subject would have to set some aside. Here each sample takes the box, of the same 15,
    that serves it best, and noise does so too: it gains more by choosing, so that nothing passes by the choice. Thresholds are shares
    of pixels, not multiples of the map's mean: these read the map's values, and noise has others; random blobs would be given small
    boxes, which score well by themselves where there are few classes (log 0.05 + log 10 = −0.7), and noise would be given none.

    Reported: `share`, the one α that is best on average, and `at_share`, the mean score with it, which is what the paper's choice comes
    to when made on these samples; `at_mean`, the mean score with boxes around the pixels above the map's mean, as Zolna et al. 2018
    report it, though without their restriction to the largest connected region (a flat map has the whole image); `area`, the mean
    share of the image of the boxes that serve best.
    """
    table = study.memo("boxes", lambda part: _table(study.upto(part.stop), part))
    scores = table[:, :, 0].clamp_min(SMALLEST).log() - table[:, :, 1]
    tried = scores[:, :-1]
    best, single = tried.argmin(1, keepdim=True), tried.mean(0)
    return Scores(
        tried.gather(1, best)[:, 0].cpu().numpy(),
        np.ones(study.n, dtype=bool),
        study.flat(),
        reported={
            "share": (*SHARES, 1.0)[int(single.argmin())],
            "at_share": float(single.min()),
            "at_mean": float(scores[:, -1].mean()),
            "area": float(table[:, :, 0].gather(1, best).mean()),
        },
    )


def _table(study: Study, part: slice) -> Float[Tensor, "m k 2"]:
    """Area and log f_c of each box: those of SHARES, the whole image, and that of the pixels above the mean."""
    subject, maps = study.subject, study.maps()[part].flatten(1).double()
    inputs, targets, pixels = subject.inputs[part], subject.targets[part], maps.shape[1]
    kept = torch.tensor([max(1, round(alpha * pixels)) for alpha in (*SHARES, 1.0)], device=maps.device)
    above = (maps > maps.mean(1, keepdim=True)).sum(1, keepdim=True)
    kept = torch.cat([kept.expand(len(maps), -1), above.where(above > 0, pixels)], dim=1)
    boxes = tightest(study.order()[part], kept, inputs.shape[3])
    crops = torch.cat([boxes[:, :-2], boxes[:, -1:]], dim=1)

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        out.copy_(cropped(inputs[i], crops[i, first:last]))

    found = variant_log_probabilities(subject.model, inputs, targets, crops.shape[1], write, subject.batch)
    whole = subject.logits(part.stop)[part].log_softmax(1).gather(1, targets[:, None])
    logs = torch.cat([found[:, :-1], whole, found[:, -1:]], dim=1)
    return torch.stack([share(boxes, pixels), logs.double()], dim=2)
