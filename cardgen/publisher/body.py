"""The pull request's words: what moved and why, what was left alone, how it was made; and the marker at its end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cardgen.paths import shipped
from cardgen.publisher.changes import Change
from cardgen.publisher.escape import inline
from cardgen.records import Record
from cardgen.templater import Markdown, render_pull_request
from cardgen.words import MARKS, estimate, listing, plural

TITLE = "Regenerate saliency cards"
LIMIT = 60_000
"""Characters of a body, its marker included; GitHub takes 65 536."""
SKIPPED_SHOWN = 50
BEGIN = "<!-- cardgen:begin -->"
MARKER = re.compile(r"<!-- cardgen:v1 digest=([0-9a-f]{64}) head=([0-9a-f]{40}(?:[0-9a-f]{24})?) -->")
ROOM = 200
"""Characters kept free for the marker."""


@dataclass(frozen=True)
class Row:
    """One change's cells, escaped."""

    card: Markdown
    evaluation: Markdown
    verdict: Markdown
    score: Markdown
    why: Markdown


@dataclass(frozen=True)
class Pull:
    """Everything in the body but the marker; `more` rows and skipped cards did not fit."""

    begin: Markdown
    summary: Markdown
    rows: tuple[Row, ...]
    more: int
    skipped: tuple[Markdown, ...]
    more_skipped: int
    made: tuple[tuple[Markdown, Markdown], ...]


def pull_body(changes: Sequence[Change], skipped: Sequence[str], made: Mapping[str, str]) -> str:
    """The body without its marker: at most 60 000 characters with it, cut at a row with "N more", moved verdicts first.

    Args:
        changes: what moved.
        skipped: cards changed by hand, which were left alone.
        made: what the content was made with, such as the base's commit and the version; name → value.
    """
    rows = [_row(change) for change in sorted(changes, key=_rank)]
    whole = Pull(
        begin=Markdown(BEGIN),
        summary=Markdown(_summary(changes)),
        rows=tuple(rows),
        more=0,
        skipped=tuple(map(inline, skipped[:SKIPPED_SHOWN])),
        more_skipped=max(0, len(skipped) - SKIPPED_SHOWN),
        made=tuple((inline(name), inline(value)) for name, value in made.items()),
    )
    text = _render(whole)
    if len(text) <= LIMIT - ROOM:
        return text
    shown = _fitting(rows, LIMIT - ROOM - len(_render(replace(whole, rows=tuple(rows[:1]), more=len(rows)))))
    return _render(replace(whole, rows=tuple(rows[:shown]), more=len(rows) - shown))


def marker(digest: str, head: str) -> str:
    """The body's last line: the sha256 of the generated files, and the commit that was pushed."""
    return f"<!-- cardgen:v1 digest={digest} head={head} -->"


def read_marker(body: str) -> tuple[str, str] | None:
    """Digest and head from the last line of a body that is not blank; None where that line is no marker."""
    last = body.rstrip().replace("\r", "\n").rpartition("\n")[2]
    found = MARKER.fullmatch(last.strip())
    return (found[1], found[2]) if found else None


def with_block(body: str, block: str) -> str:
    """A body whose own block is replaced; what people wrote around it is kept, above, since the marker is the last line."""
    above, _, own = body.replace("\r\n", "\n").partition(BEGIN)
    ends = [found.end() for found in MARKER.finditer(own)]
    kept = [part.strip() for part in (above, own[ends[-1] :] if ends else "")]
    return "\n\n".join([*filter(None, kept), block])


def _render(pull: Pull) -> str:
    return render_pull_request(pull, shipped("templates"))


def _fitting(rows: Sequence[Row], room: int) -> int:
    """How many rows fit, beside the first, into so many characters."""
    shown = 1
    for row in rows[1:]:
        room -= sum(len(cell) + 3 for cell in vars(row).values()) + 2
        if room < 0:
            break
        shown += 1
    return shown


def _rank(change: Change) -> tuple[int, str]:
    """Moved verdicts first, then scores, then what was added or removed."""
    there = change.before is not None and change.after is not None
    return (0 if there and change.verdict_moved else 1 if there else 2, change.place)


def _row(change: Change) -> Row:
    return Row(
        card=inline(f"{change.method} on {change.subject}"),
        evaluation=inline(change.title),
        verdict=_arrow(_verdict(change.final_before), _verdict(change.final_after)),
        score=_arrow(_score(change.before), _score(change.after)),
        why=inline(listing(change.why)),
    )


def _verdict(final: str) -> str:
    return f"{MARKS[final]} {final}"


def _score(record: Record | None) -> str:
    return "–" if record is None or record.estimate is None else estimate(record.estimate, record.interval)


def _arrow(before: str, after: str) -> Markdown:
    return Markdown(before if before == after else f"{before} → {after}")


def _summary(changes: Sequence[Change]) -> str:
    ranks = [_rank(change)[0] for change in changes]
    added = sum(change.before is None for change in changes)
    counts = {
        "verdict moved": ranks.count(0),
        "score moved": ranks.count(1),
        "evaluation added": added,
        "evaluation removed": ranks.count(2) - added,
    }
    told = [_counted(count, words) for words, count in counts.items() if count]
    return listing(told) if told else "no verdict or score moved, only what cards say of them"


def _counted(count: int, words: str) -> str:
    noun, what = words.split()
    return f"{plural(count, noun)} {what}"
