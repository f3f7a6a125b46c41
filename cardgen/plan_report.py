"""What `cardgen plan` prints: what would be measured, what is skipped and why, and what it costs."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from cardgen.display import duration
from cardgen.estimates import Probe, forwarded, probe
from cardgen.plan import Job
from cardgen.runner import Runner
from cardgen.words import listing, plural


def plan_lines(runner: Runner) -> Iterator[str]:
    """What is to do, by method and sample size; then the skips with their reasons, and the cost."""
    states = [(job, runner.state(job)) for job in runner.plan.jobs]
    todo = [job for job, state in states if state == "missing"]
    jobs = [job for job in todo if not job.skip]
    found = [state for _, state in states]
    counts = (
        f"{plural(len(todo), 'evaluation')} to do, {found.count('current')} up to date, {found.count('kept')} kept."
    )
    if jobs:
        measured = probe(runner.loaded)
        yield from _work(jobs, measured)
        yield from _skips([job for job in todo if job.skip])
        yield f"{counts} Nothing was written."
        yield _cost(forwarded(jobs) + forwarded(runner.family_jobs(jobs)), measured, runner.loaded.subject.batch)
    else:
        yield from _skips(todo)
        yield f"{counts} Nothing was written."


def _work(jobs: Sequence[Job], measured: Probe) -> Iterator[str]:
    for key, group in groupby(jobs, key=lambda job: job.method.entry.key):
        mine = list(group)
        samples = forwarded(mine)
        yield (
            f"{key}: {plural(len(mine), 'evaluation')}, about {samples:,} samples to forward, "
            f"{duration(samples / measured.rate)}"
        )
        for n in sorted({job.n for job in mine}):
            yield f"  n = {n}: {', '.join(job.metric.entry.key for job in mine if job.n == n)}"


def _skips(jobs: Sequence[Job]) -> Iterator[str]:
    """One line a reason and method, with the evaluations."""
    for (key, reason), group in groupby(jobs, key=lambda job: (job.method.entry.key, job.skip)):
        yield f"{key}: skipped: {reason} ({listing([job.metric.entry.key for job in group])})"


def _cost(samples: int, measured: Probe, batch: int) -> str:
    time = f"At {measured.rate:,.0f} samples a second, at most about {duration(samples / measured.rate)}"
    memory = "" if measured.memory_mb is None else f"; a batch of {batch} takes about {measured.memory_mb:,.0f} MB"
    return f"{time}{memory}."
