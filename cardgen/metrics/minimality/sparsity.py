"""Sparsity: how far the map's peak stands above its mean."""

from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="sparsity",
    title="Sparsity",
    attribute="minimality",
    question="How concentrated is the map?",
    quantity="maximum over mean of the normalised map",
    direction="none",
    source=Source(paper="Gomez et al. 2022", url="https://arxiv.org/abs/2201.13291", where="section 3.3"),
    rule="descriptive",
    size="maps",
)
def sparsity(study: Study) -> Scores:
    """max(A) / mean(A) of the map after min–max normalisation, so 1 / mean.

    At least 1; higher is sparser, which is a description and no merit: one random pixel is as sparse as can be. A flat map
    has none (not valid). Gomez et al. 2022; the card template's text says maximum over minimum, which is infinite for every
    normalised map.
    """
    maps = study.maps().flatten(1).double()
    low, high = maps.amin(1), maps.amax(1)
    flat = study.flat()
    mean = (maps.mean(1) - low) / (high - low)
    values = (1 / mean).cpu().numpy()
    values[flat] = 0.0
    return Scores(values, ~flat, flat)
