"""What needs several records: final verdicts and coverage, as pandas tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from cardgen.evidence import Evidence, load_all
from cardgen.records import Record
from cardgen.words import listing, number

__all__ = ["ALPHA", "Evidence", "coverage", "holm", "load_all", "verdicts"]

ALPHA = 0.025
DECIDED = ("pass", "fail", "inconclusive")
COLUMNS = ["subject", "method", "metric", "title", "attribute", "own", "p", "requires"]
STATES = {"pass": "passed", "fail": "failed", "inconclusive": "is inconclusive", "descriptive": "has no verdict"}


def verdicts(records: Iterable[Record]) -> pd.DataFrame:
    """One row a record: its own verdict, the final one, and why they differ (empty where they do not).

    Holm's correction and unmet requirements turn a pass into inconclusive; nothing is ever turned into a pass.
    """
    found = [
        (r.subject, r.method, r.metric, r.catalogue.title, r.catalogue.attribute, r.verdict, r.p, r.requires)
        for r in records
    ]
    table = pd.DataFrame(found, columns=COLUMNS).astype({"p": float})
    table["final"], table["why"] = table["own"], ""
    _correct(table)
    while _require(table):
        pass
    return table


def rows(table: pd.DataFrame) -> list[Any]:
    """The table's rows as named tuples."""
    return list(table.itertuples()) if len(table) else []


def holm(p: pd.Series[float]) -> pd.Series[float]:
    """Holm's step-down adjusted p-values: the largest (m − j + 1) p₍ⱼ₎ for j ≤ i, at most 1 (Holm 1979)."""
    ordered = p.sort_values(kind="stable")
    steps = pd.Series(range(len(ordered), 0, -1), index=ordered.index)
    return (ordered * steps).cummax().clip(upper=1.0).reindex(p.index)


def _correct(table: pd.DataFrame) -> None:
    """Holm over the pass/fail metrics with a p-value of one attribute × method × subject."""
    family = table[table["own"].isin(DECIDED) & table["p"].notna()]
    for _, group in family.groupby(["subject", "method", "attribute"]):
        adjusted = holm(group["p"])
        for row in group.index[(group["own"] == "pass") & (adjusted > ALPHA)]:
            table.loc[row, "final"] = "inconclusive"
            raised = f"Holm's correction for the {len(group)} evaluations of this attribute raises p to {number(adjusted[row])}"
            said = raised if group["p"][row] <= ALPHA else f"p is {number(group['p'][row])}"
            table.loc[row, "why"] = f"{said}, above {ALPHA}"


def _require(table: pd.DataFrame) -> bool:
    """Take back passes whose required metric has no final pass for the same method and subject; whether any was."""
    final = {(row.subject, row.method, row.metric): (row.title, row.final) for row in rows(table)}
    changed = False
    for row in rows(table[table["final"] == "pass"]):
        unmet = []
        for needed in row.requires:
            title, state = final.get((row.subject, row.method, needed), (needed.replace("_", " "), "untested"))
            if state != "pass":
                unmet.append(f"{title} {STATES.get(state, 'was not tested')}")
        if unmet:
            table.loc[row.Index, ["final", "why"]] = [
                "inconclusive",
                f"holds, but not shown to depend on the model: {listing(unmet)}",
            ]
            changed = True
    return changed


def coverage(table: pd.DataFrame, evidence: Evidence, method: str) -> pd.DataFrame:
    """Index (subject, attribute); one column a final verdict with its count, and `total`, the known evaluations."""
    totals = pd.Series([known.attribute for known in evidence.metrics.values()]).value_counts()
    index = pd.MultiIndex.from_product([list(evidence.methods[method]), totals.index], names=["subject", "attribute"])
    mine = table[table["method"] == method]
    counted = mine.groupby(["subject", "attribute", "final"]).size().unstack(fill_value=0)
    counts = counted.reindex(index, fill_value=0).astype(int)
    counts["total"] = totals.reindex(index.get_level_values("attribute")).to_numpy()
    return counts
