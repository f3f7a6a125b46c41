"""What `cardgen plan` prints: what would be measured, what is skipped and why, and what it costs."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from cardgen.display import duration
from cardgen.estimates import forwarded, probe
from cardgen.plan import Job
from cardgen.runner import Runner
from cardgen.words import listing, plural


def plan_lines(runner: Runner) -> Iterator[str]:
    """One line an evaluation to do, by method; then the skips with their reasons, and the cost."""
    states = [(job, runner.state(job)) for job in runner.plan.jobs]
    todo = [job for job, state in states if state == "missing"]
    jobs = [job for job in todo if not job.skip]
    families = runner.family_jobs(jobs)
    measured = probe(runner.loaded) if jobs else None
    rate = measured.rate if measured else 0.0
    for key, group in groupby(jobs, key=lambda job: job.method.entry.key):
        mine = list(group)
        yield f"{key}: {plural(len(mine), 'evaluation')}, {_cost(forwarded(mine), rate)}"
        for job in mine:
            yield f"  {job.metric.entry.key}: n = {job.n}"
    yield from _skips([job for job in todo if job.skip])
    found = [state for _, state in states]
    yield (
        f"{plural(len(todo), 'evaluation')} to do, {found.count('current')} up to date, {found.count('kept')} kept. Nothing was written."
    )
    if measured:
        samples = forwarded(jobs) + forwarded(families)
        memory = (
            ""
            if measured.memory_mb is None
            else f"; a batch of {runner.loaded.subject.batch} takes about {measured.memory_mb:,.0f} MB"
        )
        yield f"At {measured.rate:,.0f} samples a second, at most about {duration(samples / measured.rate)}{memory}."


def _skips(jobs: Sequence[Job]) -> Iterator[str]:
    """One line a reason and method, with the evaluations."""
    for (key, reason), group in groupby(jobs, key=lambda job: (job.method.entry.key, job.skip)):
        yield f"{key}: skipped: {reason} ({listing([job.metric.entry.key for job in group])})"


def _cost(samples: int, rate: float) -> str:
    return f"about {samples:,} samples to forward" + (f", {duration(samples / rate)}" if rate else "")
