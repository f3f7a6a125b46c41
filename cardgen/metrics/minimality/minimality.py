"""Minimality: how much of the sufficient set is not needed?"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cardgen.curves import counts
from cardgen.forward import variant_probabilities
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study, Subject
from cardgen.sufficient import Sufficient, sufficient


@metric(
    key="minimality",
    title="Minimality",
    attribute="minimality",
    question="Does the map leave out what the prediction does not need?",
    quantity="share of the image that its sufficient set holds without need",
    unit="share",
    direction="lower",
    source=Source(paper="Carter et al. 2019", url="https://arxiv.org/abs/1810.03805", where="section 3"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + 2 * p["steps"] + 1),
)
def minimality(study: Study, *, steps: int = 50, confidence: float = 0.9, substrate: str = "random") -> Scores:
    """TODO"""
    found = sufficient(study, steps, confidence, substrate)
    left = study.memo(
        ("left", steps, confidence, study.subject.same_colour(substrate)),
        lambda part: _left(study, part, Sufficient(*(value[part] for value in found)), steps, substrate),
    )
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    values = (found.size - left).double() / pixels
    return Scores(values.cpu().numpy(), (found.size > 0).cpu().numpy(), study.flat(), parts={"size": (found.size/pixels).double().cpu().numpy(), "left": (left/pixels).double().cpu().numpy()})


def _left(study: Study, part: slice, found: Sufficient, steps: int, background: str) -> Int[Tensor, " m"]:
    """Pixels of each sufficient set that stay when its groups, the least salient first, go wherever enough is left without them.

    Sets that the curve has shown to be too small are not asked for again: the most salient pixels up to one of its steps.
    """
    subject = study.subject
    place = torch.empty_like(study.upto(part.stop).order()[part])
    order = study.upto(part.stop).order()[part]
    pixels = order.shape[1]
    place.scatter_(1, order, torch.arange(pixels, device=order.device).expand_as(order))
    # [m, steps + 1], the sets' own steps
    ends = (torch.arange(steps + 1, device=order.device) * found.size[:, None] * 2 + steps) // (2 * steps)
    shown = place < found.size[:, None]
    known = counts(pixels, steps).to(order.device)
    for group in reversed(range(steps)):
        start, stop = ends[:, group, None], ends[:, group + 1, None]
        rest = shown & ((place < start) | (place >= stop))
        count = rest.sum(1)
        prefix = count == start[:, 0]
        asked = (start != stop)[:, 0] & ~(prefix & torch.isin(count, known))
        rows = asked.nonzero()[:, 0]
        enough = _probabilities(subject, part, rows, rest, background) >= found.bar[rows]
        shown[rows[enough]] = rest[rows[enough]]
    return shown.sum(1)


def _probabilities(
    subject: Subject, part: slice, rows: Int[Tensor, " k"], shown: Bool[Tensor, "m p"], background: str
) -> Float[Tensor, " k"]:
    """f_c of some samples with all but some of their pixels in the background."""
    inputs, bare = subject.inputs[part], subject.substrate(background, part.stop)[part]
    picked = rows.tolist()
    masks = shown.view(-1, 1, *inputs.shape[2:]).to(inputs.dtype)

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        row = picked[i]
        torch.lerp(bare[row], inputs[row], masks[row], out=out[0])

    targets = subject.targets[part][rows]
    return variant_probabilities(subject.model, inputs[rows], targets, 1, write, subject.batch)[:, 0]
