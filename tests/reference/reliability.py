"""Krippendorff's α from its coincidence matrix: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section E."""

import math


def alpha(rows, level):
    """α of rows of ratings, one a rater; NaN is a missing one."""
    units = [[row[u] for row in rows if not math.isnan(row[u])] for u in range(len(rows[0]))]
    units = [unit for unit in units if len(unit) >= 2]
    values = sorted({value for unit in units for value in unit})
    coincidences = {(c, k): 0.0 for c in values for k in values}
    for unit in units:
        for i, c in enumerate(unit):
            for j, k in enumerate(unit):
                if i != j:
                    coincidences[c, k] += 1 / (len(unit) - 1)
    totals = {c: sum(coincidences[c, k] for k in values) for c in values}
    n = sum(totals.values())
    observed = sum(coincidences[c, k] * difference(c, k, totals, level) for c in values for k in values if c < k)
    expected = sum(totals[c] * totals[k] * difference(c, k, totals, level) for c in values for k in values if c < k)
    return 1 - (n - 1) * observed / expected


def difference(c, k, totals, level):
    """δ² of two values, c < k."""
    if level == "nominal":
        return 1.0
    if level == "interval":
        return (c - k) ** 2
    return (sum(totals[g] for g in totals if c <= g <= k) - (totals[c] + totals[k]) / 2) ** 2
