"""A small world of records: what the publishing half reads, written by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cardgen.evidence import Catalogue
from cardgen.records import (
    CALIBRATION,
    Calibration,
    Comparison,
    MethodEntry,
    MethodRecord,
    MetricEntry,
    Provenance,
    Record,
    Rule,
    Share,
    Source,
    SubjectRecord,
    save,
)

PICTURE = b"\x89PNG\r\n\x1a\nnot a real picture"

METRICS = {
    "deletion": ("Deletion", "input_sensitivity", "area under the curve", "lower"),
    "insertion": ("Insertion", "input_sensitivity", "area under the curve", "higher"),
    "infidelity": ("Infidelity", "input_sensitivity", "relative squared error", "lower"),
    "sensitivity_max": ("Sensitivity", "input_sensitivity", "largest relative change", "lower"),
    "model_weight_randomization": ("Model Weight Randomization", "model_sensitivity", "Spearman correlation", "lower"),
    "sparsity": ("Sparsity", "minimality", "maximum over mean", "none"),
    "pointing_game": ("The Pointing Game", "perceptual_correspondence", "share of hits", "higher"),
    "determinism": ("Determinism", "determinism", "lowest Spearman correlation", "none"),
    "computational_efficiency": ("Computational Efficiency", "computational_efficiency", "seconds a map", "none"),
}
METHODS = {"vanilla_gradients": "Vanilla Gradients", "grad_cam": "Grad-CAM", "rise": "RISE"}
CONTROLS = {"noise": "noise", "noise_7": "noise", "centred_gaussian": "prior", "planted_truth": "truth"}


def metric_entry(like: str, **changes: Any) -> MetricEntry:
    title, attribute, quantity, direction = METRICS[like]
    fields: dict[str, Any] = {
        "key": like,
        "title": title,
        "attribute": attribute,
        "question": f"What does {title} ask?",
        "quantity": quantity,
        "direction": direction,
        "source": Source(paper=f"The paper of {title}", url=f"https://example.org/{like}"),
        "rule": "vs_noise",
    }
    return MetricEntry(**(fields | changes))


def method_entry(key: str, control: str = "") -> MethodEntry:
    return MethodEntry(
        key=key,
        title=METHODS.get(key, key.replace("_", " ")),
        source=Source(paper=f"The paper of {key}", url=f"https://example.org/{key}"),
        access="gradients",
        reduction="sum",
        signed=True,
        random=key == "rise",
        control=control,  # type: ignore[arg-type]
    )


def catalogue() -> Catalogue:
    return Catalogue(
        metrics={key: metric_entry(key) for key in METRICS},
        methods={key: method_entry(key) for key in METHODS}
        | {key: method_entry(key, kind) for key, kind in CONTROLS.items()},
    )


def record(metric: str, method: str = "grad_cam", subject: str = "digits-cnn", **changes: Any) -> Record:
    entry = changes.pop("catalogue", None) or metric_entry(metric, requires=tuple(changes.pop("requires", ())))
    fields: dict[str, Any] = {
        "subject": subject,
        "method": method,
        "metric": metric,
        "verdict": "pass",
        "reason": "Beats every noise control; the least beaten is smooth noise 7×7.",
        "n": 200,
        "estimate": 0.2134,
        "interval": (0.187, 0.2398),
        "effect": 1.234,
        "p": 0.0001,
        "controls": {
            "noise": Comparison(kind="noise", estimate=0.5, difference=0.29, interval=(0.2, 0.38), effect=1.9),
            "noise_7": Comparison(kind="noise", estimate=0.41234, difference=0.2, interval=(0.1, 0.3), effect=1.234),
            "centred_gaussian": Comparison(
                kind="prior", estimate=0.21, difference=0.0, interval=(-0.02, 0.02), effect=0.0
            ),
            "edges": Comparison(kind="prior", estimate=0.4, difference=0.19, interval=(0.1, 0.28), effect=1.0),
        },
        "rule": Rule(name="vs_noise", thresholds={"effect": 0.2}),
        "key": "0" * 64,
        "catalogue": entry,
    }
    return Record(**(fields | changes))


def bare(metric: str, verdict: str, reason: str, **changes: Any) -> Record:
    """A record without numbers."""
    nothing: dict[str, Any] = {"estimate": None, "interval": None, "effect": None, "p": None, "controls": {}}
    return record(metric, **(nothing | {"verdict": verdict, "reason": reason} | changes))


def subject(slug: str = "digits-cnn", **changes: Any) -> SubjectRecord:
    fields: dict[str, Any] = {
        "slug": slug,
        "title": f"Subject {slug}",
        "description": "Digits on scenes, seen by a small network.",
        "model": "cnn",
        "model_sha256": "1" * 64,
        "parameters": 100_000,
        "data": "digits",
        "data_sha256": "2" * 64,
        "n": 200,
        "shape": (3, 64, 64),
        "target": "prediction",
        "has_masks": True,
        "health": "healthy",
        "accuracy": 0.975,
        "accuracy_interval": (0.9428, 0.9893),
    }
    return SubjectRecord(**(fields | changes))


def write_subject(root: Path, slug: str = "digits-cnn", **changes: Any) -> None:
    save(subject(slug, **changes), root / slug / "subject.json")


def write_method(
    root: Path, key: str, slug: str = "digits-cnn", picture: bytes | None = PICTURE, **changes: Any
) -> None:
    folder = root / slug / key
    found = MethodRecord(
        subject=slug,
        catalogue=method_entry(key),
        picture_sha256=hashlib.sha256(picture).hexdigest() if picture else None,
        picture_alt="A digit on a scene, and the map beside it.",
        picture_caption="Left: the image. Right: the map, bright where it is high.",
        **changes,
    )
    save(found, folder / "method.json")
    if picture:
        (folder / "example.png").write_bytes(picture)


def write_record(root: Path, found: Record, control: bool = False) -> None:
    middle = ("controls", found.method) if control else (found.method,)
    save(found, root.joinpath(found.subject, *middle, f"{found.metric}.json"))


def calibration(metric: str, subject: str = "digits-cnn", **changes: Any) -> Calibration:
    """A metric that keeps its goals: the fields that a card speaks of, and a key."""
    fields: dict[str, Any] = {
        "subject": subject,
        "metric": metric,
        "n": 100,
        "images": 600,
        "repetitions": 250,
        "noise": {"noise": Share(passes=1, of=250), "noise_7": Share(passes=0, of=250)},
        "held_out": {"noise_5": Share(passes=5, of=250), "random_blob": Share(passes=0, of=250)},
        "priors": {"centred_gaussian": Share(passes=100, of=250)},
        "truth": Share(passes=248, of=250),
        "truth_should": "pass",
        "met": True,
        "key": "0" * 32,
    }
    return Calibration(**(fields | changes))


def write_calibration(root: Path, found: Calibration) -> None:
    save(found, root / found.subject / CALIBRATION / f"{found.metric}.json")


def write_world(root: Path) -> Path:
    """Two subjects, three methods, every kind of verdict, controls."""
    for slug in ("digits-cnn", "resnet-photos"):
        write_subject(root, slug)
        for key in METHODS:
            if (slug, key) != ("resnet-photos", "rise"):
                write_method(root, key, slug, parameters={"layer": "layer4"} if key == "grad_cam" else {})
    for found in some_records():
        write_record(root, found)
    for key in CONTROLS:
        for metric in ("deletion", "insertion"):
            verdict = "pass" if key == "planted_truth" else "fail"
            write_record(
                root, record(metric, key, verdict=verdict, p=0.0001 if verdict == "pass" else 0.9), control=True
            )
    return root


def some_records() -> list[Record]:
    timing = {"seconds_batch_1": 0.0123, "seconds_best_batch": 0.00321, "peak_memory_mb": 812.3}
    return [
        record("deletion"),
        record(
            "deletion",
            subject="resnet-photos",
            verdict="inconclusive",
            reason="Neither beaten nor not.",
            p=0.03,
            advice="About 340 samples would decide.",
        ),
        record(
            "insertion",
            verdict="fail",
            reason="Does not beat uniform noise.",
            estimate=0.3,
            interval=(0.2, 0.4),
            p=0.7,
            effect=-0.05,
        ),
        record(
            "sensitivity_max",
            requires=["model_weight_randomization"],
            reason="Changes less than the input's magnitude does.",
            controls={},
            flat=3,
        ),
        bare("infidelity", "skipped", "needs gradients | the model has none."),
        record(
            "model_weight_randomization",
            verdict="fail",
            reason="The map says no more of this model than of another.",
            controls={},
            p=0.6,
        ),
        record(
            "sparsity",
            verdict="descriptive",
            reason="The maximum is 6.7 times the mean.",
            estimate=6.7,
            interval=(6.1, 7.3),
            effect=None,
            p=None,
        ),
        bare("pointing_game", "error", "RuntimeError: `x` <b>failed</b> for @someone"),
        bare(
            "determinism",
            "descriptive",
            "All five runs gave the same map, bit for bit.",
            n=8,
            reported={"max_relative_difference": 0.0, "min_spearman": 1.0, "runs": 5},
        ),
        bare(
            "computational_efficiency",
            "descriptive",
            "One forward and one backward pass a map.",
            n=8,
            reported={"forwards": 1, "backwards": 1},
            provenance=Provenance(timing=timing, device="one CPU"),
        ),
        record("deletion", "vanilla_gradients", p=0.02),
        record("insertion", "vanilla_gradients", p=0.02),
        record("infidelity", "vanilla_gradients", verdict="fail", reason="Does not beat uniform noise.", p=0.8),
        record("deletion", "rise"),
    ]
