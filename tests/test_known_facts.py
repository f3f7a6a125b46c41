"""docs/known-facts.md says what the committed records say. `python tests/test_known_facts.py --write` fills its table anew."""

import json
import sys
from pathlib import Path

from cardgen.aggregator import load_all, verdicts

ROOT = Path(__file__).parent.parent
DOC = ROOT / "docs" / "known-facts.md"
SUBJECT = ROOT / "evaluations" / "digit-cnn-digits-on-scenes"
COLUMNS = {
    "model_weight_randomization": "random weights",
    "data_randomization": "random labels",
    "model_contrast_score": "model contrast",
    "repeatability": "trained again",
    "roar": "ROAR",
}
MARKS = {"pass": "🟢", "fail": "🟥", "inconclusive": "🟨"}
OPEN, CLOSE = "<!-- table -->\n", "<!-- /table -->"


def record(method, metric):
    file = SUBJECT / method / f"{metric}.json"
    return json.loads(file.read_text()) if file.is_file() else {"verdict": "skipped"}


def cell(found, final):
    return f"{MARKS[final]} {found['estimate']:z.2f}" if found.get("estimate") is not None else "–"


def lines():
    """The table: one row a method that has been measured between models, those beyond core with a star."""
    table = verdicts(load_all(ROOT / "evaluations").records)
    final = {(row.method, row.metric): row.final for row in table[table["subject"] == SUBJECT.name].itertuples()}
    methods = sorted(path.name for path in SUBJECT.iterdir() if (path / "method.json").is_file())
    yield f"| method | {' | '.join(COLUMNS.values())} |\n"
    yield f"| --- |{' --- |' * len(COLUMNS)}\n"
    for method in methods:
        found = {metric: record(method, metric) for metric in COLUMNS}
        if found["data_randomization"]["verdict"] == "skipped":
            continue
        title = json.loads((SUBJECT / method / "method.json").read_text())["catalogue"]["title"]
        star = "*" if found["data_randomization"].get("budget") == "quick" else ""
        yield f"| {title}{star} | {' | '.join(cell(one, final.get((method, metric))) for metric, one in found.items())} |\n"


def test_the_table_is_that_of_the_records():
    text = DOC.read_text(encoding="utf-8")
    assert text.partition(OPEN)[2].partition(CLOSE)[0] == "".join(lines())


if __name__ == "__main__" and "--write" in sys.argv:
    before, _, rest = DOC.read_text(encoding="utf-8").partition(OPEN)
    DOC.write_text(before + OPEN + "".join(lines()) + CLOSE + rest.partition(CLOSE)[2], encoding="utf-8")
