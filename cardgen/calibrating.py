"""One `cardgen calibrate`: banks of scores, repeated verdicts, and a calibration record for each metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from torch import nn

from cardgen.budgets import BUDGETS
from cardgen.calibration import SIZES as AGREEMENT_SIZES
from cardgen.calibration import Bank, agreement, final, kind, met, reliability, share, verdicts
from cardgen.calibration_table import lines
from cardgen.config import RunConfig
from cardgen.digests import SHORT, digest
from cardgen.display import say, watching
from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.memo import Memo
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.plan import Job, Maker, Plan, chosen_methods, chosen_metrics
from cardgen.provenance import provenance
from cardgen.records import CALIBRATION, Calibration, Provenance, Share, VerdictName, load, save
from cardgen.runner import Runner
from cardgen.scores import Scores
from cardgen.store import Store
from cardgen.subjects.loading import Loaded, load_subject
from cardgen.weights import weights_digest

VERSION = 1
"""Raised when repetitions are drawn otherwise."""
TESTED = ("vs_noise", "vs_matched_noise", "matched_noise", "randomisation", "axiom", "unchanged")
"""Rules whose verdicts can be wrong."""
DRAWS = {"noise": 12, "held_out": 4}
"""Draws in the bank of controls that are drawn at random, where noise is what the rule compares with."""
FEWER = {"noise": 2, "held_out": 1}
"""The same for rules that compare with models, perturbations or a bound."""
RESAMPLES = 1000
HALVES = 50
"""Pairs of disjoint samples, a size."""
POSITIVE = "input_x_gradient"
LINEAR = "linear"
"""The bank's key of the positive control of model and label sensitivity: input × gradient on a linear model."""


@dataclass(frozen=True)
class Size:
    """How much calibration: images in the bank, repetitions, and images a repetition."""

    images: int = 400
    repetitions: int = 250
    n: int = 64


def calibrate_session(config: RunConfig, size: Size, console: Console) -> int:
    """Fill the banks, judge, write `evaluations/<subject>/calibration/<metric>.json`; the exit status."""
    loaded = load_subject(config.model_copy(update={"n": size.images}))
    if len(loaded.subject) < size.images or not 20 <= size.n <= size.images:
        raise CardgenError(
            f"calibration on {size.images} images, {size.n} a repetition, of data with {len(loaded.subject)}; expected no more "
            f"images than there are, and 20 or more a repetition; lower --images or --size"
        )
    config = config.model_copy(update={"n": size.images})
    metrics = [key for key in _with_required(chosen_metrics(config.metrics)) if METRICS[key].entry.rule in TESTED]
    store = Store(config.out / "evaluations", loaded.record.slug)
    makers = {"": Maker(config, loaded, BUDGETS[config.budget])}
    twin = linear(loaded)
    makers[LINEAR] = Maker(config, twin, BUDGETS[config.budget])
    banks = {key: jobs(key, makers, chosen_methods(config.methods)) for key in metrics}
    _measure(banks, loaded, twin, store, config, console)
    told = _Judge(config, size, store, banks, loaded)
    for key in metrics:
        told.write(key)
    for line in lines(store.evaluations, loaded.record.slug):
        say(console, line)
    return 0


def _with_required(metrics: Sequence[str]) -> list[str]:
    """The metrics with those that their passes need."""
    found = list(metrics)
    for key in found:
        found += [other for other in METRICS[key].entry.requires if other not in found]
    return found


def linear(loaded: Loaded) -> Loaded:
    """The same samples with a linear model in the model's place, which explains itself: s_c(x) = w_c · x + b_c.

    Weights are drawn as a layer's are that was never trained. The class explained is its prediction.
    """
    inputs = loaded.subject.inputs
    layer = nn.Linear(inputs[0].numel(), max(len(loaded.record.classes), 2))
    draws = generator(loaded.subject.seed, "linear model")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-1, 1, generator=draws).div_(layer.in_features**0.5)
    model = nn.Sequential(nn.Flatten(), layer.to(inputs.device, inputs.dtype))
    subject = replace(loaded.subject, model=model, memo=Memo(), layer=None)
    with subject.open():
        targets = subject.probabilities(len(subject)).argmax(1)
    return replace(loaded, subject=replace(subject, targets=targets), weights=weights_digest(model))


def jobs(metric: str, makers: Mapping[str, Maker], methods: Sequence[str]) -> dict[str, list[Job]]:
    """What a metric's bank takes: by the key of a method or control, one job a draw; what would be skipped is left out."""
    chosen, found = METRICS[metric], {}
    draws = DRAWS if "noise" in chosen.entry.rule else FEWER
    for key, method in METHODS.items():
        control = method.entry.control
        if not control and key not in methods:
            continue
        given_draws = [{"draw": draw} for draw in range(draws[control])] if "draw" in method.defaults else [{}]
        found[key] = [makers[""].job(key, chosen, given) for given in given_draws]
    if chosen.entry.rule == "randomisation":
        found[LINEAR] = [makers[LINEAR].job(POSITIVE, chosen)]
    masks = makers[""].loaded.subject.masks
    return {
        key: made
        for key, made in found.items()
        if not made[0].skip and not (key != LINEAR and "masks" in METHODS[key].needs and masks is None)
    }


def _measure(
    banks: Mapping[str, Mapping[str, list[Job]]],
    loaded: Loaded,
    twin: Loaded,
    store: Store,
    config: RunConfig,
    console: Console,
) -> None:
    """Scores of all jobs that have none, stored; the same command goes on from there."""
    of_twin = [job for bank in banks.values() for job in bank.get(LINEAR, [])]
    others = [job for bank in banks.values() for key, made in bank.items() if key != LINEAR for job in made]
    with watching(console) as progress:
        for subject, wanted in ((loaded, others), (twin, of_twin)):
            runner = Runner(subject, Plan([], {}, config.budget), store, config.thresholds, config.force, progress)
            todo = [job for job in wanted if runner.stored(job) is None]
            progress.begin(len(todo), sum(job.passes for job in todo))
            with runner.counting():
                runner.measure(todo)
            if subject is loaded and runner.work.alone:
                say(
                    console,
                    f"{runner.work.forwarded:,} samples forwarded, {runner.work.forwarded / runner.work.alone:.2f} of what the "
                    f"evaluations would take one by one.",
                )


class _Judge:
    """Verdicts of banks that are measured, those of required metrics kept for the others."""

    def __init__(
        self,
        config: RunConfig,
        size: Size,
        store: Store,
        banks: Mapping[str, Mapping[str, list[Job]]],
        loaded: Loaded,
    ) -> None:
        self.config, self.size, self.store, self.jobs, self.loaded = config, size, store, banks, loaded
        self.bars = config.thresholds.model_copy(update={"resamples": RESAMPLES})
        self._banks: dict[str, Bank] = {}
        self._verdicts: dict[str, dict[str, list[VerdictName]]] = {}

    def write(self, metric: str) -> None:
        """A metric's record, unless there is one of the same key."""
        path = self.store.root / CALIBRATION / f"{metric}.json"
        parts = self._parts(metric)
        key = digest([parts, self._keys(metric)])
        if path.is_file() and load(Calibration, path).key == key and not self.config.force:
            return
        save(self._record(metric, key, parts), path)

    def _parts(self, metric: str) -> dict[str, str | int]:
        return {
            "calibration": VERSION,
            "weights": self.loaded.weights[:SHORT],
            "metric_version": METRICS[metric].entry.version,
            "budget": self.config.budget,
            "seed": self.config.seed,
            "resamples": RESAMPLES,
            "rule": digest(self.config.thresholds.model_dump())[:SHORT],
            "banks": digest(self._keys(metric))[:SHORT],
            "methods": ", ".join(key for key in self.jobs[metric] if kind(key) == "" and key != LINEAR),
        }

    def _keys(self, metric: str) -> list[str]:
        """Of all scores that a metric's record rests on."""
        mine = [metric, *self._consistent_with(metric), *METRICS[metric].entry.requires]
        sizes = [self.size.images, self.size.repetitions, self.size.n]
        return [digest([sizes, *(job.parts for key in mine for made in self.jobs[key].values() for job in made)])]

    def _consistent_with(self, metric: str) -> list[str]:
        """The other metrics of its attribute that are compared with noise."""
        entry = METRICS[metric].entry
        return [
            key
            for key in self.jobs
            if key != metric
            and METRICS[key].entry.attribute == entry.attribute
            and "noise" in METRICS[key].entry.rule
            and "noise" in entry.rule
        ]

    def _bank(self, metric: str) -> Bank:
        if metric not in self._banks:
            self._banks[metric] = self._filled(metric)
        return self._banks[metric]

    def _filled(self, metric: str) -> Bank:
        entry = METRICS[metric].entry
        matched, draws = "noise_draws" in METRICS[metric].defaults, BUDGETS[self.config.budget].draws
        scores = {key: [self._scores(job) for job in made] for key, made in self.jobs[metric].items()}
        return Bank(
            entry, scores, draws if matched else 0, 0 if entry.rule in ("axiom", "randomisation") or matched else draws
        )

    def _scores(self, job: Job) -> Scores:
        runner = Runner(self.loaded, Plan([], {}, self.config.budget), self.store)
        found = runner.stored(job)
        if found is None:
            raise CardgenError(
                f"{job.metric.entry.key} of {job.method.entry.key} could not be measured; run `cardgen run --methods "
                f"{job.method.entry.key} --metrics {job.metric.entry.key}` to see why, or leave it out with --metrics"
            )
        return found

    def _of(self, metric: str) -> dict[str, list[VerdictName]]:
        if metric not in self._verdicts:
            bank = self._bank(metric)
            self._verdicts[metric] = verdicts(bank, self.size.n, self.size.repetitions, self.bars, self.config.seed)
        return self._verdicts[metric]

    def _record(self, metric: str, key: str, parts: Mapping[str, str | int]) -> Calibration:
        entry, bank = METRICS[metric].entry, self._bank(metric)
        passed = final(self._of(metric), [self._of(other) for other in entry.requires])
        shares = {name: share(found) for name, found in passed.items()}
        wrong = {name: found for name, found in shares.items() if _holds_nothing(name, entry.rule)}
        truth = shares.get(LINEAR) if entry.rule == "randomisation" else None
        if "noise" in entry.rule:
            truth = shares.get("planted_truth")
        halves = {str(m): agreement(bank, m, HALVES, self.bars, self.config.seed) for m in AGREEMENT_SIZES}
        where = provenance(self.loaded.subject.inputs.device, self.loaded.dtype, self.loaded.subject.batch)
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
            reliability=reliability(bank, [self._bank(other) for other in self._consistent_with(metric)]),
            met=met(list(wrong.values()), truth, self.size.repetitions),
            key=key,
            key_parts=dict(parts),
            provenance=Provenance(**where),
        )


def _holds_nothing(key: str, rule: str) -> bool:
    """Whether a map may not pass: it knows neither model nor image, or, where models are compared, not the model."""
    return kind(key) in ("noise", "held_out", "flat") or (
        rule == "randomisation" and kind(key) == "truth" and key != LINEAR
    )


def _of_kind(shares: Mapping[str, Share], wanted: str) -> dict[str, Share]:
    return {key: found for key, found in shares.items() if kind(key) == wanted}
