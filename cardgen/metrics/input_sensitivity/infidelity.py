"""Infidelity: how badly a map, read as a linear model, predicts what perturbations do to the score."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cardgen import matched
from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.perturbations import drops, gaussian, removed, squares
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

KINDS = ("square", "gaussian")
LARGEST = 10 / 28
SIGMA = 0.2
BLOCK = 50
STILL = 1e-5


@metric(
    key="infidelity",
    title="Infidelity",
    attribute="input_sensitivity",
    question="Does the map, read as a linear model, predict how the score answers to perturbations?",
    quantity="share of the score's answer that the map leaves unexplained",
    unit="ratio",
    direction="lower",
    source=Source(paper="Yeh et al. 2019", url="https://arxiv.org/abs/1901.09392", where="definition 2.1"),
    rule="vs_matched_noise",
    version=2,
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + 1 + len(KINDS) * p["perturbations"]),
)
def infidelity(study: Study, *, perturbations: int = 1000, noise_draws: int = 5, substrate: str = "black") -> Scores:
    """E[(b I·Φ − (s_c(x) − s_c(x − I)))²] / E[(s_c(x) − s_c(x − I))²], the mean over two kinds of perturbation I; s_c is the logit.

    b ≥ 0 is fitted a sample and kind on the even draws, and the expectation runs over the odd ones: scale is no merit, and without
    the sign −A would score as well as A. 0: the map predicts every answer; 1: no better than predicting none; above: worse.

    - square: the image's difference to `substrate` on a square, drawn uniformly from all squares with sides up to 10/28 of the image.
    - gaussian: normal noise with a deviation of 0.2 of the range, cut so that x − I stays within the space.

    Φ is what the map says of a unit of input. Methods that declare a baseline x̄ against which they are complete give contributions
    A = Φ ⊙ (x − x̄), so Φ = A / (x − x̄), and 0 where x = x̄ (Yeh et al., section 2). For all others Φ = A; an attribution with one
    channel stands for every channel of its pixel, so I is summed over channels. Both kinds' draws come from the sample's own generators
    and are shared by all methods: only I·Φ is computed anew.

    Parts `matched/<control>` [draws, n]: the same score of value-matched noise. Each member of the noise family lends its order, so that
    the pixel that the noise ranks k-th gets the Φ of the pixel that the method's map ranks k-th.

    Not valid where the score does not answer to either kind (root mean square below 1e-5 of the logit, or of 1).

    Reported a kind: this score; the paper's value, E[(I·A − …)²] with the Φ above, `plain_…`; and that of the authors' code, after
    scaling by the best b of either sign on all draws, `fitted_…` (both in squared logits). The authors' Gaussian is noise put in
    the image's place (I = x − ε); every draw then removes the whole image, and any map of about constant I·A, once scaled, is right.
    They enumerate all squares with sides 1 to 10 on images of 28², here `perturbations` of them are drawn.

    Args:
        study: one method on one subject; its attributions count, so maps alone do not do.
        perturbations: draws of each kind; draw k is the same whatever their number.
        noise_draws: draws of each member of the noise family.
        substrate: what stands where squares are removed.
    """
    matched.require_draws("infidelity", noise_draws)
    if perturbations < 4:
        raise CardgenError(
            f"infidelity with {perturbations} perturbations; expected at least 4; raise the parameter perturbations"
        )
    table = study.memo(
        ("infidelity", perturbations, noise_draws, substrate),
        lambda part: torch.stack(list(_rows(study, part, perturbations, noise_draws, substrate))),
    )
    valid = _answers(study, perturbations, substrate)
    scores = table[:, :, :, 0].mean(1).where(valid[:, None], 0.0)
    means = table[valid][:, :, 0].mean(0)
    return Scores(
        scores[:, 0].cpu().numpy(),
        valid.cpu().numpy(),
        study.flat(),
        parts=matched.parts(scores[:, 1:], noise_draws),
        reported={
            f"{name}{kind}": float(means[k, j]) if valid.any() else None
            for k, kind in enumerate(KINDS)
            for j, name in enumerate(("", "fitted_", "plain_"))
        },
    )


def _drops(study: Study, n: int, kind: str, perturbations: int, substrate: str) -> Float[Tensor, "n draws"]:
    """s_c(x) − s_c(x − I), forwarded once a subject."""
    subject = study.subject

    def compute(part: slice) -> Tensor:
        if kind == "gaussian":
            return drops(subject, part, perturbations, gaussian(subject, SIGMA))
        places = squares(subject, part.stop, perturbations, LARGEST)
        return drops(subject, part, perturbations, removed(subject, places, substrate))

    return subject.per_sample(("drops", kind, perturbations, substrate), n, compute)


def _answers(study: Study, perturbations: int, substrate: str) -> Tensor:
    """Samples whose score answers to both kinds, on the draws that are scored."""
    targets = study.subject.targets[: study.n, None]
    bar = STILL * study.subject.logits(study.n).gather(1, targets)[:, 0].abs().clamp_min(1)
    found = [_drops(study, study.n, kind, perturbations, substrate)[:, 1::2] for kind in KINDS]
    return torch.stack([kind.square().mean(1).sqrt() > bar for kind in found]).all(0)


def _rows(
    study: Study, part: slice, perturbations: int, noise_draws: int, substrate: str
) -> Iterator[Float[Tensor, "kinds maps 3"]]:
    """For each sample and kind, of the method's own Φ and then of value-matched noise: score, fitted, plain."""
    subject, whole = study.subject, study.upto(part.stop)
    vectors, order = _per_unit(whole, part), whole.order()[part]
    places = squares(subject, part.stop, perturbations, LARGEST)
    bare = subject.substrate(substrate, part.stop)
    answers = [_drops(study, part.stop, kind, perturbations, substrate)[part].double() for kind in KINDS]
    for j, i in enumerate(range(*part.indices(part.stop))):
        scale = vectors[j].abs().amax().double().clamp_min(1e-300)
        maps = matched.in_orders(vectors[j].double() / scale, order[j], matched.orders(subject, i, noise_draws))
        predicted = (
            _on_squares(subject.inputs[i].double() - bare[i].double(), maps, places[i]),
            _on_noise(study, i, maps, perturbations),
        )
        yield torch.stack([_scored(p, y[j], scale) for p, y in zip(predicted, answers, strict=True)])


def _per_unit(study: Study, part: slice) -> Float[Tensor, "m _ h w"]:
    """Φ: the attributions, divided by x − x̄ where the method's are contributions against a baseline x̄."""
    found, subject = study.attributions()[part], study.subject
    declared = study.method.complete if study.method else ""
    if not declared or found.shape[1] != subject.inputs.shape[1]:
        return found
    baseline = subject.substrate(str(study.parameters[declared]), part.stop)[part]
    away = (subject.inputs[part] - baseline).float()
    apart = away.abs() > 1e-6 * subject.space.range(away)
    return torch.where(apart, found / torch.where(apart, away, 1.0), 0.0)


def _on_squares(
    away: Float[Tensor, "c h w"], maps: Float[Tensor, "maps _ h w"], places: Int[Tensor, "draws 3"]
) -> Float[Tensor, "maps draws"]:
    """I·Φ where I is x − x̄ on a square: sums over squares, from cumulative sums."""
    total = (away.sum(0, keepdim=True) if maps.shape[1] == 1 else away).mul(maps).sum(1)
    upto = torch.nn.functional.pad(total.cumsum(1).cumsum(2), (1, 0, 1, 0))
    row, column, side = places.to(maps.device).T
    below, right = row + side, column + side
    found: Tensor = upto[:, below, right] - upto[:, row, right] - upto[:, below, column] + upto[:, row, column]
    return found


def _on_noise(
    study: Study, i: int, maps: Float[Tensor, "maps _ h w"], perturbations: int
) -> Float[Tensor, "maps draws"]:
    """I·Φ where I is Gaussian noise, drawn again in blocks."""
    shown, one = gaussian(study.subject, SIGMA), study.subject.inputs[i].double()
    found = []
    for first in range(0, perturbations, BLOCK):
        moved = one - shown(i, first, min(first + BLOCK, perturbations)).double()
        moved = moved.sum(1, keepdim=True) if maps.shape[1] == 1 else moved
        found.append(maps.flatten(1) @ moved.flatten(1).T)
    return torch.cat(found, dim=1)


def _scored(
    predicted: Float[Tensor, "maps draws"], answers: Float[Tensor, " draws"], scale: Float[Tensor, ""]
) -> Float[Tensor, "maps 3"]:
    """Of each map: the score; the value after the best scaling of either sign; the value of the attributions as they are."""
    held = answers[1::2]
    b = _best(predicted[:, ::2], answers[::2]).clamp_min(0)
    score = (b * predicted[:, 1::2] - held).square().sum(1) / held.square().sum().clamp_min(1e-300)
    fitted = (_best(predicted, answers) * predicted - answers).square().mean(1)
    plain = (scale * predicted - answers).square().mean(1)
    return torch.stack([score, fitted, plain], dim=1)


def _best(predicted: Float[Tensor, "maps draws"], answers: Float[Tensor, " draws"]) -> Float[Tensor, "maps 1"]:
    """The scalar that brings predictions closest to the answers; 0 for predictions of nothing."""
    power = predicted.square().sum(1, keepdim=True)
    return torch.where(power > 0, (predicted * answers).sum(1, keepdim=True) / power.clamp_min(1e-300), 0.0)
