"""One `cardgen run`: subject, plan, measuring, cards; and what is said of it."""

from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from cardgen.build import build
from cardgen.config import RunConfig
from cardgen.display import built, say, shared, watching
from cardgen.leftovers import leftovers
from cardgen.own_methods import own_methods
from cardgen.plan import Job, make_plan, retrains, siblings_of
from cardgen.plan_report import plan_lines, skips
from cardgen.runner import Outcome, Runner
from cardgen.store import Store
from cardgen.subjects.loading import Loaded, load_subject
from cardgen.subjects.raising import Raising
from cardgen.subjects.retraining import FOLDER as AGAIN
from cardgen.subjects.siblings import FOLDER, Search
from cardgen.subjects.train_data import raising
from cardgen.words import plural

FAILED = 1
UNTRAINED = "it is trained by `cardgen run`"
CHANCE = (
    "On these samples the model is no better than always naming the most frequent class, so nothing is judged. "
    "Check its weights, the classes and the preprocessing with `cardgen doctor`; --force-unhealthy measures all the same."
)


def run_session(config: RunConfig, console: Console) -> int:
    """Run, write records and cards; the exit status, 1 where an evaluation failed. A dry run only says what it would measure."""
    with own_methods(config) as config:
        return _run(config, console)


def _run(config: RunConfig, console: Console) -> int:
    loaded = load_subject(config)
    record = loaded.record
    accuracy = "" if record.accuracy is None else f", accuracy {record.accuracy:.1%}"
    say(
        console,
        f"{record.title}: {record.n} samples{accuracy}; {config.budget} budget; {loaded.subject.inputs.device}, "
        f"batches of {loaded.subject.batch}",
    )
    store = Store(config.out / "evaluations", record.slug)
    loaded = with_siblings(config, loaded, store, lambda line: say(console, line))
    plan = make_plan(config, loaded)
    for note in loaded.notes:
        say(console, note)
    if record.health == "chance" and not config.force_unhealthy:
        say(console, CHANCE)
    if config.missing:
        plan = replace(plan, jobs=[job for job in plan.jobs if _untested(store, job)])
    runner = Runner(loaded, plan, store, config.thresholds, config.force)
    if config.dry_run:
        for line in plan_lines(runner):
            say(console, line)
        return 0
    for line in skips([job for job in plan.jobs if job.skip and runner.state(job) == "missing"]):
        say(console, line)
    if any(job.method.entry.access == "features" and not job.skip for job in plan.jobs):
        say(console, f"Methods of class activation take the layer {loaded.subject.features}; --layer names another.")
    with watching(console) as progress:
        outcome = replace(runner, progress=progress).run()
    _say_outcome(outcome, console)
    for line in leftovers(store, loaded):
        say(console, line)
    for line in built(build(store.evaluations, config.out / "cards"), check=False):
        say(console, line)
    say(console, f"Cards: {config.out / 'cards' / 'README.md'}")
    return FAILED if outcome.errors else 0


def with_siblings(config: RunConfig, loaded: Loaded, store: Store, tell: Callable[[str], None]) -> Loaded:
    """The subject with the other trained models that the run compares with, trained first where they have to be, and with what there
    is to train its own model anew with, for metrics that do."""
    needed, again = siblings_of(config), retrains(config)
    if not (needed or again) or (loaded.record.health == "chance" and not config.force_unhealthy):
        return loaded
    # what images there are to train on is part of a key; a dry run that needs to know reads them
    known = again or not config.dry_run or config.train_data is None
    how = raising(config, loaded, tell) if known else UNTRAINED
    trained = UNTRAINED if config.dry_run and isinstance(how, Raising) else how
    family = Search(config, loaded, store.root / FOLDER, trained).family(needed)
    subject = replace(loaded.subject, siblings=family.modules)
    if again and isinstance(how, Raising):
        subject = replace(subject, retraining=how.retraining(store.root / AGAIN, config.target))
    return replace(loaded, family=family, subject=subject)


def _untested(store: Store, job: Job) -> bool:
    """Whether there is no record of a job, or only that of a failure."""
    found = store.record(store.path(job.method.entry, job.metric.entry.key))
    return found is None or found.verdict == "error"


def _say_outcome(outcome: Outcome, console: Console) -> None:
    skipped, failed = len(outcome.skipped), len(outcome.errors)
    measured = plural(len(outcome.written) - skipped - failed, "evaluation")
    more = f"{f', {skipped} skipped' if skipped else ''}{f', {failed} failed' if failed else ''}"
    say(console, f"{measured} measured{more}, {outcome.current} up to date.")
    if outcome.work.forwarded and outcome.work.alone:
        say(console, shared(outcome.work))
    if outcome.kept:
        say(console, f"{outcome.kept} kept, since they rest on a larger budget; --force replaces them.")
    for record in outcome.errors:
        say(console, f"failed: {record.method} · {record.metric}: {record.reason}", style="red")
