"""One `cardgen run`: subject, plan, measuring, cards; and what is said of it."""

from rich.console import Console

from cardgen.build import build
from cardgen.config import RunConfig
from cardgen.display import built, say, watching
from cardgen.plan import Plan, make_plan
from cardgen.runner import Outcome, Runner
from cardgen.store import Store
from cardgen.subjects.loading import load_subject

FAILED = 1


def run_session(config: RunConfig, console: Console) -> int:
    """Run, write records and cards; the exit status, 1 where an evaluation failed. A dry run only says what it would measure."""
    loaded = load_subject(config)
    record = loaded.record
    plan = make_plan(config, loaded)
    accuracy = "" if record.accuracy is None else f", accuracy {record.accuracy:.1%}"
    say(
        console,
        f"{record.title}: {record.n} samples{accuracy}; {config.budget} budget; {loaded.subject.inputs.device}, "
        f"batches of {loaded.subject.batch}",
    )
    store = Store(config.out / "evaluations", record.slug)
    if config.dry_run:
        _say_plan(plan, Runner(loaded, plan, store, config.thresholds, config.force), console)
        return 0
    with watching(console) as progress:
        outcome = Runner(loaded, plan, store, config.thresholds, config.force, progress).run()
    _say_outcome(outcome, console)
    for line in built(build(store.evaluations, config.out / "cards"), check=False):
        say(console, line)
    say(console, f"Cards: {config.out / 'cards' / 'README.md'}")
    return FAILED if outcome.errors else 0


def _say_plan(plan: Plan, runner: Runner, console: Console) -> None:
    states = [(job, runner.state(job)) for job in plan.jobs]
    found = [state for _, state in states]
    for job in (job for job, state in states if state == "missing"):
        what = f"skipped: {job.skip}" if job.skip else f"n = {job.n}, about {job.passes:,} samples to forward"
        say(console, f"{job.method.entry.key} · {job.metric.entry.key}: {what}")
    counts = (
        f"{found.count('missing')} evaluations to do, {found.count('current')} up to date, {found.count('kept')} kept"
    )
    say(console, f"{counts}. Nothing was written.")


def _say_outcome(outcome: Outcome, console: Console) -> None:
    say(console, f"{len(outcome.written)} evaluations measured, {outcome.current} up to date.")
    if outcome.kept:
        say(console, f"{outcome.kept} kept, since they rest on a larger budget; --force replaces them.")
    for record in outcome.errors:
        say(console, f"failed: {record.method} · {record.metric}: {record.reason}", style="red")
