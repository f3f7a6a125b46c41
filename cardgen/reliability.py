"""How far raters agree: Krippendorff's α. Pure numpy.

A rater may be a person who rates maps, or an image that ranks methods by their scores (Tomsett et al. 2020, section 4.1).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Level = Literal["nominal", "ordinal", "interval"]


def krippendorff(ratings: Float[np.ndarray, "raters items"], level: Level = "interval") -> float:
    """α = 1 − D_o / D_e: 1 where all raters agree on every item, 0 where they agree as chance would have it; below, less than that.

    With m_u the ratings of item u, n = Σ m_u, and δ² the difference of two ratings, Krippendorff 2011:
    D_o = 1/n · Σ_u 1/(m_u − 1) · Σ_{i≠j in u} δ²(r_i, r_j), and D_e = 1/(n (n − 1)) · Σ_{i≠j} δ²(r_i, r_j) over all ratings together.
    δ² is 0 or 1 (nominal), the squared number of ratings between the two, the ends counted by half (ordinal), or (r_i − r_j)² (interval).
    NaN is a rating that was not given; an item with fewer than two has no part. Where ratings do not vary, or no item has two, α is not
    defined and 0 is returned: nothing was shown to be reliable.

    No pair is visited: Σ_{i≠j} (r_i − r_j)² of m ratings is 2 m times their sum of squares about the mean; the ordinal difference is the
    interval difference of ranks, ties averaged; and m² less the squared counts of each value is the nominal sum.

    Args:
        ratings: one row a rater.
        level: of measurement; says what a difference is.

    >>> round(krippendorff(np.array([[1.0, 2, 3], [1, 2, 4]])), 12)  # D_o = 2/6 and D_e = 82/30, so α = 36/41
    0.878048780488
    """
    given = ~np.isnan(ratings)
    kept = given & (given.sum(0) > 1)
    item = np.unique(np.nonzero(kept)[1], return_inverse=True)[1]
    distinct, code = np.unique(ratings[kept], return_inverse=True)
    if len(distinct) < 2:
        return 0.0
    everything = np.zeros_like(item)
    if level == "nominal":
        inside, overall = _unequal(item, code), _unequal(everything, code)
    else:
        values = distinct[code] if level == "interval" else _ranks(code)
        inside, overall = _squares(item, values), _squares(everything, values)
    observed = float((inside / (np.bincount(item) - 1)).sum())
    return 1 - observed * (len(item) - 1) / float(overall[0])


def _unequal(group: Int[np.ndarray, " n"], code: Int[np.ndarray, " n"]) -> Float[np.ndarray, " groups"]:
    """Ordered pairs of unequal values in each group."""
    width = int(code.max()) + 1
    cell, count = np.unique(group * width + code, return_counts=True)
    found: Float[np.ndarray, " groups"] = np.bincount(group) ** 2.0 - np.bincount(cell // width, weights=count**2.0)
    return found


def _squares(group: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " groups"]:
    """Σ (v_i − v_j)² over the ordered pairs of each group."""
    sizes = np.bincount(group)
    mean = np.bincount(group, weights=values) / sizes
    found: Float[np.ndarray, " groups"] = 2 * sizes * np.bincount(group, weights=(values - mean[group]) ** 2)
    return found


def _ranks(code: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks of values numbered in their order; equal ones share the mean of their ranks."""
    counts = np.bincount(code)
    found: Float[np.ndarray, " n"] = (np.cumsum(counts) - (counts - 1) / 2)[code]
    return found
