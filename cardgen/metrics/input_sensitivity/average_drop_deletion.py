"""Average drop in deletion: how much of the class's probability is lost when what the map marks is dimmed."""

from cardgen.matched import require_draws
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.soft_masks import forwarded, masked_scores
from cardgen.study import Study


@metric(
    key="average_drop_deletion",
    title="Average Drop in Deletion",
    attribute="input_sensitivity",
    question="Does the prediction fall when the image is dimmed where the map is high?",
    quantity="share of the class's probability lost under the inverse of the map as a soft mask",
    unit="ratio",
    direction="higher",
    source=Source(paper="Jung & Oh 2021", url="https://arxiv.org/abs/2102.05228", where="average drop in deletion"),
    rule="matched_noise",
    version=2,
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + forwarded(p["noise_draws"])),
)
def average_drop_deletion(study: Study, *, noise_draws: int = 5, substrate: str = "black") -> Scores:
    """(f_c(x) − f_c(x̄ + (1 − m)(x − x̄))) / f_c(x); m the map after min–max normalisation, alike for all channels.

    f_c is the softmax probability of the class explained. A fraction of at most 1; higher is better. It is not clipped: where dimming
    raises the probability it is negative, without a bound where f_c(x) is small. Value-matched noise and what is not valid are those
    of average_drop.

    Jung & Oh 2021 multiply the image by the inverse of the map, normalised by minimum and maximum, and report per cent.

    Args:
        study: one method on one subject.
        noise_draws: draws of each member of the noise family.
        substrate: x̄, what shows where the map is highest.
    """
    require_draws("average_drop_deletion", noise_draws)
    return masked_scores(study, lambda before, after: (before - after) / before, substrate, noise_draws, inverse=True)
