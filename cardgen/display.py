"""Progress on a terminal: nested bars with an estimate of the time left; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cardgen.words import plural, tally

if TYPE_CHECKING:
    from cardgen.build import Report
    from cardgen.plan import Job
    from cardgen.records import Record
    from cardgen.runner import Work

EVERY = 15.0
"""Seconds between plain lines that only say how far a run is."""
SHARE = 0.02
"""Share of a run that must be done before its end is foretold."""
OVERHEAD = 1000
"""What a job takes beside its forward passes, in samples forwarded."""
MARKS = {"pass": "🟢", "fail": "🟥", "inconclusive": "🟨", "descriptive": "⚪", "skipped": "➖", "error": "❌"}


def say(console: Console, text: str, style: str | None = None) -> None:
    """One line, word for word: brackets in it are no markup, and it is not broken."""
    console.print(text, style=style, highlight=False, soft_wrap=True, markup=False, emoji=False)


def shared(work: Work) -> str:
    """What sharing saved."""
    share = work.forwarded / work.alone
    return f"{work.forwarded:,} samples forwarded, {share:.2f} of what the evaluations would take one by one."


class _Records:
    """Records in lines: a method's one by one, a control's in one when its last is there; what is skipped was said before."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._control = ""
        self._counts: Counter[str] = Counter()

    def add(self, job: Job, record: Record) -> None:
        """A record that was written."""
        if job.method.entry.key != self._control:
            self.close()
        if record.verdict == "skipped":
            return
        if job.method.entry.control and record.verdict != "error":
            self._control = job.method.entry.key
            self._counts[record.verdict] += 1
        else:
            say(self._console, _line(record))

    def close(self) -> None:
        """Say what is not said yet."""
        if self._counts:
            say(self._console, f"control {self._control}: {tally(self._counts)}")
        self._counts.clear()


class Bars:
    """The whole run above, the job at hand below; weighted by the samples to be forwarded."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            console=console,
        )  # fmt: skip
        self.records = _Records(console)
        self._whole = self._progress.add_task("all", total=None)
        self._job = self._progress.add_task("", total=None)
        self._done = 0

    def begin(self, jobs: int, passes: int) -> None:
        """The run's size."""
        self._progress.update(self._whole, total=max(passes + jobs * OVERHEAD, 1), description=plural(jobs, "step"))

    def start(self, job: Job) -> None:
        """The job at hand."""
        self._progress.reset(self._job, total=max(job.passes, 1), description=_name(job))

    def advance(self, samples: int) -> None:
        """Samples forwarded."""
        self._progress.advance(self._job, samples)
        task = self._progress.tasks[self._job]
        self._progress.update(self._whole, completed=self._done + min(task.completed, task.total or 0))

    def done(self, job: Job, record: Record | None) -> None:
        """A job's end; what it shared with others counts as done as well."""
        self._done += _work(job)
        self._progress.update(self._job, completed=max(job.passes, 1))
        self._progress.update(self._whole, completed=self._done)
        if record is not None:
            self.records.add(job, record)


class Lines:
    """One line a record, and now and then how far the run is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.records = _Records(console)
        self._total = self._done = self._most = self._ahead = 0
        self._start = self._said = time.monotonic()

    def begin(self, jobs: int, passes: int) -> None:
        """The run's size."""
        self._total = passes + jobs * OVERHEAD
        self._start = self._said = time.monotonic()
        if passes:
            say(self._console, f"{plural(jobs, 'step')}, about {passes:,} samples to forward")

    def start(self, job: Job) -> None:
        """The job at hand."""
        self._most, self._ahead = job.passes, 0

    def advance(self, samples: int) -> None:
        """Samples forwarded."""
        self._ahead = min(self._ahead + samples, self._most)
        self._say()

    def done(self, job: Job, record: Record | None) -> None:
        """A job's end; what it shared with others counts as done as well."""
        self._done, self._ahead = self._done + _work(job), 0
        if record is not None:
            self.records.add(job, record)
        self._say()

    def _say(self) -> None:
        now, done = time.monotonic(), self._done + self._ahead
        if now - self._said > EVERY and SHARE * self._total < done < self._total:
            self._said = now
            left = (now - self._start) * (self._total - done) / done
            say(self._console, f"… {done / self._total:.0%} done, about {duration(left)} left")


def _work(job: Job) -> int:
    """A job's weight in the bar of the whole run."""
    return OVERHEAD + (0 if job.skip else job.passes)


@contextmanager
def watching(console: Console) -> Iterator[Bars | Lines]:
    """Bars on a terminal, lines elsewhere, also where colours are forced upon a file."""
    if not (console.is_interactive and console.file.isatty()):
        lines = Lines(console)
        with closing(lines.records):
            yield lines
        return
    bars = Bars(console)
    with bars._progress, closing(bars.records):
        yield bars


def built(report: Report, *, check: bool) -> Iterator[str]:
    """What a build of cards did, or would do, in lines."""
    if check:
        yield from (f"would change: {name}" for name in report.changed)
    else:
        yield f"{plural(len(report.changed), 'file')} of cards written, {len(report.unchanged)} unchanged."
    yield from (f"left alone, since it was changed by hand outside kept regions: {name}" for name in report.edited)
    yield from (f"obsolete, since no record speaks of it any more: {name}" for name in report.obsolete)
    yield from (f"no card yet, since its measuring has not ended: {name}" for name in report.unfinished)


def _name(job: Job) -> str:
    return f"{job.method.entry.key} · {job.metric.entry.key}"


def _line(record: Record) -> str:
    return f"{MARKS[record.verdict]} {record.method} · {record.metric}: {record.reason}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
