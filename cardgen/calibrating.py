"""One `cardgen calibrate`: banks of scores, measured; then repeated verdicts, and a calibration record for each metric."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from rich.console import Console
from torch import nn

from cardgen.budgets import BUDGETS
from cardgen.calibration_records import LINEAR, ON_LINEAR, Judge, Missing, Size
from cardgen.calibration_table import lines
from cardgen.config import RunConfig
from cardgen.display import say, shared, watching
from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.kin import Family
from cardgen.memo import Memo
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.own_methods import own_methods
from cardgen.plan import JUDGED, Job, Maker, Plan, chosen_methods, chosen_metrics
from cardgen.records import Value
from cardgen.runner import Runner
from cardgen.session import with_siblings
from cardgen.store import Store
from cardgen.subjects.loading import Loaded, load_subject
from cardgen.weights import weights_digest

TESTED = (*JUDGED, "matched_noise")
"""Rules whose verdicts can be wrong."""
DRAWS = {"noise": 12, "held_out": 2}
"""Draws in the bank of controls that are drawn at random, where noise is what the rule compares with."""
FEWER = {"noise": 2, "held_out": 1}
"""The same for rules that compare with models, perturbations or a bound."""
POSITIVE = "input_x_gradient"


def calibrate_session(config: RunConfig, size: Size, console: Console) -> int:
    """Fill the banks, judge, write `evaluations/<subject>/calibration/<metric>.json`; the exit status, 1 where a metric failed."""
    with own_methods(config) as config:
        return _calibrate(config, size, console)


def _calibrate(config: RunConfig, size: Size, console: Console) -> int:
    loaded = load_subject(config.model_copy(update={"n": size.images}))
    _require(size, len(loaded.subject))
    config = config.model_copy(update={"n": size.images})
    store = Store(config.out / "evaluations", loaded.record.slug)
    loaded = with_siblings(config, loaded, store, lambda line: say(console, line))
    twin = linear(loaded)
    makers = {"": Maker(config, loaded, BUDGETS[config.budget]), LINEAR: Maker(config, twin, BUDGETS[config.budget])}
    banks, failed = _banks(config, makers, console), False
    errors = _measure(banks, loaded, twin, store, config, console)
    judge = Judge(config, size, store, banks, loaded)
    for key in banks:
        try:
            judge.write(key)
        except Missing as missing:
            failed = True
            said = errors.get(missing.job, "not measured")
            say(console, f"failed: {key}: {missing.job.method.entry.key}: {said}", style="red")
    for line in lines(store.evaluations, loaded.record.slug):
        say(console, line)
    return 1 if failed else 0


def _require(size: Size, there: int) -> None:
    if size.images > there:
        raise CardgenError(
            f"a bank of {size.images} images, of data with {there}; expected no more than there are; lower --images"
        )
    if size.n > size.images:
        raise CardgenError(
            f"{size.n} images a repetition, out of a bank of {size.images}; expected no more than it holds; lower --size"
        )


def _banks(config: RunConfig, makers: Mapping[str, Maker], console: Console) -> dict[str, dict[str, list[Job]]]:
    """The banks' jobs by metric; what has no verdict that could be wrong is left out, and said where it was asked for by name."""
    found, methods = {}, chosen_methods(config.methods)
    for key in _with_required(chosen_metrics(config.metrics)):
        entry = METRICS[key].entry
        if entry.rule not in TESTED:
            continue
        bank = jobs(key, makers, methods)
        if entry.rule == "unchanged" and config.thresholds.margin is None:
            say(console, f"left out: {key}: described while no margin is set")
        elif not bank:
            skip = makers[""].job(methods[0], METRICS[key]).skip
            say(console, f"left out: {key}: {skip or 'nothing can be measured'}")
        else:
            found[key] = bank
    if not found:
        raise CardgenError(
            f"none of the metrics {', '.join(config.metrics)} gives a verdict here; expected one that does; see `cardgen list metrics`"
        )
    return found


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
    family = _relatives(model, loaded.family, draws)
    subject = replace(loaded.subject, model=model, memo=Memo(), layer=None, siblings=family.modules)
    with subject.open():
        targets = subject.probabilities(len(subject)).argmax(1)
    return replace(loaded, subject=replace(subject, targets=targets), weights=weights_digest(model), family=family)


UNRELATED = ("random-labels", "scene")
"""Kinds of siblings that learnt something else."""
CLOSE = 0.1


def _relatives(model: nn.Module, family: Family, draws: torch.Generator) -> Family:
    """Linear siblings of a linear model: weights drawn anew where a sibling learnt something else, else the model's, a tenth off."""
    found = {}
    for sibling, kin in family.found.items():
        other = copy.deepcopy(model)
        unrelated = sibling.kind in UNRELATED
        with torch.no_grad():
            for parameter in other.parameters():
                noise = torch.randn(parameter.shape, generator=draws).to(parameter) * parameter.std()
                parameter.copy_(noise if unrelated else parameter + CLOSE * noise)
        found[sibling] = replace(kin, module=other, digest=weights_digest(other), accuracy=None)
    return replace(family, found=found)


def jobs(metric: str, makers: Mapping[str, Maker], methods: Sequence[str]) -> dict[str, list[Job]]:
    """What a metric's bank takes: by the key of a method or control, one job a draw; what would be skipped is left out."""
    chosen, found = METRICS[metric], {}
    draws = DRAWS if "noise" in chosen.entry.rule else FEWER
    for key, method in METHODS.items():
        control = method.entry.control
        if not control and key not in methods:
            continue
        several = control in draws and "draw" in method.defaults
        given_draws: list[dict[str, Value]] = [{"draw": draw} for draw in range(draws[control])] if several else [{}]
        found[key] = [makers[""].job(key, chosen, given) for given in given_draws]
    if chosen.entry.rule in ON_LINEAR:
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
) -> dict[Job, str]:
    """Scores of all jobs that have none, stored; the same command goes on from there. What failed, and why."""
    of_twin = [job for bank in banks.values() for job in bank.get(LINEAR, [])]
    others = [job for bank in banks.values() for key, made in bank.items() if key != LINEAR for job in made]
    errors: dict[Job, str] = {}
    with watching(console) as progress:
        for subject, wanted in ((loaded, others), (twin, of_twin)):
            runner = Runner(subject, Plan([], {}, config.budget), store, config.thresholds, config.force, progress)
            todo = [job for job in wanted if runner.stored(job) is None]
            progress.begin(len(todo), sum(job.passes for job in todo))
            with runner.counting():
                errors |= runner.measure(todo)
            if subject is loaded and runner.work.alone:
                say(console, shared(runner.work))
    return errors
