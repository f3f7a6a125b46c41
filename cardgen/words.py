"""How numbers, marks and lists are worded on every card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from cardgen.records import Attribute, VerdictName

MARKS: dict[str, str] = {
    "pass": "🟢",
    "inconclusive": "🟨",
    "fail": "🟥",
    "descriptive": "⚪",
    "skipped": "➖",
    "error": "⚠️",
    "untested": "▫️",
}
LEGEND: tuple[tuple[str, str], ...] = (
    ("pass", "pass"),
    ("inconclusive", "inconclusive"),
    ("fail", "fail"),
    ("descriptive", "measured, no verdict claimed"),
    ("skipped", "skipped, with its reason"),
    ("error", "stopped with an error"),
    ("untested", "not tested"),
)
CONFLICT = "≠"
CONFLICT_LEGEND = f"{CONFLICT} evaluations of this attribute disagree with each other, or with what was published"
COUNTED: dict[VerdictName, str] = {
    "pass": "pass",
    "fail": "fail",
    "inconclusive": "open",
    "descriptive": "descriptive",
    "skipped": "skipped",
    "error": "stopped with an error",
}
ATTRIBUTES: dict[Attribute, str] = {
    "determinism": "Determinism",
    "hyperparameter_dependence": "Hyperparameter Dependence",
    "model_agnosticism": "Model Agnosticism",
    "computational_efficiency": "Computational Efficiency",
    "semantic_directness": "Semantic Directness",
    "input_sensitivity": "Input Sensitivity",
    "label_sensitivity": "Label Sensitivity",
    "model_sensitivity": "Model Sensitivity",
    "minimality": "Minimality",
    "perceptual_correspondence": "Perceptual Correspondence",
}
METHODOLOGY: tuple[Attribute, ...] = tuple(ATTRIBUTES)[:5]
JUDGED: tuple[Attribute, ...] = tuple(ATTRIBUTES)[5:]
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | int) -> str:
    """Three significant digits: 0.213, 1,230, 3.2 × 10⁻⁷."""
    value = float(f"{value:.3g}")
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')} × 10{str(int(exponent)).translate(SUPERSCRIPT)}".replace("-", "−")
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def measured(found: Mapping[str, str | float]) -> str:
    """What was found by name, numbers in three digits, words in brackets: constant 0.213, image (refused: no such layer)."""
    return ", ".join(
        f"{name} ({told})" if isinstance(told, str) else f"{name} {number(told)}" for name, told in found.items()
    )


def estimate(value: float, interval: tuple[float, float] | None) -> str:
    """A value with its 95 % interval, all three to the interval's own precision."""
    if interval is None or interval[0] == interval[1]:
        return number(value)
    low, high = interval
    width = high - low
    places = 1 - math.floor(math.log10(width))
    texts = [
        f"{item:z,.{max(places, 0)}f}".replace("-", "−") if places <= 4 else number(item) for item in (value, low, high)
    ]
    return f"{texts[0]}, 95 % interval {texts[1]} to {texts[2]}"


def seconds(value: float | int) -> str:
    """A duration: 12 ms, 0.35 s, 2.1 min."""
    if value < 0.1:
        return f"{number(value * 1000)} ms"
    return f"{number(value)} s" if value < 100 else f"{number(value / 60)} min"


def plural(count: float | int, one: str, many: str = "") -> str:
    """1 map, 1,234 maps: whole numbers are not rounded."""
    said = f"{count:,}" if isinstance(count, int) else number(count)
    return f"{said} {one if count == 1 else many or one + 's'}"


def listing(items: Iterable[str], word: str = "and") -> str:
    """a, b and c."""
    *head, last = list(items)
    return f"{', '.join(head)} {word} {last}" if head else last


def few(items: Sequence[str], most: int) -> list[str]:
    """The items, or of more than `most` the first ones and "n more", which makes no list longer."""
    return list(items) if len(items) <= most else [*items[: most - 1], f"{len(items) - most + 1} more"]


def tally(counts: Mapping[str, int]) -> str:
    """2 pass, 1 fail, 1 open; empty where nothing was counted."""
    return ", ".join(f"{counts[key]} {word}" for key, word in COUNTED.items() if counts.get(key))
