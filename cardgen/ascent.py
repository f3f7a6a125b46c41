"""The worst perturbation that a search finds in a ball: corners drawn at random, and gradient ascent on how far attributions move."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from cardgen.forward import all_logits
from cardgen.perturbations import corner, within
from cardgen.recipes import Inputs
from cardgen.similarity import relative_difference
from cardgen.study import Study

NOTHING = 1e-6
"""A gradient that promises less than this share of the distance moved so far is rounding."""
DEAD = 1e-4
"""Share of the steepest value below which a value stays where it is: its sign may be rounding."""


@dataclass(eq=False)
class Search:
    """A search for the x + δ, δ in the ∞-ball of `radius` times each channel's range, whose attributions are furthest from those of x.

    Call k explains one more point of each sample: where k is even, corner k of the ball. Where k is odd, and the method's attributions
    can be differentiated, the best point so far moves by `reach` diameters along the sign of the gradient of ½‖A(x + δ) − A(x)‖₂²,
    projected onto the ball and the space; the reach starts at 1 and halves where that is no gain. Where there is no gradient, or it is
    zero, as for the slopes of networks that are linear in pieces, it is corner k as well. Points that change the prediction do not count.

    Attributes:
        best: the largest relative change found; −1 where no point kept the prediction.
        climbed: calls that followed a gradient.
        flipped: calls that changed the prediction.
    """

    study: Study
    part: slice
    radius: float
    best: Float[Tensor, " m"] = field(init=False)
    climbed: Float[Tensor, " m"] = field(init=False)
    flipped: Float[Tensor, " m"] = field(init=False)

    def __post_init__(self) -> None:
        subject, stop = self.study.subject, self.part.stop
        self._inputs = subject.inputs[self.part]
        self._width = self.radius * subject.space.range(self._inputs)
        self._before = self.study.upto(stop).attributions()[self.part]
        self._classes = subject.logits(stop)[self.part].argmax(1)
        self._point, self._after = self._inputs, self._before
        m = len(self._inputs)
        self._reach = torch.ones(m, 1, 1, 1, dtype=self._inputs.dtype, device=self._inputs.device)
        self.best = torch.full((m,), -1.0, dtype=torch.float64, device=self._inputs.device)
        self.climbed, self.flipped = torch.zeros_like(self.best), torch.zeros_like(self.best)

    def call(self, k: int) -> None:
        """Explain one more point of each sample."""
        points = corner(self.radius, k).make(self.study.subject, self.part)
        climbs = torch.zeros_like(self.best, dtype=torch.bool)
        if k % 2 and self.study.method and self.study.method.terms:
            steps, climbs = self._uphill()
            moved = self._point - self._inputs + 2 * self._reach * self._width * steps
            moved = torch.maximum(torch.minimum(moved, self._width), -self._width)
            higher = within(self._inputs + moved, self._inputs, self.study.subject.space)
            points = torch.where(climbs.view(-1, 1, 1, 1), higher, points)
        gained = self._explained(points)
        self.climbed += climbs
        self._reach = torch.where((climbs & ~gained).view(-1, 1, 1, 1), self._reach / 2, self._reach)

    def _explained(self, points: Float[Tensor, "m c h w"]) -> Bool[Tensor, " m"]:
        """Where the points are the worst so far."""
        subject = self.study.subject
        after = self.study.explain(self.part, Inputs("points", lambda *_: points))
        change = relative_difference(self._before, after)
        kept = all_logits(subject.model, points, subject.batch).argmax(1) == self._classes
        better = kept & (change > self.best)
        self.flipped += ~kept
        self.best = torch.where(better, change, self.best)
        chosen = better.view(-1, 1, 1, 1)
        self._point, self._after = torch.where(chosen, points, self._point), torch.where(chosen, after, self._after)
        return better

    def _uphill(self) -> tuple[Float[Tensor, "m c h w"], Bool[Tensor, " m"]]:
        """The sign of the gradient at the best points, 0 where it is next to nothing; and which samples have any."""
        away = self._after - self._before
        push = away / away.flatten(1).abs().amax(1).clamp_min(torch.finfo(away.dtype).tiny).view(-1, 1, 1, 1)
        try:
            slope = pulled(self.study, self.part, self._point, push)
        except RuntimeError as error:
            if "not implemented" not in str(error):
                raise
            slope = torch.zeros_like(self._point)
        promised = (slope * self._width).flatten(1).abs().sum(1)
        climbs = promised > NOTHING * push.square().flatten(1).sum(1)
        steepest = slope.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
        return slope.sign() * (slope.abs() > DEAD * steepest), climbs


def pulled(
    study: Study, part: slice, points: Float[Tensor, "m c h w"], push: Float[Tensor, "m _ h w"]
) -> Float[Tensor, "m c h w"]:
    """∂(push · A(points)) / ∂points for a method that says its `terms`; 0 where that is not finite, as at a root of zero."""
    subject, method = study.subject, study.method
    if method is None or method.terms is None:
        raise ValueError("this method says no terms; expected one that does; ask Method.terms first")
    context, targets = subject.context(part, subject.seed, method), subject.targets[part]
    found = torch.zeros_like(points)
    for start in range(0, len(points), subject.batch):
        chunk = slice(start, start + subject.batch)
        # attention's fused kernels have no second derivative
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            own = points[chunk].detach().clone().requires_grad_()
            for term in method.terms(subject.model, own, targets[chunk], context.part(chunk), **study.parameters):
                if term.requires_grad:
                    (slope,) = torch.autograd.grad(term, own, push[chunk].to(term.dtype), materialize_grads=True)
                    found[chunk] += slope.nan_to_num(0, 0, 0)
    return found
