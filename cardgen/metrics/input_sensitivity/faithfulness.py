"""Faithfulness: does what the map says of a region go with what the prediction loses without it?"""

from cardgen import grids
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import pearson
from cardgen.study import Study


@metric(
    key="faithfulness",
    title="Faithfulness",
    attribute="input_sensitivity",
    question="Does the prediction fall most without the regions to which the map gives most?",
    quantity="correlation of a region's saliency with the drop of the prediction when it goes alone",
    unit="correlation",
    direction="higher",
    source=Source(paper="Alvarez-Melis & Jaakkola 2018", url="https://arxiv.org/abs/1806.07538", where="section 5.2"),
    rule="vs_noise",
    size="maps",
    fits=grids.require_even,
    passes=lambda n, explainer, p: n * (explainer.passes + p["parts"] ** 2 + 1),
)
def faithfulness(study: Study, *, parts: int = grids.PARTS, substrate: str = "mean") -> Scores:
    """Pearson's correlation, over the regions r of a grid, of Σ_{i in r} A_i with f_c(x) − f_c(x with r alone replaced).

    Higher is better; −1 to 1; about 0 for a map without information. f_c is the softmax probability of the class explained. A is
    the signed map: that a region speaks against the class is part of what is claimed. All h·w pixels belong to one of
    `parts` × `parts` regions, whose sides differ by at most one pixel where they do not divide the image's; sums are then taken as
    means, times one size for all, or a map of ones would correlate with the regions' sizes. Not valid where the drops of all regions are
    the same (deviation below 1e-6), whatever the map; how many these are is reported, `still`.

    Alvarez-Melis & Jaakkola 2018 (self-explaining networks) remove one feature or concept at a time, setting it to 0, and correlate
    the drop with its relevance; "single deletion" of Nauta et al. 2023. On images single pixels hardly ever change a prediction, so
    regions stand for features here; the data's mean stands for 0. Quantus' FaithfulnessEstimate takes groups of pixels that are
    neighbours in the ranking, which is another question: its groups are made by the map that they judge.

    Args:
        study: one method on one subject.
        parts: regions along each side.
        substrate: what stands where a region goes.
    """
    height, width = study.subject.inputs.shape[2:]
    fallen = grids.drops(study.subject, study.n, parts, substrate)
    means = grids.even(height, width, parts).means(study.maps())
    return grids.correlations(study, pearson(means.flatten(1), fallen.flatten(1).double()), fallen)
