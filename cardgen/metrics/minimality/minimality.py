"""Minimality: how much do the most salient pixels hold that the prediction does not need?"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
    question="Do the most salient pixels hold little that the prediction does not need?",
    quantity="share of the image that the sufficient set holds without need",
    unit="share",
    direction="lower",
    source=Source(paper="Carter et al. 2019", url="https://arxiv.org/abs/1810.03805", where="section 3"),
    rule="vs_noise",
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + 2 * p["steps"] + 1),
)
def minimality(study: Study, *, steps: int = 50, confidence: float = 0.9, substrate: str = "random") -> Scores:
    """(|S| − |S'|) / (h·w): S the map's sufficient set (see sufficiency), S' what stays of it once all has gone that can go.

    S is visited in `steps` groups of equal size in the order of saliency, the least salient first; a group goes for good if f_c
    stays at or above confidence · f_c(x) without it. Smaller is better; 0, all is needed, to 1. f_c is the softmax probability of the
    class explained. Not valid where the bare substrate is enough: there is no set then, whatever the map.

    Carter et al. 2019 call a sufficient set minimal if no input can be removed from it; they show for single inputs how little they
    matter in the sets of other methods. What is left over is counted in shares of the image, not of S: noise needs nearly all pixels,
    and two thirds of those nearly all are needed as well, since each is as good as any other. On digits on scenes, n = 40, the share of
    S that can go is .32 to .37 for noise and .40 for the planted truth, which so would fail; in shares of the image these are .26 and .21.

    Reported, as means over samples: `sufficient`, |S| / (h·w); `needed`, |S'| / (h·w); `of_set`, the share of S that can go.

    Args:
        study: one method on one subject.
        steps: of the insertion curve that finds S, and groups that S is visited in.
        confidence: share of the clean probability that has to stay.
        substrate: what stands where pixels are missing.
    """
    found = sufficient(study, steps, confidence, substrate)
    needed = study.memo(
        ("needed", steps, confidence, study.subject.same_colour(substrate)),
        lambda part: _needed(study, part, sufficient(study.upto(part.stop), steps, confidence, substrate), substrate),
    )
    valid = found.size > 0
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    size, left = found.size.double() / pixels, needed.double() / pixels
    means = {"sufficient": size, "needed": left, "of_set": 1 - left / size.clamp_min(1 / pixels)}
    return Scores(
        (size - left).cpu().numpy(),
        valid.cpu().numpy(),
        study.flat(),
        reported={name: float(values[valid].mean()) if valid.any() else None for name, values in means.items()},
    )


def _needed(study: Study, part: slice, found: Sufficient, background: str) -> Int[Tensor, " m"]:
    """Pixels that stay of each sufficient set.

    The curve has shown already that the most salient pixels up to any of its steps inside the set are too few, and that is not asked
    again: a group whose going would leave just those stays.
    """
    size, bar, ends = found.size[part], found.bar[part], found.ends
    order = study.upto(part.stop).order()[part]
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    shown = place < size[:, None]
    steps = len(ends) - 1
    # places at which the groups of each set begin and end
    edges = (2 * size[:, None] * torch.arange(steps + 1, device=size.device) + steps) // (2 * steps)
    for start, stop in reversed(list(zip(edges.T[:-1, :, None], edges.T[1:, :, None], strict=True))):
        rest = shown & ((place < start) | (place >= stop))
        count = rest.sum(1)
        too_few = (count == start[:, 0]) & torch.isin(count, ends)
        rows = ((start < stop)[:, 0] & ~too_few).nonzero()[:, 0]
        if len(rows):
            enough = rows[_probabilities(study.subject, part, rows, rest[rows], background) >= bar[rows]]
            shown[enough] = rest[enough]
    return shown.sum(1)


def _probabilities(
    subject: Subject, part: slice, rows: Int[Tensor, " k"], shown: Bool[Tensor, "k p"], background: str
) -> Float[Tensor, " k"]:
    """f_c of some samples with only some of their pixels shown, the background in place of all others."""
    inputs, bare = subject.inputs[part], subject.substrate(background, part.stop)[part]
    masks, places = shown.view(-1, 1, *inputs.shape[2:]).to(inputs.dtype), rows.tolist()

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        torch.lerp(bare[places[i]], inputs[places[i]], masks[i], out=out[0])

    like, targets = inputs[:1].expand(len(rows), -1, -1, -1), subject.targets[part][rows]
    return variant_probabilities(subject.model, like, targets, 1, write, subject.batch)[:, 0]
