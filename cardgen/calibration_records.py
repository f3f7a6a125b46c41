"""Calibration records: banks of stored scores judged again and again, and what came out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cardgen.budgets import BUDGETS
from cardgen.calibration import SIZES, Bank, agreement, final, kind, met, reliability, share, verdicts
from cardgen.config import RunConfig
from cardgen.digests import SHORT, digest
from cardgen.keys import scores_key
from cardgen.metrics import METRICS
from cardgen.plan import Job
from cardgen.provenance import provenance
from cardgen.records import CALIBRATION, Calibration, Provenance, Share, Value, VerdictName, load, save
from cardgen.scores import Scores
from cardgen.store import Store
from cardgen.subjects.loading import Loaded

VERSION = 1
"""Raised when repetitions are drawn otherwise, or when a decision rule's code changes what it says."""
RESAMPLES = 1000
HALVES = 50
"""Pairs of disjoint samples, a size."""
LINEAR = "linear"
"""The bank's key of the positive control of model and label sensitivity: input × gradient on a linear model."""
ON_LINEAR = ("randomisation", "vs_baseline")
"""Rules that have it."""
BETWEEN_MODELS = (*ON_LINEAR, "contrast_matched_noise")
"""Rules that ask whether maps depend on the model; no positive control is known for the last one."""
TRUTHS: Mapping[str, str] = {
    **dict.fromkeys(ON_LINEAR, LINEAR),
    **dict.fromkeys(("axiom", "unchanged", "contrast_matched_noise"), ""),
}
"""The positive control by rule, where it is not the planted truth; empty where there is none."""


@dataclass(frozen=True)
class Size:
    """How much calibration: images in the bank, repetitions, and images a repetition."""

    images: int = 400
    repetitions: int = 250
    n: int = 64


class Missing(Exception):
    """Scores that a bank needs and that could not be measured."""

    def __init__(self, job: Job) -> None:
        self.job = job


class Judge:
    """Writes the records of banks that are measured; the verdicts on required metrics are kept for the others."""

    def __init__(
        self,
        config: RunConfig,
        size: Size,
        store: Store,
        jobs: Mapping[str, Mapping[str, Sequence[Job]]],
        loaded: Loaded,
    ) -> None:
        self.config, self.size, self.store, self.jobs, self.loaded = config, size, store, jobs, loaded
        self.bars = config.thresholds.model_copy(update={"resamples": RESAMPLES})
        self._banks: dict[str, Bank] = {}
        self._verdicts: dict[str, dict[str, list[VerdictName]]] = {}

    def write(self, metric: str) -> None:
        """A metric's record, unless there is one of the same key, or of the same metric and weights and of more repetitions or images.

        Raises:
            Missing: scores that are not there.
        """
        path = self.store.root / CALIBRATION / f"{metric}.json"
        parts = self._parts(metric)
        key = digest([parts, [job.parts for job in self._jobs(metric)]])
        found = load(Calibration, path) if path.is_file() and not self.config.force else None
        if found is None or not (found.key == key or self._larger(found, parts)):
            save(self._record(metric, key, parts), path)

    def _parts(self, metric: str) -> dict[str, Value]:
        entry, bars = METRICS[metric].entry, self.config.thresholds.model_dump()
        return {
            "calibration": VERSION,
            "weights": self.loaded.weights[:SHORT],
            "metric_version": entry.version,
            "decides": f"{entry.rule} {entry.unit} {entry.direction}".strip(),
            "images": self.size.images,
            "repetitions": self.size.repetitions,
            "n": self.size.n,
            "budget": self.config.budget,
            "seed": self.config.seed,
            "banks": digest([job.parts for job in self._jobs(metric)])[:SHORT],
            **{f"bar_{name}": value for name, value in bars.items() if name != "resamples"},
        }

    def _larger(self, found: Calibration, parts: Mapping[str, Value]) -> bool:
        """Whether a record answers the same question with more repetitions or images."""
        sizes = ("images", "repetitions", "n", "banks")
        same = all(found.key_parts.get(name) == value for name, value in parts.items() if name not in sizes)
        mine, theirs = (self.size.images, self.size.repetitions), (found.images, found.repetitions)
        return same and mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))

    def _jobs(self, metric: str) -> list[Job]:
        """Of all scores that a metric's shares rest on."""
        mine = [metric, *METRICS[metric].entry.requires]
        return [job for key in mine for made in self.jobs.get(key, {}).values() for job in made]

    def _siblings(self, metric: str) -> list[str]:
        """The other metrics of its attribute that are compared with noise."""
        entries = {key: METRICS[key].entry for key in sorted(self.jobs) if "noise" in METRICS[key].entry.rule}
        attribute = METRICS[metric].entry.attribute
        return [key for key in entries if metric in entries and key != metric and entries[key].attribute == attribute]

    def _bank(self, metric: str) -> Bank:
        if metric not in self._banks:
            made = self.jobs.get(metric, {})
            scores = {key: [self._scores(job) for job in draws] for key, draws in made.items()}
            self._banks[metric] = Bank(METRICS[metric].entry, scores, BUDGETS[self.config.budget].draws)
        return self._banks[metric]

    def _scores(self, job: Job) -> Scores:
        found = self.store.scores(scores_key(job.parts))
        if found is None:
            raise Missing(job)
        return found

    def _of(self, metric: str) -> dict[str, list[VerdictName]]:
        if metric not in self._verdicts:
            bank = self._bank(metric)
            self._verdicts[metric] = verdicts(bank, self.size.n, self.size.repetitions, self.bars, self.config.seed)
        return self._verdicts[metric]

    def _record(self, metric: str, key: str, parts: Mapping[str, Value]) -> Calibration:
        entry, bank = METRICS[metric].entry, self._bank(metric)
        passed = final(self._of(metric), [self._of(other) for other in entry.requires])
        shares = {name: share(found) for name, found in passed.items()}
        wrong = {name: found for name, found in shares.items() if _holds_nothing(name, entry.rule)}
        truth = shares.get(TRUTHS.get(entry.rule, "planted_truth"))
        halves = {str(m): agreement(bank, m, HALVES, self.bars, self.config.seed) for m in SIZES}
        where: dict[str, Any] = provenance(
            self.loaded.subject.inputs.device, self.loaded.dtype, self.loaded.subject.batch
        )
        return Calibration(
            subject=self.loaded.record.slug,
            metric=metric,
            n=self.size.n,
            images=self.size.images,
            repetitions=self.size.repetitions,
            noise=_of_kind(wrong, "noise"),
            held_out={name: found for name, found in wrong.items() if kind(name) != "noise"},
            priors=_of_kind(shares, "prior"),
            truth=truth,
            truth_should="pass" if truth else "",
            agreement={m: found for m, found in halves.items() if found},
            reliability=reliability(bank, self._there(self._siblings(metric))),
            met=met(list(wrong.values()), truth, images=self.size.images, n=self.size.n),
            key=key,
            key_parts=dict(parts),
            provenance=Provenance(**where),
        )

    def _there(self, metrics: Sequence[str]) -> list[Bank]:
        """Banks that are whole."""
        found = []
        for metric in metrics:
            try:
                found.append(self._bank(metric))
            except Missing:
                continue
        return found


def _holds_nothing(key: str, rule: str) -> bool:
    """Whether a map may not pass: it knows neither model nor image, or, where models are compared, not the model."""
    return kind(key) in ("noise", "held_out", "flat") or (
        rule in BETWEEN_MODELS and kind(key) == "truth" and key != LINEAR
    )


def _of_kind(shares: Mapping[str, Share], wanted: str) -> dict[str, Share]:
    return {key: found for key, found in shares.items() if kind(key) == wanted}
