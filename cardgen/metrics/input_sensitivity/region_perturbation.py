"""Region perturbation: how far the prediction falls when the most salient regions turn into noise, one after the other."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen import draws
from cardgen.curves import mean_curve, stepped
from cardgen.errors import CardgenError
from cardgen.forward import probabilities
from cardgen.grids import Grid, squares
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study, Subject, descending

SIDE = 9


def require_regions(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse images without room for two regions."""
    squares(example.shape[2], example.shape[3], SIDE)


@metric(
    key="region_perturbation",
    title="Region Perturbation",
    attribute="input_sensitivity",
    question="Does the prediction fall without the most salient regions?",
    quantity="mean drop of the prediction over the steps",
    unit="probability",
    direction="higher",
    source=Source(paper="Samek et al. 2017", url="https://arxiv.org/abs/1509.06321", where="section III, AOPC"),
    rule="vs_noise",
    size="maps",
    fits=require_regions,
    passes=lambda n, explainer, p: n * (explainer.passes + p["steps"] + 1),
)
def region_perturbation(study: Study, *, steps: int = 100, side: int = SIDE, substrate: str = "random") -> Scores:
    """AOPC: 1/(L+1) Σ_{k=0}^{L} (f_c(x) − f_c(x^k)), x^k the image with its k most salient regions replaced by uniform noise.

    Higher is better; in probabilities, so −1 to 1. L = `steps`, or all regions where there are fewer. Regions are whole squares of
    `side` pixels, in order of the summed signed map; ties in the sample's own random order. The margin that no whole region fits into,
    less than half a side on each edge, stays as it is: cut regions would be ranked by their size.

    Samek et al. 2017, section III, on the classifier's output for the image's class; here on the softmax probability of the class
    explained. They repeat the draw of the noise and average. Here a pixel's noise is drawn once a sample, in each channel uniform over
    its range, and is the same for all maps and in every step, so that maps differ in nothing but their order; the average over samples
    takes the place of repetitions. Quantus pads images until regions divide them, leaves out k = 0, gives one drop a step, and
    replaces by one colour unless told otherwise.

    Args:
        study: one method on one subject.
        steps: regions perturbed at most, L.
        side: of a region, in pixels.
        substrate: what regions turn into.
    """
    if steps < 1:
        raise CardgenError(f"region_perturbation in {steps} steps; expected at least 1; raise the parameter steps")
    values = _curve(study, steps, side, substrate)
    return Scores(
        (values[:, :1] - values).double().mean(1).cpu().numpy(),
        np.ones(study.n, dtype=bool),
        study.flat(),
        curve=mean_curve(values, "share of steps", "probability of the class"),
    )


def _curve(study: Study, steps: int, side: int, background: str) -> Float[Tensor, "n taken"]:
    """f_c(x^0) … f_c(x^L). Once all regions are gone, one forward pass serves all maps."""
    subject = study.subject
    grid = squares(subject.inputs.shape[2], subject.inputs.shape[3], side)
    regions = grid.regions().to(subject.inputs.device)
    last = int(regions.max()) + 1
    inner = min(steps, last - 1)

    def compute(part: slice) -> Tensor:
        inputs, bare = subject.inputs[part], subject.substrate(background, part.stop)[part]
        order = _order(study, part, grid)
        # the step at which each region goes; the margin, region −1, after all of them
        of_region = order.new_full((len(order), last + 1), last + 1)
        of_region.scatter_(1, order, torch.arange(1, last + 1, device=order.device).expand_as(order))
        found = [
            subject.clean(part.stop)[part][:, None],
            stepped(subject, subject.targets[part], of_region[:, regions], inner, inputs, bare)[..., 1].exp(),
        ]
        if steps >= last:
            found.append(_all_gone(subject, part.stop, regions >= 0, side, background)[part, None])
        return torch.cat(found, dim=1)

    return study.memo(("regions gone", steps, side, subject.same_colour(background)), compute)


def _order(study: Study, part: slice, grid: Grid) -> Int[Tensor, "m regions"]:
    """Regions of some samples from the most to the least salient; ties in each sample's own random order."""
    subject = study.subject
    sums = grid.sums(study.upto(part.stop).maps()[part]).flatten(1)

    def random(some: slice) -> Tensor:
        return draws.permutations(subject.ids[some], sums.shape[1], subject.seed, "ties of regions").to(sums.device)

    ties = subject.per_sample(("ties of regions", sums.shape[1]), part.stop, random)[part]
    return ties.gather(1, descending(sums.gather(1, ties)))


def _all_gone(subject: Subject, n: int, inside: Bool[Tensor, "h w"], side: int, background: str) -> Float[Tensor, " n"]:
    """f_c without any region: the bare background, in the image's margin if there is one."""
    if inside.all():
        return subject.removed(background, n)

    def compute(part: slice) -> Tensor:
        bare = subject.substrate(background, part.stop)[part]
        found = probabilities(subject.model, torch.where(inside, bare, subject.inputs[part]), subject.batch)
        return found.gather(1, subject.targets[part, None])[:, 0]

    return subject.per_sample(("all regions gone", side, subject.same_colour(background)), n, compute)
