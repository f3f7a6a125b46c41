"""The map as a soft mask: what is left of the class's probability under it, and what value-matched noise leaves."""

from collections.abc import Callable
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from cardgen import matched
from cardgen.forward import variant_probabilities
from cardgen.scores import Scores
from cardgen.study import Study

Change = Callable[[Float[Tensor, "n 1"], Float[Tensor, "n maps"]], Float[Tensor, "n maps"]]
"""A score from the class's probability before and after masking, in float64."""


def masked_scores(study: Study, change: Change, substrate: str, noise_draws: int, *, inverse: bool) -> Scores:
    """A score of the map as a soft mask, beside that of value-matched noise, in parts `matched/<control>` [draws, n].

    Not valid where the map is flat, which has no normalised form, or where f_c(x) is 0, of which nothing can be lost.
    """
    before = study.subject.clean(study.n).double()
    flat = study.flat()
    valid = ~flat & (before > 0).cpu().numpy()
    after = _confidences(study, substrate, noise_draws, inverse).double()
    found = change(before.clamp_min(1e-45)[:, None], after).cpu()
    found[~valid] = 0.0
    return Scores(found[:, 0].numpy(), valid, flat, parts=matched.parts(found[:, 1:], noise_draws))


def _confidences(study: Study, substrate: str, noise_draws: int, inverse: bool) -> Float[Tensor, "n maps"]:
    """f_c of x̄ + m (x − x̄), or of x + m (x̄ − x): m the map, then value-matched noise, in [0, 1] by each map's own minimum and maximum."""
    subject = study.subject

    def compute(part: slice) -> Tensor:
        inputs, whole = subject.inputs[part], study.upto(part.stop)
        bare = subject.substrate(substrate, part.stop)[part]
        maps, order = whole.maps()[part], whole.order()[part]
        under, over = (inputs, bare) if inverse else (bare, inputs)

        @lru_cache(maxsize=1)
        def masks(i: int) -> Float[Tensor, "maps 1 h w"]:
            share = normalised(maps[i]).to(inputs.dtype)
            return matched.in_orders(share[None], order[i], matched.orders(subject, part.start + i, noise_draws))

        def write(i: int, first: int, last: int, out: Tensor) -> None:
            # 1 and 0 give the two images to the last bit
            out.copy_(under[i].lerp(over[i], masks(i)[first:last]))

        count = 1 + noise_draws * len(matched.family())
        return variant_probabilities(subject.model, inputs, subject.targets[part], count, write, subject.batch)

    return study.memo(("soft mask", subject.same_colour(substrate), noise_draws, inverse), compute)


def normalised(saliency: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """(A − min) / (max − min) in float64; zero for a constant."""
    values = saliency.double()
    low, high = values.amin(), values.amax()
    return (values - low) / (high - low).clamp_min(1e-300)


def forwarded(noise_draws: int) -> int:
    """Samples forwarded a sample: clean, masked, and masked by each draw of value-matched noise."""
    return 2 + noise_draws * len(matched.family())
