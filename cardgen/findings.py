"""What one record found, in one plain sentence."""

from __future__ import annotations

from cardgen.evidence import Evidence
from cardgen.records import Comparison, Record
from cardgen.words import MARKS, METHODOLOGY, estimate, listing, number, plural, seconds

CONTROL_WORDS = {
    "noise": "uniform noise",
    "noise_1": "one bump at random",
    "noise_3": "smooth noise 3×3",
    "noise_4": "smooth noise 4×4",
    "noise_5": "smooth noise 5×5",
    "noise_7": "smooth noise 7×7",
    "noise_10": "smooth noise 10×10",
    "noise_14": "smooth noise 14×14",
    "centred_gaussian": "a centred Gaussian",
    "edges": "an edge detector",
    "input_magnitude": "the input's own magnitude",
    "centre": "the image's centre",
    "mean_mask": "the average mask",
    "constant": "a constant map",
}
BUDGETS = ("quick", "standard", "full")
DIMENSIONLESS = ("probability", "correlation", "share", "ratio", "fraction")
TIMED = {
    "seconds_batch_1": "alone",
    "seconds_best_batch": "each in a batch of {n}",
    "seconds_half_size": "at half the image's size",
    "seconds_double_size": "at twice its size",
}


def sentence(record: Record, final: str, why: str, evidence: Evidence) -> str:
    """The reason, the priors not beaten, the numbers in brackets, and why the final verdict is another than its own."""
    if record.verdict == "skipped":
        return f"Not tested on {record.subject}: {_bare(record.reason)}."
    if record.verdict == "error":
        return f"Stopped with an error on {record.subject}: {_bare(record.reason)}."
    text = cost(record) or _reason(record)
    unbeaten = priors_not_beaten(record)
    if unbeaten:
        words = [control_words(key, evidence) for key in unbeaten]
        text += (
            f", {'yet' if record.verdict == 'pass' else 'and'} the method does no better than {listing(words, 'or')}"
        )
    text += f" ({'; '.join(_numbers(record, evidence))})."
    if record.verdict == "inconclusive" and record.advice:
        text += f" To decide: {_bare(record.advice)}."
    if final != record.verdict:
        text += f" Its own verdict is {record.verdict} {MARKS[record.verdict]}, the final one {final}: {why}."
    return text


def priors_not_beaten(record: Record) -> list[str]:
    """The priors whose interval's lower bound is not above 0; none where neither direction is better, or the reason tells of them."""
    if record.catalogue.direction == "none" or record.rule.name in ("unchanged", "vs_baseline"):
        return []
    return [key for key, control in record.controls.items() if control.kind == "prior" and control.interval[0] <= 0]


def least_beaten(record: Record) -> tuple[str, Comparison] | None:
    """The noise control that the method beats least, by standardised effect."""
    noise = [(key, control) for key, control in record.controls.items() if control.kind == "noise"]
    return min(noise, key=lambda item: item[1].rank, default=None)


def control_words(key: str, evidence: Evidence) -> str:
    """A control as it is called inside a sentence."""
    if key in CONTROL_WORDS:
        return CONTROL_WORDS[key]
    entry = evidence.controls.get(key)
    return entry.title[0].lower() + entry.title[1:] if entry else key.replace("_", " ")


def cost(record: Record) -> str:
    """Seconds, passes and memory a map, in words; empty where nothing was timed."""
    timing = {key: value for key, value in record.provenance.timing.items() if isinstance(value, int | float)}
    parts = [f"{seconds(timing[key])} {name.format(n=record.n)}" for key, name in TIMED.items() if key in timing]
    if record.catalogue.attribute != "computational_efficiency" or not parts:
        return ""
    passes = {kind: record.reported.get(f"{kind}s") for kind in ("forward", "backward")}
    counted = [
        plural(count, f"{kind} pass", f"{kind} passes")
        for kind, count in passes.items()
        if isinstance(count, int | float)
    ]
    if not counted and record.estimate is not None:
        counted = [
            f"{plural(record.estimate, 'pass', 'passes')} through the model (a backward pass counts as one more)"
        ]
    parts += counted
    if timing.get("peak_memory_mb"):
        parts.append(f"at most {number(timing['peak_memory_mb'])} MB of memory")
    where = record.provenance
    threads = f" ({plural(where.threads, 'thread')})" if where.threads else ""
    device = f" on {where.device}{threads}" if where.device else ""
    return f"One map takes {listing(parts)}{device}"


def _reason(record: Record) -> str:
    """The measuring half's sentence; the quantity's name goes where it will stand in the brackets anyway."""
    text = _bare(record.reason)
    quantity = record.catalogue.quantity
    if text.lower().startswith(f"{quantity.lower()}: "):
        text = text[len(quantity) + 2 :]
    return text[:1].upper() + text[1:]


def _numbers(record: Record, evidence: Evidence) -> list[str]:
    entry = record.catalogue
    parts = []
    if record.estimate is not None and record.rule.name == "axiom":
        parts.append(f"share of samples {estimate(record.estimate, record.interval)}")
    elif record.estimate is not None and entry.attribute not in METHODOLOGY:
        unit = f" {entry.unit}" if entry.unit and entry.unit not in DIMENSIONLESS else ""
        better = "" if entry.direction == "none" else f", {entry.direction} is better"
        parts.append(f"{entry.quantity} {estimate(record.estimate, record.interval)}{unit}{better}")
    hardest = least_beaten(record)
    if hardest:
        parts.append(f"{_opponent(record, hardest[0], evidence)} {number(hardest[1].estimate)}")
    if hardest and record.effect is not None:
        parts.append(f"effect {number(record.effect)}")
    if record.budget and record.budget not in BUDGETS:
        parts.append(record.budget)
    if record.flat:
        parts.append(plural(record.flat, "flat map"))
    return [*parts, f"n = {record.n} on {record.subject}" if record.n else f"on {record.subject}"]


def _opponent(record: Record, key: str, evidence: Evidence) -> str:
    """The noise control and its verb; where values are matched, these are the method's own in the control's order."""
    words = control_words(key, evidence)
    if "matched" not in record.rule.name:
        return f"{words} gets"
    return f"its own values in the order of {words} get" if key in evidence.controls else f"its {words} get"


def _bare(text: str) -> str:
    return text.strip().removesuffix(".")
