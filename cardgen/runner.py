"""Jobs to records. Each record is written as soon as its job ends; what is there already is not measured again."""

import hashlib
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from cardgen.budgets import RANK
from cardgen.digests import digest
from cardgen.draws import seed_of
from cardgen.errors import CardgenError
from cardgen.forward import counted
from cardgen.keys import ENGINE, PICTURES, data_part, scores_key
from cardgen.memory import free, ran_out
from cardgen.methods import METHODS
from cardgen.picture import alt_text, example_picture
from cardgen.plan import Job, Plan
from cardgen.provenance import provenance
from cardgen.records import MethodRecord, Provenance, Record, Rule, Value, save, significant
from cardgen.scores import Scores
from cardgen.store import Store
from cardgen.study import Segment, Study, StudyKey
from cardgen.subjects.loading import Loaded
from cardgen.thresholds import DEFAULTS, Thresholds
from cardgen.verdicts import RULES, Control, Controls, Decision

SAMPLES_SHOWN = 6
MESSAGE = 400
TOLD = ("engine", "method", "method_parameters", "metric", "metric_parameters")
"""Parts of the key that a record says in other fields."""
State = Literal["missing", "current", "kept"]
"""Of a job's record: to be made, there already, or resting on a larger budget."""


@runtime_checkable
class Progress(Protocol):
    """What a run tells whoever watches."""

    def begin(self, jobs: int, passes: int) -> None: ...
    def start(self, job: Job) -> None: ...
    def advance(self, samples: int) -> None: ...
    def done(self, job: Job, record: Record | None) -> None: ...


class Silent:
    """Tells nothing."""

    def begin(self, jobs: int, passes: int) -> None: ...
    def start(self, job: Job) -> None: ...
    def advance(self, samples: int) -> None: ...
    def done(self, job: Job, record: Record | None) -> None: ...


@dataclass
class Work:
    """Samples forwarded in all, and what the evaluations measured would have forwarded each on its own."""

    forwarded: int = 0
    alone: int = 0


@dataclass
class Outcome:
    """What a run did: records written, found up to date, or kept because they rest on a larger budget."""

    written: list[Record] = field(default_factory=list)
    current: int = 0
    kept: int = 0
    work: Work = field(default_factory=Work)

    @property
    def errors(self) -> list[Record]:
        """Records of jobs that failed."""
        return [record for record in self.written if record.verdict == "error"]

    @property
    def skipped(self) -> list[Record]:
        """Records of jobs that were not measured, with their reasons."""
        return [record for record in self.written if record.verdict == "skipped"]


@dataclass(eq=False)
class Runner:
    """Runs a plan into a store. Where memory runs out, it goes on with half the batch."""

    loaded: Loaded
    plan: Plan
    store: Store
    thresholds: Thresholds = DEFAULTS
    force: bool = False
    progress: Progress = field(default_factory=Silent)
    work: Work = field(default_factory=Work)

    def run(self) -> Outcome:
        """Measure what is missing, controls first, and write records, pictures and subject.json."""
        states = {job: self.state(job) for job in self.plan.jobs}
        found = list(states.values())
        outcome = Outcome(current=found.count("current"), kept=found.count("kept"), work=self.work)
        todo = [job for job, state in states.items() if state == "missing"]
        families = [job for job in self.family_jobs(todo) if self.stored(job) is None]
        self.progress.begin(len(todo) + len(families), sum(job.passes for job in [*families, *todo] if not job.skip))
        self.store.save_subject(self.loaded.record)
        with self.counting():
            self.measure(families)
            for _, group in groupby(states, key=lambda job: job.method.entry.key):
                self._method({job: states[job] for job in group}, outcome)
        return outcome

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Samples forwarded are counted, and told to whoever watches."""

        def add(samples: int) -> None:
            self.work.forwarded += samples
            self.progress.advance(samples)

        subject = self.loaded.subject
        explained = [other for sibling, other in subject.siblings.items() if sibling.kind != "masker"]
        with ExitStack() as stack:
            for model in {id(model): model for model in (subject.model, *explained)}.values():
                stack.enter_context(counted(model, add))
            yield

    def _method(self, states: Mapping[Job, State], outcome: Outcome) -> None:
        """All jobs of one method, which share its maps; they are dropped afterwards."""
        for job, state in states.items():
            if state != "missing":
                continue
            self.progress.start(job)
            record = self._record(job)
            save(record, self._path(job))
            outcome.written.append(record)
            self.progress.done(job, record)
        first = next((job for job in states if job.metric.size != "again"), next(iter(states)))
        if not first.method.entry.control:
            self._draw(first, kept="kept" in states.values())
        self._forget()

    def measure(self, jobs: Sequence[Job]) -> dict[Job, str]:
        """Scores of jobs, stored; those of one method and its parameters together, since they share its maps. What failed, and why."""
        together: dict[tuple[str, Value], list[Job]] = {}
        errors = {}
        for job in jobs:
            together.setdefault((job.method.entry.key, job.parts["method_parameters"]), []).append(job)
        for group in together.values():
            for job in group:
                self.progress.start(job)
                try:
                    self.scores(job)
                except Exception as error:
                    errors[job] = _reason(error)
                self.progress.done(job, None)
            self._forget()
        return errors

    def _forget(self) -> None:
        """Free maps and curves of a method that is done; what belongs to the subject stays."""
        self.loaded.subject.memo.forget(lambda key: not (isinstance(key, Segment) and isinstance(key.key, StudyKey)))

    def state(self, job: Job) -> State:
        """Whether a job's record is to be made."""
        found = None if self.force else self.store.record(self._path(job))
        if found is None or found.verdict == "error":
            return "missing"
        skip = found.reason if found.verdict == "skipped" else ""
        if found.key != digest(job.parts):
            return "kept" if not skip and _larger(found, job, self.plan.budget, self.loaded.samples) else "missing"
        decided = _same_question(found, job) and self._same_bars(found)
        return "current" if skip == job.skip and decided else "missing"

    def _same_bars(self, found: Record) -> bool:
        mine = significant(vars(self.thresholds))
        return all(mine.get(name, value) == value for name, value in found.rule.thresholds.items())

    def family_jobs(self, todo: Sequence[Job]) -> list[Job]:
        """The controls' jobs that a list of jobs is compared with."""
        metrics = {job.metric.entry.key for job in todo if not job.skip}
        return [job for key, jobs in self.plan.families.items() if key in metrics for job in jobs]

    def _record(self, job: Job) -> Record:
        start = time.perf_counter()
        scores: Scores | None = None
        if job.skip:
            decision = Decision("skipped", job.skip, 0, {})
        else:
            try:
                scores = self.scores(job)
                entry = job.metric.entry
                seed = seed_of(digest(job.parts))
                decision = RULES[entry.rule](scores, self._controls(job), entry, self.thresholds, seed)
            except Exception as error:
                decision = Decision("error", _reason(error), 0, {})
        return self._filled(job, decision, scores, time.perf_counter() - start)

    def _filled(self, job: Job, decision: Decision, scores: Scores | None, seconds: float) -> Record:
        subject = self.loaded.subject
        where = provenance(subject.inputs.device, self.loaded.dtype, subject.batch)
        thresholds = dict(decision.thresholds)
        if decision.interval is not None:
            thresholds["resamples"] = self.thresholds.resamples
        return Record(
            subject=self.loaded.record.slug,
            method=job.method.entry.key,
            metric=job.metric.entry.key,
            verdict=decision.verdict,
            reason=decision.reason,
            n=decision.n,
            flat=int(scores.flat.sum()) if scores else 0,
            estimate=decision.estimate,
            interval=decision.interval,
            effect=decision.effect,
            p=decision.p,
            advice=decision.advice,
            controls=dict(decision.controls),
            reported={**scores.reported, **self.loaded.family.told(job.siblings)} if scores else {},
            curve=scores.curve if scores else None,
            rule=Rule(name=job.metric.entry.rule, thresholds=thresholds),
            parameters={**job.method_parameters, **job.metric_parameters},
            budget=self.plan.budget,
            versions=_versions(job),
            passes=scores.passes if scores else 0,
            key=digest(job.parts),
            key_parts={name: value for name, value in job.parts.items() if name not in TOLD},
            catalogue=job.metric.entry,
            provenance=Provenance(**where, seconds=seconds, timing=dict(scores.timing) if scores else {}),
        )

    def stored(self, job: Job) -> Scores | None:
        """A job's scores, if they are there and need not be measured anew."""
        return None if self.force else self.store.scores(scores_key(job.parts))

    def scores(self, job: Job) -> Scores:
        """The job's scores: stored ones, unless forced, else measured and stored."""
        scores = self.stored(job)
        if scores is None:
            scores = self._measured(job)
            self.work.alone += scores.passes
            self.store.save_scores(scores_key(job.parts), scores)
        return scores

    def _measured(self, job: Job) -> Scores:
        while True:
            try:
                return job.metric.measure(self._study(job), job.metric_parameters)
            except Exception as error:
                if not ran_out(error) or self.loaded.subject.batch == 1:
                    raise
            # after the except clause, which holds the frames of the failure and their tensors
            self.loaded = replace(self.loaded, subject=self.loaded.subject.halved())
            free()

    def _controls(self, job: Job) -> Controls:
        """The scores of the noise family and the priors for a job's metric, one entry a control."""
        jobs = self.plan.families.get(job.metric.entry.key, [])
        rows: dict[str, list[Scores]] = {}
        for control in jobs:
            stored = self.store.scores(scores_key(control.parts)) or self.scores(control)
            rows.setdefault(control.method.entry.key, []).append(stored)
        return {
            key: Control(
                METHODS[key].entry.title,
                METHODS[key].entry.control,
                # the first samples of many are the few that a method beyond core may be asked again for
                np.stack([scores.values[: job.n] for scores in found]),
                np.stack([scores.valid[: job.n] for scores in found]),
                {part: np.stack([scores.parts[part][..., : job.n] for scores in found]) for part in found[0].parts},
            )
            for key, found in rows.items()
        }

    def _study(self, job: Job) -> Study:
        return Study(self.loaded.subject, job.n, job.method, job.method_parameters)

    def _draw(self, job: Job, *, kept: bool) -> None:
        """method.json with the example picture, unless it stands already; a method whose maps cannot be made has no picture."""
        entry, key = job.method.entry, self._picture_key(job)
        drawn = self.store.drawn(entry.key)
        if drawn and not self.force and (kept or drawn == key):
            return
        try:
            picture = self._picture(job)
        except Exception:
            picture = b""
        shown = min(SAMPLES_SHOWN, len(self.loaded.subject))
        self.store.save_method(
            MethodRecord(
                subject=self.loaded.record.slug,
                catalogue=entry,
                parameters=dict(job.method_parameters),
                key=key,
                picture_sha256=hashlib.sha256(picture).hexdigest() if picture else None,
                picture_alt=alt_text(entry.title, shown, entry.signed) if picture else "",
                facts=_facts(job),
            ),
            picture,
        )

    def _picture(self, job: Job) -> bytes:
        """The maps of the first samples."""
        study = self._study(job).upto(min(SAMPLES_SHOWN, len(self.loaded.subject)))
        with study.subject.open():
            maps = study.maps().float().cpu().numpy()
        return example_picture(self.loaded.images[: study.n], maps, job.method.entry.signed)

    def _picture_key(self, job: Job) -> str:
        """What picture and facts depend on: no metric, and no samples but those shown."""
        other = ("metric", "metric_parameters", "controls", "data", "n", "ratings", "training")
        parts = {name: value for name, value in job.parts.items() if name not in other}
        facts = _facts(job)
        return digest([PICTURES, parts, self.loaded.samples[:SAMPLES_SHOWN], *([facts] if facts else [])])

    def _path(self, job: Job) -> Path:
        return self.store.path(job.method.entry, job.metric.entry.key)


def _same_question(found: Record, job: Job) -> bool:
    """Whether what decides is the same, the numbers apart, which the key holds."""
    return all(
        getattr(found.catalogue, name) == getattr(job.metric.entry, name)
        for name in ("rule", "unit", "direction", "requires")
    )


def _facts(job: Job) -> dict[str, Any] | None:
    return job.method.facts.model_dump(mode="json") if job.method.facts else None


def _controls_version(parts: Mapping[str, Value]) -> str:
    return str(parts.get("controls", "none")).partition(" ")[0]


def _larger(found: Record, job: Job, budget: str, samples: Sequence[tuple[str, str]]) -> bool:
    """Whether a record answers the same question, on these very samples and more, at a larger budget."""
    n = int(found.key_parts.get("n") or 0)
    trained = ("training",) if job.n and "training" in job.parts else ()
    same = all(
        found.key_parts.get(part) == job.parts.get(part)
        for part in ("weights", "target", "seed", "dtype", "layer", "code", "ratings", *trained)
    )
    same_samples = n <= len(samples) and found.key_parts.get("data") == data_part(samples[:n])
    # a budget that has no samples for a metric has nothing to put in the record's place
    same_samples = same_samples or (n > len(samples) and not job.n)
    same = same and _controls_version(found.key_parts) == _controls_version(job.parts)
    larger = (RANK.get(found.budget, 0), n) > (RANK[budget], job.n)
    return same and same_samples and larger and found.versions == _versions(job)


def _versions(job: Job) -> dict[str, int]:
    return {"method": job.method.entry.version, "metric": job.metric.entry.version, "engine": ENGINE}


def _reason(error: Exception) -> str:
    """The error's own words; for what no one foresaw, its type and place as well."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, CardgenError):
        return text[:MESSAGE]
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}: {text}"[:MESSAGE]
