"""One `cardgen run`: subject, plan, measuring, cards; and what is said of it."""

from rich.console import Console

from cardgen.build import build
from cardgen.config import RunConfig
from cardgen.display import built, watching
from cardgen.plan import Plan, make_plan
from cardgen.runner import Outcome, Runner
from cardgen.store import Store
from cardgen.subjects.loading import load_subject

FAILED = 1


def run_session(config: RunConfig, console: Console) -> int:
    """Run, write records and cards; the exit status, 1 where an evaluation failed. A dry run only says what it would measure."""
    loaded = load_subject(config)
    record = loaded.record
    accuracy = "" if record.accuracy is None else f", accuracy {record.accuracy:.1%}"
    console.print(
        f"{record.title}: {record.n} samples{accuracy}; {config.budget} budget; {loaded.subject.inputs.device}, "
        f"batches of {loaded.subject.batch}",
        highlight=False,
    )
    plan = make_plan(config, loaded)
    store = Store(config.out / "evaluations", record.slug)
    if config.dry_run:
        _print_plan(plan, Runner(loaded, plan, store, config.thresholds, config.force), console)
        return 0
    with watching(console) as progress:
        outcome = Runner(loaded, plan, store, config.thresholds, config.force, progress).run()
    report = build(store.evaluations, config.out / "cards")
    _print_outcome(outcome, console)
    for line in built(report, check=False):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"Cards: {config.out / 'cards' / 'README.md'}", highlight=False, soft_wrap=True)
    return FAILED if outcome.errors else 0


def _print_plan(plan: Plan, runner: Runner, console: Console) -> None:
    states = [(job, runner.state(job)) for job in plan.jobs]
    missing = [job for job, state in states if state == "missing"]
    for job in missing:
        what = f"skipped: {job.skip}" if job.skip else f"n = {job.n}, about {job.passes:,} samples to forward"
        console.print(f"{job.method.entry.key} · {job.metric.entry.key}: {what}", highlight=False, soft_wrap=True)
    found = [state for _, state in states]
    console.print(
        f"{len(missing)} evaluations to do, {found.count('current')} up to date, {found.count('kept')} kept. Nothing was written.",
        highlight=False,
    )


def _print_outcome(outcome: Outcome, console: Console) -> None:
    console.print(f"{len(outcome.written)} evaluations measured, {outcome.current} up to date.", highlight=False)
    if outcome.kept:
        console.print(
            f"{outcome.kept} kept, since they rest on a larger budget; --force replaces them.", highlight=False
        )
    for record in outcome.errors:
        console.print(f"failed: {record.method} · {record.metric}: {record.reason}", style="red", soft_wrap=True)


