"""Curves of the class's score as pixels go or come in the order of their saliency."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.forward import variant_scores, with_classes
from cardgen.records import Curve
from cardgen.study import Study, Subject

POINTS = 11


def counts(pixels: int, steps: int) -> Int[Tensor, " {steps}+1"]:
    """Pixels changed after each step: k·pixels / steps, rounded half up; the first is 0, the last all of them."""
    return (torch.arange(steps + 1) * pixels * 2 + steps) // (2 * steps)


def check_steps(steps: int, pixels: int) -> None:
    """Refuse steps that make no curve."""
    most = min(pixels, torch.iinfo(torch.int16).max)
    if not 1 < steps <= most:
        raise CardgenError(
            f"a curve of {steps} steps over {pixels} pixels; expected 2 to {most} steps; set the parameter steps, or give larger images"
        )


def curve(study: Study, steps: int, background: str, *, insert: bool) -> Float[Tensor, "n {steps}+1"]:
    """f_c after 0 … `steps` equal steps in descending order of saliency.

    `insert` false: the image, with pixels replaced by the background; true: the background, with the image's pixels put back. The two ends
    are the clean image and the bare background, forwarded once for all maps.
    """
    return _scores(study, steps, background, insert)[..., 1].exp()


def logit_curve(study: Study, steps: int, background: str, *, insert: bool) -> Float[Tensor, "n {steps}+1"]:
    """The same of s_c, the logit, from the same forward passes."""
    return _scores(study, steps, background, insert)[..., 0]


def _scores(study: Study, steps: int, background: str, insert: bool) -> Float[Tensor, "n {steps}+1 2"]:
    """s_c and log f_c along the curve."""
    subject = study.subject
    pixels = subject.inputs.shape[2] * subject.inputs.shape[3]
    check_steps(steps, pixels)

    def compute(part: slice) -> Tensor:
        targets = subject.targets[part]
        bare, order = subject.substrate(background, part.stop)[part], study.upto(part.stop).order()[part]
        inner = between(subject, subject.inputs[part], targets, bare, order, steps, insert=insert)
        scores = [subject.logits(part.stop)[part], subject.bare(background, part.stop)[part]]
        ends = [_of_target(with_classes(found, targets), targets) for found in scores]
        return torch.cat([ends[insert], inner, ends[not insert]], dim=1)

    return study.memo(("curve", steps, subject.same_colour(background), insert), compute)


def stepped(
    subject: Subject,
    targets: Int[Tensor, " m"],
    of_pixel: Int[Tensor, "m h w"],
    steps: int,
    old: Float[Tensor, "m c h w"],
    new: Float[Tensor, "m c h w"],
) -> Float[Tensor, "m {steps} 2"]:
    """s_c and log f_c after each step: at step k all pixels numbered up to k have turned from old to new, the first at 1."""
    ks = torch.arange(1, steps + 1, dtype=of_pixel.dtype, device=of_pixel.device).view(-1, 1, 1, 1)
    shown = old.new_empty(min(subject.batch, steps), 1, *old.shape[2:])

    def write(i: int, first: int, last: int, out: Tensor) -> None:
        # lerp by 0 or 1 is exact, and on CPUs twice as fast as where
        torch.lerp(old[i], new[i], torch.le(of_pixel[i], ks[first:last], out=shown[: last - first]), out=out)

    return variant_scores(subject.model, old, targets, steps, write, subject.batch)


def _of_target(logits: Float[Tensor, "m k"], targets: Int[Tensor, " m"]) -> Float[Tensor, "m 1 2"]:
    both = torch.stack([logits, logits.log_softmax(1)], dim=2)
    return both[torch.arange(len(targets), device=both.device), targets][:, None]


def between(
    subject: Subject,
    inputs: Float[Tensor, "m c h w"],
    targets: Int[Tensor, " m"],
    bare: Float[Tensor, "m c h w"],
    order: Int[Tensor, "m p"],
    steps: int,
    *,
    insert: bool,
) -> Float[Tensor, "m {steps}-1 2"]:
    """s_c and log f_c of any samples after 1 … `steps` − 1 equal steps through an order of their pixels: a curve without its two ends."""
    pixels = order.shape[1]
    # the step at which each place in the order changes
    of_place = torch.searchsorted(counts(pixels, steps)[1:], torch.arange(pixels), right=True) + 1
    of_pixel = torch.empty_like(order, dtype=torch.int16)
    of_pixel.scatter_(1, order, of_place.to(order.device, torch.int16).expand_as(order))
    old, new = (bare, inputs) if insert else (inputs, bare)
    return stepped(subject, targets, of_pixel.view(-1, *inputs.shape[2:]), steps - 1, old, new)


def area(values: Float[Tensor, "n k"], pixels: int) -> Float[Tensor, " n"]:
    """Area under each curve by the trapezoid rule, over the share of pixels changed, from 0 to 1, in float64."""
    share = counts(pixels, values.shape[1] - 1).to(values.device, torch.float64) / pixels
    return torch.trapezoid(values.double(), share, dim=1)


def mean_curve(values: Float[Tensor, "n k"], x_label: str, y_label: str) -> Curve:
    """The mean over samples, thinned to at most 11 points, evenly over the steps."""
    mean = values.double().mean(0).cpu()
    chosen = torch.linspace(0, len(mean) - 1, min(POINTS, len(mean))).round().long()
    return Curve(x_label=x_label, y_label=y_label, y=mean[chosen].tolist())
