"""Where evidence on one attribute disagrees, in sentences that stay short however many evaluations there are."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from cardgen.aggregator import rows
from cardgen.evidence import Evidence
from cardgen.literature import PublishedVerdict
from cardgen.records import Attribute
from cardgen.words import few, listing, plural, tally

NAMED = 4
"""Names that a sentence holds on one side; more are counted, since a line of its own stands below for each."""
OPPOSITE = {"pass": "fail", "fail": "pass"}
VERBS = {"pass": "passes", "fail": "fails"}
SAME = 1e-3
"""The largest relative difference between two runs' maps that is put down to the order of additions."""


def conflicts(table: pd.DataFrame, evidence: Evidence, method: str, attribute: Attribute) -> list[str]:
    """Plain sentences on one attribute of one method; `table` is `aggregator.verdicts`, so that final verdicts count.

    Only a pass against a fail is a conflict, never one of them against inconclusive. Four kinds: metrics on the same subject; subjects on
    the same metric; publications on the same metric; measured against published. Where publications disagree among themselves,
    whatever was measured agrees with one of them, so only they are named.
    """
    mine = table[(table["method"] == method) & (table["attribute"] == attribute)]
    published: dict[str, list[PublishedVerdict]] = {}
    for verdict in evidence.literature[method].verdicts:
        if verdict.verdict in OPPOSITE:
            published.setdefault(verdict.metric, []).append(verdict)
    split = {key: found for key, found in published.items() if len({verdict.verdict for verdict in found}) > 1}
    agreed = {key: found[0] for key, found in published.items() if key not in split}
    here = {key: found for key, found in split.items() if any(verdict.attribute == attribute for verdict in found)}
    return [
        *_metrics(mine),
        *_subjects(mine),
        *_publications(here, evidence),
        *_against(mine, agreed),
        *(_determinism(evidence, method) if attribute == "determinism" else ()),
    ]


def _metrics(mine: pd.DataFrame) -> Iterator[str]:
    """One sentence for all subjects on which the same evaluations pass and fail."""
    found: dict[str, list[str]] = {}
    for subject, group in mine.groupby("subject"):
        passed, failed = (list(group.loc[group["final"] == state, "title"]) for state in OPPOSITE)
        if passed and failed:
            said = f"{_side(passed, 'pass', len(passed) < len(failed))}, {_side(failed, 'fail', len(failed) <= len(passed))}"
            found.setdefault(said, []).append(str(subject))
    for said, subjects in found.items():
        yield f"Evaluations disagree on {listing(few(subjects, NAMED))}: {said}."


def _side(titles: list[str], verdict: str, minority: bool) -> str:
    """Those that pass, or fail: by name if they are few; else their number, and the first names of the smaller side."""
    if len(titles) <= NAMED:
        return f"{listing(titles)} {VERBS[verdict] if len(titles) == 1 else verdict}"
    return f"{len(titles)} {verdict}{f' ({listing(few(titles, NAMED))})' if minority else ''}"


def _subjects(mine: pd.DataFrame) -> Iterator[str]:
    decided = mine[mine["final"].isin(list(OPPOSITE))]
    grouped = [group for _, group in decided.groupby("metric", sort=False) if group["final"].nunique() > 1]
    titles = [str(group["title"].iloc[0]) for group in grouped]
    if len(grouped) == 1:
        (group,) = grouped
        where = {state: listing(few(list(group.loc[group["final"] == state, "subject"]), NAMED)) for state in OPPOSITE}
        yield f"Subjects disagree on {titles[0]}: it passes on {where['pass']} and fails on {where['fail']}."
    elif grouped:
        yield f"Subjects disagree on {plural(len(grouped), 'evaluation')}: {listing(few(titles, NAMED))}."


def _publications(split: dict[str, list[PublishedVerdict]], evidence: Evidence) -> Iterator[str]:
    for metric, found in split.items():
        known = evidence.metrics.get(metric)
        marks: list[str] = [verdict.verdict for verdict in found]
        counts = tally({mark: marks.count(mark) for mark in OPPOSITE})
        yield f"Publications disagree on {known.title if known else metric.replace('_', ' ')}: {counts}."


def _against(mine: pd.DataFrame, published: dict[str, PublishedVerdict]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for row in rows(mine):
        if row.metric in published and row.final == OPPOSITE[published[row.metric].verdict]:
            found.setdefault(row.metric, []).append(row.subject)
    titles = {row.metric: row.title for row in rows(mine)}
    if len(found) <= 2:
        for metric, subjects in found.items():
            one = published[metric]
            yield (
                f"Measured and published disagree on {titles[metric]}: {OPPOSITE[one.verdict]} on "
                f"{listing(few(subjects, NAMED))}, published as {one.verdict}"
                f"{', guaranteed by the algorithm' if one.kind == 'proven' else ''}."
            )
        return
    sides = {
        state: [titles[metric] for metric in found if published[metric].verdict == OPPOSITE[state]]
        for state in OPPOSITE
    }
    said = [_side(names, state, True) for state, names in sides.items() if names]
    yield (
        f"Measured and published disagree on {plural(len(found), 'evaluation')}: here {listing(said)}, published the other way."
    )


def _determinism(evidence: Evidence, method: str) -> Iterator[str]:
    """What Table A1 says of repeated runs, against what they gave; a method deterministic under a condition contradicts nothing."""
    row = evidence.literature[method].table
    for record in evidence.records:
        told = record.reported
        if row is None or (record.method, record.metric) != (method, "determinism") or "identical" not in told:
            continue
        differ = not told["identical"] and float(told.get("max_relative_difference") or 0) > SAME
        if row.determinism == "deterministic" and differ:
            yield f"Measured and published disagree: runs differ on {record.subject}, published as deterministic."
        if row.determinism == "non_deterministic" and told["identical"]:
            yield f"Measured and published disagree: runs are identical on {record.subject}, published as not deterministic."
