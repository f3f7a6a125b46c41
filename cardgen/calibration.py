"""How often a verdict is wrong: decision rules put to maps of which it is known what they hold, many times over.

A *bank* holds the scores of one metric on the same images: of many draws of the noise family, of held-out maps without information, of
priors, of a positive control, and of saliency methods. A repetition takes some of the images without replacement and some draws of noise as
the controls; a draw of noise that is judged is never among those that it is compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from cardgen.decisions import Control, Rule
from cardgen.draws import seed_of
from cardgen.methods import METHODS
from cardgen.records import MetricEntry, Share, VerdictName
from cardgen.reliability import krippendorff
from cardgen.scores import Scores
from cardgen.thresholds import Thresholds
from cardgen.trust import GOAL, TRUTH
from cardgen.verdicts import RULES

ENOUGH = 200
"""Repetitions that judge a goal; fewer only show a figure."""
SIZES = (50, 100, 200)
"""Of disjoint samples whose verdicts are compared."""
RULE: Mapping[str, str] = {"matched_noise": "vs_matched_noise"}
"""The rule that is put to the test, where a metric's own gives no verdict."""

COMPARED = {"vs_noise": "noise", "unchanged": "prior"}
"""The kind of control by which a rule decides, where it takes any; priors beside noise decide nothing."""
APART = 4
"""Times as many images as a repetition takes must be in the bank, or the repetitions are too much the same to judge a goal."""

Passed = Mapping[str, Sequence[VerdictName]]


@dataclass(frozen=True, eq=False)
class Bank:
    """Scores of one metric on the same images.

    Attributes:
        entry: the metric's.
        scores: by the key of a method or control, one entry a draw.
        draws: of each member of the noise family that a verdict compares with. A metric that measures its own opponents took those from
            0 on, so that what is judged is none of them; else each repetition takes some.
    """

    entry: MetricEntry
    scores: Mapping[str, Sequence[Scores]]
    draws: int

    @property
    def images(self) -> int:
        """Independent images."""
        return len(next(iter(self.scores.values()))[0].values)


def kind(key: str) -> str:
    """What a map is: noise, held_out, prior, flat, truth; empty for a saliency method."""
    return METHODS[key].entry.control if key in METHODS else "truth"


def verdicts(bank: Bank, n: int, repetitions: int, bars: Thresholds, seed: int) -> dict[str, list[VerdictName]]:
    """The rule's verdict on every method and control of the bank, one a repetition."""
    found: dict[str, list[VerdictName]] = {key: [] for key in bank.scores}
    for repetition in range(repetitions):
        rows = _shuffled(bank.images, seed, repetition, "images")[:n]
        for key, verdict in _judged(bank, rows, bars, seed, repetition).items():
            found[key].append(verdict)
    return found


def agreement(bank: Bank, size: int, repetitions: int, bars: Thresholds, seed: int) -> Share | None:
    """How often verdicts on saliency methods and priors are the same over two disjoint samples of `size` images."""
    told = [key for key in bank.scores if kind(key) in ("", "prior")]
    if 2 * size > bank.images or not told:
        return None
    same = 0
    for repetition in range(repetitions):
        rows = _shuffled(bank.images, seed, repetition, "halves")
        halves = (rows[:size], rows[size : 2 * size])
        one, other = (_judged(bank, half, bars, seed, repetition, told) for half in halves)
        same += sum(one[key] == other[key] for key in told)
    return Share(passes=same, of=repetitions * len(told))


def final(own: Passed, required: Sequence[Passed]) -> dict[str, list[bool]]:
    """Whether each verdict is a pass that stands: every metric that it requires passes the same map in the same repetition."""
    return {
        key: [
            verdict == "pass" and all(key in other and other[key][i] == "pass" for other in required)
            for i, verdict in enumerate(verdicts)
        ]
        for key, verdicts in own.items()
    }


def share(passes: Sequence[bool]) -> Share:
    """How many of them."""
    return Share(passes=sum(passes), of=len(passes))


def met(wrong: Sequence[Share], truth: Share | None, *, images: int, n: int) -> bool | None:
    """Whether maps without information pass at most 5 % of the time, each, and the positive control at least 90 %.

    None where there are too few repetitions, or too few images for repetitions of n to differ.
    """
    if images < APART * n or any(found.of < ENOUGH for found in [*wrong, *([truth] if truth else [])]):
        return None
    right = truth is None or truth.estimate >= TRUTH
    return right and all(found.estimate <= GOAL for found in wrong)


def reliability(bank: Bank, others: Sequence[Bank]) -> dict[str, float]:
    """Tomsett et al. 2020: whether a metric ranks saliency methods the same way again.

    `inter_rater`: Krippendorff's ordinal α of the methods' ranks, each image a rater. `inter_method`: Spearman's correlation over images of
    the scores of two methods, the mean over pairs: high where the metric tells images apart rather than methods. `internal_consistency`:
    Spearman's correlation over images with the other metrics of the attribute, better being higher for both, the mean over methods and
    metrics. What cannot be computed is left out.
    """
    table = _of_methods(bank)
    if len(table) < 2:
        return {}
    rows = np.stack(list(table.values()))
    found = {
        "inter_rater": krippendorff(_ranks(rows.T), level="ordinal"),
        "inter_method": _mean([_spearman(a, b) for a, b in combinations(rows, 2)]),
        "internal_consistency": _mean(
            [
                _spearman(row, other[key])
                for other in map(_of_methods, others)
                for key, row in table.items()
                if key in other
            ]
        ),
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _judged(
    bank: Bank,
    rows: Int[np.ndarray, " n"],
    bars: Thresholds,
    seed: int,
    repetition: int,
    told: Sequence[str] | None = None,
) -> dict[str, VerdictName]:
    """Verdicts on these images, of the maps told or of all; of noise that a repetition compares with, on a draw that is no control."""
    order = {key: _draws(bank, key, seed, repetition) for key in bank.scores}
    compared = COMPARED.get(bank.entry.rule)
    taken = bank.draws if compared == "noise" else 1
    controls = {
        key: _control(key, [bank.scores[key][draw].take(rows) for draw in order[key][:taken]])
        for key in bank.scores
        if kind(key) == compared
    }
    rule: Rule = RULES[RULE.get(bank.entry.rule, bank.entry.rule)]
    first = {key: taken if kind(key) == compared == "noise" else 0 for key in bank.scores}
    return {
        key: rule(bank.scores[key][order[key][first[key]]].take(rows), controls, bank.entry, bars, repetition).verdict
        for key in told or bank.scores
    }


def _draws(bank: Bank, key: str, seed: int, repetition: int) -> Sequence[int]:
    """A random order of a map's draws; of noise only those that the metric did not take for itself."""
    order = _shuffled(len(bank.scores[key]), seed, repetition, key)
    own = bank.draws if "matched" in bank.entry.rule and kind(key) == "noise" else 0
    return [int(draw) for draw in order if draw >= own]


def _control(key: str, found: Sequence[Scores]) -> Control:
    entry = METHODS[key].entry
    values, valid = (np.stack([getattr(scores, name) for scores in found]) for name in ("values", "valid"))
    return Control(entry.title, entry.control, values, valid)


def _shuffled(n: int, seed: int, repetition: int, purpose: str) -> Int[np.ndarray, " n"]:
    return np.random.Generator(np.random.PCG64(seed_of(seed, "calibrate", repetition, purpose))).permutation(n)


def _of_methods(bank: Bank) -> dict[str, Float[np.ndarray, " n"]]:
    """Scores of the saliency methods, larger being better, NaN where there is none."""
    sign = -1.0 if bank.entry.direction == "lower" else 1.0
    first = {key: draws[0] for key, draws in bank.scores.items() if kind(key) == ""}
    return {key: np.where(scores.valid, sign * scores.values, np.nan) for key, scores in first.items()}


def _ranks(rows: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
    return np.asarray(rankdata(rows, axis=1, nan_policy="omit"), dtype=np.float64)


def _spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        return float("nan")
    x, y = _ranks(np.stack([a[both], b[both]]))
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else float("nan")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
