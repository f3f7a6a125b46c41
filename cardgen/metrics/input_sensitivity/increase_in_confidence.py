"""Increase in confidence: does the class's probability rise when the image shows only what the map marks?"""

from cardgen.matched import require_draws
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.soft_masks import forwarded, masked_scores
from cardgen.study import Study

LEAST = 1e-5


@metric(
    key="increase_in_confidence",
    title="Increase in Confidence",
    attribute="input_sensitivity",
    question="Is the model more certain when the image is dimmed everywhere but where the map is high?",
    quantity="share of samples whose class gains probability under the map as a soft mask",
    unit="share",
    direction="higher",
    source=Source(
        paper="Chattopadhyay et al. 2018", url="https://arxiv.org/abs/1710.11063", where="% increase in confidence"
    ),
    rule="vs_matched_noise",
    version=2,
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + forwarded(p["noise_draws"])),
)
def increase_in_confidence(study: Study, *, noise_draws: int = 5, substrate: str = "black") -> Scores:
    """1 where f_c(x̄ + m (x − x̄)) > f_c(x), else 0; m the map after min–max normalisation, alike for all channels.

    f_c is the softmax probability of the class explained. Higher is better. Masks, forward passes, value-matched noise and what is not
    valid are those of average_drop. An increase counts from 1e-5 on: rounding alone makes smaller ones, where the mask hides next to
    nothing or the model is certain before and after.

    Chattopadhyay et al. 2018 report the share of images in per cent.

    Args:
        study: one method on one subject.
        noise_draws: draws of each member of the noise family.
        substrate: x̄, what shows where the mask is 0.
    """
    require_draws("increase_in_confidence", noise_draws)
    return masked_scores(
        study, lambda before, after: (after - before > LEAST).double(), substrate, noise_draws, inverse=False
    )
