"""Average drop: how much of the class's probability is lost when the image shows only what the map marks."""

from cardgen.matched import require_draws
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.soft_masks import forwarded, masked_scores
from cardgen.study import Study


@metric(
    key="average_drop",
    title="Average Drop",
    attribute="input_sensitivity",
    question="Does the prediction survive when the image is dimmed everywhere but where the map is high?",
    quantity="share of the class's probability lost under the map as a soft mask",
    unit="share",
    direction="lower",
    source=Source(paper="Chattopadhyay et al. 2018", url="https://arxiv.org/abs/1710.11063", where="average drop %"),
    rule="matched_noise",
    version=2,
    size="maps",
    passes=lambda n, explainer, p: n * (explainer.passes + forwarded(p["noise_draws"])),
)
def average_drop(study: Study, *, noise_draws: int = 5, substrate: str = "black") -> Scores:
    """max(0, f_c(x) − f_c(x̄ + m (x − x̄))) / f_c(x); m the map after min–max normalisation, alike for all channels.

    f_c is the softmax probability of the class explained. A fraction, 0 to 1; lower is better: where masking raises the probability,
    the drop is 0. Parts `matched/<control>` [draws, n]: the same of the map's own values in the order of each noise control, since a
    map of almost nothing but ones loses nothing either.

    Not valid for a flat map, which has no normalised form, and where f_c(x) is 0.

    Chattopadhyay et al. 2018 multiply the image by the map, E = L ∘ I, and report per cent. An image times 0 is
    black, hence x̄; libraries (torchcam among them) multiply the input *after* its normalisation, so that the mean colour stands where
    nothing shows: substrate="zero". Their maps are ≥ 0 by nature and divided by their maximum; those of Jung & Oh 2021, and here, are
    normalised by minimum and maximum, at the image's size, each image by itself. torchcam adds 1e-7 to the denominator.

    Args:
        study: one method on one subject.
        noise_draws: draws of each member of the noise family.
        substrate: x̄, what shows where the mask is 0.
    """
    require_draws("average_drop", noise_draws)
    return masked_scores(
        study, lambda before, after: ((before - after) / before).clamp_min(0), substrate, noise_draws, inverse=False
    )
