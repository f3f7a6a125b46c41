"""Shares and their intervals, for both halves: neither torch nor numpy here."""

from __future__ import annotations

import math
from statistics import NormalDist

LEVEL = 0.95
NORMAL = NormalDist()


def wilson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    if n == 0:
        return 0.0, 1.0
    z = NORMAL.inv_cdf((1 + level) / 2)
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
