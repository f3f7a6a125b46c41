"""How likely each label stays when only the pixels are kept that its own map calls most salient: g_AUC of Gupta et al. 2022."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cardgen import draws
from cardgen.curves import between, check_steps
from cardgen.errors import CardgenError
from cardgen.forward import with_classes
from cardgen.study import Study, Subject, ordered

LIKELY = 0.01
"""ε₁: the least probability of a label that a map has to account for."""


def top_labels(subject: Subject, n: int, count: int) -> Int[Tensor, "n k"]:
    """Up to `count` labels of each sample: the class explained, then the others from the most probable on."""
    if count < 1:
        raise CardgenError(f"{count} labels a sample; expected at least 1; raise the parameter labels")
    targets = subject.targets[:n, None]
    falling = with_classes(subject.probabilities(n), targets[:, 0]).scatter(1, targets, torch.inf)
    return falling.argsort(dim=1, descending=True, stable=True)[:, :count]


def drawn_labels(subject: Subject, n: int, count: int) -> Int[Tensor, "n k"]:
    """Up to `count` labels of each sample that are none of its `top_labels`, drawn at random from its own generator."""
    top, classes = top_labels(subject, n, count), subject.probabilities(n).shape[1]

    def compute(part: slice) -> Tensor:
        return draws.permutations(subject.ids[part], classes, subject.seed, "labels").to(top.device)

    shuffled = subject.per_sample("shuffled labels", n, compute)
    taken = torch.zeros_like(shuffled).scatter_(1, top, 1).gather(1, shuffled)
    return shuffled.gather(1, taken.argsort(dim=1, stable=True))[:, : min(count, classes - top.shape[1])]


def top_areas(study: Study, count: int, steps: int, substrate: str, *, likely: bool) -> Float[Tensor, "n k"]:
    """g_AUC of those `top_labels` that are at least, or less than, LIKELY; 0 for the others, which cost nothing."""

    def compute(part: slice) -> Tensor:
        labels = top_labels(study.subject, part.stop, count)[part]
        probable = study.subject.probabilities(part.stop)[part].gather(1, labels) >= LIKELY
        return _areas(study.upto(part.stop), part, labels, probable == likely, steps, substrate)

    return study.memo(("g_AUC", count, steps, substrate, likely), compute)


def drawn_areas(study: Study, count: int, steps: int, substrate: str) -> Float[Tensor, "n k"]:
    """g_AUC of the `drawn_labels`."""

    def compute(part: slice) -> Tensor:
        labels = drawn_labels(study.subject, part.stop, count)[part]
        wanted = torch.ones_like(labels, dtype=torch.bool)
        return _areas(study.upto(part.stop), part, labels, wanted, steps, substrate)

    return study.memo(("g_AUC of drawn labels", count, steps, substrate), compute)


def _areas(study: Study, part: slice, labels: Tensor, wanted: Tensor, steps: int, substrate: str) -> Tensor:
    """g_AUC of the wanted labels of some samples, in float64, pair by pair of sample and label."""
    found = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
    rows, columns = wanted.nonzero(as_tuple=True)
    for start in range(0, len(rows), study.subject.batch):
        pairs = (rows[start : start + study.subject.batch], columns[start : start + study.subject.batch])
        found[pairs] = _area(study, part.start + pairs[0], labels[pairs], steps, substrate)
    return found


def _area(
    study: Study, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"], steps: int, substrate: str
) -> Float[Tensor, " m"]:
    """The mean over s = step … n of f_a of the image with its top s pixels kept; the last of these is the image itself."""
    subject = study.subject
    check_steps(steps, subject.inputs.shape[2] * subject.inputs.shape[3])
    order = ordered(study.maps_of(rows, labels), subject.ties(study.n)[rows])
    bare = subject.substrate(substrate, study.n)[rows]
    inner = between(subject, subject.inputs[rows], labels, bare, order, steps, insert=True)
    whole = subject.probabilities(study.n)[rows, labels]
    found: Tensor = (inner[..., 1].exp().double().sum(1) + whole.double()) / steps
    return found
