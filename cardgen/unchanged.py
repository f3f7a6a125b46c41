"""The rule of "unchanged is good": maps should change no more than the image itself does."""

import math

import numpy as np
from jaxtyping import Bool, Float

from cardgen import intervals
from cardgen.decisions import Control, Controls, Decision, about, enough, few
from cardgen.errors import CardgenError
from cardgen.records import Comparison, MetricEntry, Value, VerdictName
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds
from cardgen.words import number

YARDSTICK = "input_magnitude"
BESIDE = "edges"
LEAST = 1e-6
"""Relative changes below this count as this much: float32 tells no smaller ones."""


def unchanged(scores: Scores, controls: Controls, entry: MetricEntry, bars: Thresholds, seed: int) -> Decision:
    """How many times as much the method's maps change as the map of the image's own magnitude, under the same perturbations.

    Scores are relative changes of maps; per sample l = log(method's / input magnitude's), with the 95 % bootstrap interval of mean(l).
    pass: the interval lies below log(`margin`), and no more than the share `flat` of all maps is flat, zeros included, which have no
    relative change; fail: above. While calibration has not set a margin the verdict is descriptive. Noise and constant maps do not
    change at all: a pass says something only beside a pass of what the metric requires. The effect is −mean(l), p one-sided for mean(l)
    below log(`margin`). The edge detector's ratio is told beside it.
    """
    thresholds: dict[str, Value] = {"margin": bars.margin, "samples": bars.samples, "flat": bars.flat}
    if YARDSTICK not in controls:
        raise CardgenError(
            f"{entry.key}: expected scores of {YARDSTICK} to compare with, got none; run that control as well"
        )
    known = controls[YARDSTICK].valid.any(0)
    kept = scores.valid & known
    n = int(kept.sum())
    if n < 2:
        return Decision("inconclusive", few(n, bars), n, thresholds, advice=enough(bars))
    weights = intervals.weights(seed, n, bars.resamples)
    ratios = intervals.mean(_log_ratios(scores.values, controls[YARDSTICK], kept), weights)
    own = intervals.mean(scores.values[kept], weights)
    # a map of zeros has no relative change, and is flat all the same
    flat = int((scores.flat & known).sum())
    too_flat = flat > bars.flat * int(((scores.valid | scores.flat) & known).sum())
    verdict, advice = _judged(ratios, n, too_flat, bars)
    reason = few(n, bars) if bars.margin and n < bars.samples else _words(scores, ratios.estimate, controls, kept)
    if verdict == "inconclusive" and not advice:
        reason = f"{reason.removesuffix('.')}, but {flat} maps are flat."
    bar = math.log(bars.margin) if bars.margin else None
    return Decision(
        verdict,
        reason,
        n,
        thresholds,
        own.estimate,
        own.interval(),
        -ratios.estimate,
        None if bar is None else float((np.sum(ratios.resampled >= bar) + 1) / (len(ratios.resampled) + 1)),
        advice,
        {
            key: _comparison(scores, controls[key], kept, weights)
            for key in (YARDSTICK, BESIDE)
            if key in controls and controls[key].valid[:, kept].any(0).all()
        },
    )


def _judged(ratios: intervals.Bootstrap, n: int, too_flat: bool, bars: Thresholds) -> tuple[VerdictName, str]:
    """Verdict and advice; the number of samples that decides is where an interval that shrinks with √n would end at the margin."""
    if bars.margin is None:
        return "descriptive", ""
    if n < bars.samples:
        return "inconclusive", enough(bars)
    (low, high), bar = ratios.interval(), math.log(bars.margin)
    if low > bar:
        return "fail", ""
    if high < bar:
        return ("inconclusive", "") if too_flat else ("pass", "")
    needed = n * ((high - low) / 2 / max(abs(ratios.estimate - bar), 1e-9)) ** 2
    return "inconclusive", about(needed, n, bars)


def _words(scores: Scores, mean: float, controls: Controls, kept: Bool[np.ndarray, " n"]) -> str:
    if not (scores.values[kept] > LEAST).any():
        return "Does not change at all when the image does."
    text = f"Changes {_times(mean)} as much as the image itself"
    if BESIDE in controls and (beside := controls[BESIDE]).valid[:, kept].any(0).all():
        edges = float(_log_ratios(_mean(beside), controls[YARDSTICK], kept).mean())
        text += f"; {beside.name}: {_times(edges)}"
    return f"{text}."


def _times(logarithm: float) -> str:
    return f"{number(float(f'{math.exp(logarithm):.2g}'))} times"


def _mean(control: Control) -> Float[np.ndarray, " n"]:
    """Over the draws that have a score."""
    total = np.where(control.valid, control.values, 0.0).sum(0)
    found: Float[np.ndarray, " n"] = total / np.maximum(control.valid.sum(0), 1)
    return found


def _log_ratios(
    values: Float[np.ndarray, " n"], control: Control, kept: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " m"]:
    """log(values / the control's) of the samples kept."""
    found: Float[np.ndarray, " m"] = np.log(np.maximum(values, LEAST) / np.maximum(_mean(control), LEAST))[kept]
    return found


def _comparison(
    scores: Scores, control: Control, kept: Bool[np.ndarray, " n"], weights: Float[np.ndarray, "b m"]
) -> Comparison:
    """The control's mean score, and by what factor (as a logarithm) the method changes less."""
    less = intervals.mean(-_log_ratios(scores.values, control, kept), weights)
    return Comparison(
        kind="prior",
        estimate=float(_mean(control)[kept].mean()),
        difference=less.estimate,
        interval=less.interval(),
        effect=None,
    )
