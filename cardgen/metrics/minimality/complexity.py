"""Complexity: over how many pixels the map spreads its magnitude."""

import math

import torch

from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="complexity",
    title="Covariate Regularity",
    attribute="minimality",
    question="Over how many pixels does the map spread its magnitude?",
    quantity="entropy of the map's magnitude, as a share of the largest possible",
    direction="none",
    source=Source(
        paper="Nauta et al. 2023", url="https://arxiv.org/abs/2201.08164", where="section 6.5, covariate regularity"
    ),
    rule="descriptive",
    size="maps",
)
def complexity(study: Study) -> Scores:
    """−Σ p_i log₂ p_i / log₂(h·w) with p_i = |A_i| / Σ|A|: Shannon's entropy in bits over the most that h·w pixels can have.

    Between 0, all magnitude on one pixel, and 1, the same on all; lower is simpler, which is a description and no merit: one random
    pixel is as simple as can be. A map of zeros has none (not valid); any other constant map has 1. Bhatt et al. 2020, definition 3,
    have the same entropy with the natural logarithm and without the division; Nauta et al. 2023 name it covariate regularity.
    """
    magnitude = study.maps().flatten(1).double().abs()
    total, pixels = magnitude.sum(1, keepdim=True), magnitude.shape[1]
    valid = (total[:, 0] > 0).cpu().numpy() & (pixels > 1)
    shares = magnitude / torch.where(total > 0, total, 1)
    bits = -torch.xlogy(shares, shares).sum(1) / math.log(2)
    return Scores((bits / math.log2(max(pixels, 2))).cpu().numpy(), valid, study.flat())
