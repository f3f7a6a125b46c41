"""The sufficient set of a map: its most salient pixels, as few as keep most of the prediction by themselves."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from cardgen.curves import counts, curve
from cardgen.errors import CardgenError
from cardgen.study import Study


class Sufficient(NamedTuple):
    """Pixels of each sample's set, the most salient ones; the f_c that is enough; pixels after each step of the curve."""

    size: Int[Tensor, " n"]
    bar: Float[Tensor, " n"]
    ends: Int[Tensor, " k"]


def sufficient(study: Study, steps: int, confidence: float, background: str) -> Sufficient:
    """The set at the first step of the insertion curve with f_c ≥ confidence · f_c(x).

    Its size is 0 where the bare background does already: no pixel is needed then, whatever the map. The last step is the image itself,
    which always does.

    Raises:
        CardgenError: a confidence that is no share.
    """
    if not 0 < confidence <= 1:
        raise CardgenError(
            f"a set that keeps {confidence:g} of the prediction; expected a share above 0, up to 1; mend the parameter confidence"
        )
    values = curve(study, steps, background, insert=True)
    bar = confidence * values[:, -1]
    first = ((values >= bar[:, None]).cumsum(1) == 0).sum(1)
    pixels = study.subject.inputs.shape[2] * study.subject.inputs.shape[3]
    ends = counts(pixels, steps).to(first.device)
    return Sufficient(ends[first], bar, ends)
