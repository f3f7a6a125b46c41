"""Luminosity calibration: is the brighter of two regions the one that the prediction needs more?"""

from cardgen import grids
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import spearman
from cardgen.study import Study

LEAST = 1e-4
"""Drops of the probability that differ by less rank alike."""


@metric(
    key="luminosity_calibration",
    title="Luminosity Calibration",
    attribute="perceptual_correspondence",
    question="Do regions of the map rank by brightness as they do by what the prediction loses without them?",
    quantity="rank correlation of a region's brightness with the drop of the prediction when it goes alone",
    unit="correlation",
    direction="higher",
    source=Source(
        paper="Gomez et al. 2022",
        url="https://arxiv.org/abs/2201.13291",
        where="calibration: deletion and insertion correlation",
    ),
    rule="vs_noise",
    size="maps",
    fits=grids.require_even,
    passes=lambda n, explainer, p: n * (explainer.passes + p["parts"] ** 2 + 1),
)
def luminosity_calibration(study: Study, *, parts: int = grids.PARTS, substrate: str = "mean") -> Scores:
    """Spearman's correlation, over the regions r of a grid, of the mean of A over r with f_c(x) − f_c(x with r alone replaced).

    Higher is better; −1 to 1; about 0 for a map without information. f_c is the softmax probability of the class explained; regions
    without which it rises rank last. The grid and the forward passes are those of faithfulness. What the eye compares is a region's
    brightness, so ranks are compared here and values there.
    Drops are rounded to 1e-4 before they are ranked, so that neither next to nothing nor the forward pass' rounding ranks anything; equal
    ones share their rank.
    Not valid where all drops are the same, whatever the map; how many samples these are is reported, `still`.

    Gomez et al. 2022 call a map calibrated if the score changes with the saliency of what is masked, and take Pearson's correlation
    along the deletion and insertion curves (deletion_correlation, insertion_correlation). There each step starts from what is left of
    the image; the saliency card asks of each region by itself whether its luminosity tells its weight, so regions go alone here. Ranks,
    because how much brighter a region has to look for a given drop is left open.

    Args:
        study: one method on one subject.
        parts: regions along each side.
        substrate: what stands where a region goes.
    """
    height, width = study.subject.inputs.shape[2:]
    fallen = grids.drops(study.subject, study.n, parts, substrate)
    brightness = grids.even(height, width, parts).means(study.maps())
    ranked = (fallen.double() / LEAST).round()
    return grids.correlations(study, spearman(brightness, ranked), fallen)
