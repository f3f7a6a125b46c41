"""Cohen's κ of two raters, with an interval where there is enough to tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from cardgen.shares import LEVEL, NORMAL

ENOUGH = 20
"""Independent pairs below which no interval is given, as many samples as a verdict needs."""


@dataclass(frozen=True)
class Kappa:
    """κ of `n` pairs, of which `same` agree; `value` or `interval` is None for the reason that `note` gives."""

    n: int
    same: int
    value: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""


def kappa(pairs: Sequence[tuple[str, str]], blocks: Sequence[Hashable], raters: tuple[str, str]) -> Kappa:
    """κ = (p_o − p_e) / (1 − p_e): agreement beyond what both raters' own frequencies give by chance (Cohen 1960, eq. 2).

    Where one rater always says the same, p_o = p_e whatever the other says, and where both do κ is 0/0: neither says anything on
    agreement, so there is no value, and `note` says why. The interval is 95 %, from the delete-one-block jackknife: κ ± t · s,
    s² = (g − 1)/g · Σ (κ₋ᵢ − mean)² over g blocks (Efron & Tibshirani 1993, eq. 11.5), with Student's t of g − 1 degrees of freedom by its
    expansion z + (z³ + z)/(4 (g − 1)), cut at −1 and 1. Pairs of one block leave together, since they share one side's judgement.

    Args:
        pairs: what the first and the second rater said of each thing.
        blocks: for each pair the block that it belongs to.
        raters: what to call the two in `note`.
    """
    n, same = len(pairs), sum(one == other for one, other in pairs)
    value = _kappa(pairs)
    if n == 0:
        return Kappa(0, 0, note="no such pair")
    if value is None:
        said = [
            f"{raters[side]} is always {found.pop()}"
            for side in (0, 1)
            if len(found := {pair[side] for pair in pairs}) == 1
        ]
        return Kappa(n, same, note=f"{' and '.join(said)}, so that agreement cannot be told from chance")
    distinct = list(dict.fromkeys(blocks))
    if len(distinct) < ENOUGH:
        return Kappa(n, same, value, note=f"fewer than {ENOUGH} independent pairs, so no interval")
    if same == n:
        return Kappa(n, same, value, note="all pairs agree, so their spread gives no interval")
    left = [_kappa([pair for pair, block in zip(pairs, blocks, strict=True) if block != gone]) for gone in distinct]
    values = [one for one in left if one is not None]
    if len(values) < len(left):
        return Kappa(n, same, value, note="it hangs on a single pair, so no interval")
    g, mean = len(values), math.fsum(values) / len(values)
    spread = math.sqrt((g - 1) / g * math.fsum((one - mean) ** 2 for one in values))
    z = NORMAL.inv_cdf((1 + LEVEL) / 2)
    half = (z + (z**3 + z) / (4 * (g - 1))) * spread
    return Kappa(n, same, value, (max(-1.0, value - half), min(1.0, value + half)))


def _kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """None where a rater is constant, or there is no pair."""
    n = len(pairs)
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    if len(first) < 2 or len(second) < 2:
        return None
    observed = sum(one == other for one, other in pairs) / n
    chance = sum(first[mark] * second[mark] for mark in first) / n**2
    return (observed - chance) / (1 - chance)
