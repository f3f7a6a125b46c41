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
        yield from skips(todo)
        yield f"{counts} Nothing was written."
        yield _cost(forwarded(jobs) + forwarded(runner.family_jobs(jobs)), measured, runner.loaded.subject.batch)
    else:
        yield from skips(todo)
        yield f"{counts} Nothing was written."


def _work(jobs: Sequence[Job], measured: Probe) -> Iterator[str]:
    """One line a method; below those of the same evaluations these with their samples."""
    for sizes, methods in groupby(_by_method(jobs), key=_sizes):
        several = list(methods)
        for mine in several:
            samples = forwarded(mine)
            yield (
                f"{mine[0].method.entry.key}: {plural(len(mine), 'evaluation')}, about {samples:,} samples to forward, "
                f"{duration(samples / measured.rate)}"
            )
        yield from (f"  {'each with ' * (len(several) > 1)}{size}" for size in sizes)


def _by_method(jobs: Sequence[Job]) -> list[list[Job]]:
    return [list(group) for _, group in groupby(jobs, key=lambda job: job.method.entry.key)]


def _sizes(jobs: Sequence[Job]) -> list[str]:
    """Evaluations by their number of samples."""
    return [
        f"n = {n}: {', '.join(job.metric.entry.key for job in jobs if job.n == n)}"
        for n in sorted({job.n for job in jobs})
    ]


def skips(jobs: Sequence[Job]) -> Iterator[str]:
    """One line a reason and list of evaluations, with the methods."""
    groups: dict[tuple[str, str], list[str]] = {}
    for reason in dict.fromkeys(job.skip for job in jobs if job.skip):
        for mine in _by_method([job for job in jobs if job.skip == reason]):
            metrics = listing([job.metric.entry.key for job in mine])
            groups.setdefault((reason, metrics), []).append(mine[0].method.entry.key)
    for (reason, metrics), methods in groups.items():
        yield f"skipped: {reason}: {listing(methods)} ({metrics})"


def _cost(samples: int, measured: Probe, batch: int) -> str:
    time = f"At {measured.rate:,.0f} samples a second, at most about {duration(samples / measured.rate)}"
    memory = "" if measured.memory_mb is None else f"; a batch of {batch} takes about {measured.memory_mb:,.0f} MB"
    return f"{time}{memory}."
