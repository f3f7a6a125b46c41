"""Small scores of every metric and method: when numbers move, a version must have been raised.

`python tests/test_golden.py --write` makes tests/golden/scores.json anew.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden" / "scores.json"
MAPS = {"steps": 8, "n_masks": 24, "n_samples": 4, "samples": 4, "stride": 0.125}
MAPS |= {"n_perturbations": 24, "segments": 6, "cells": 3, "iterations": 3, "backgrounds": 2}
MAPS |= {"removals": 8, "updates": 3, "points": 2}
SCORES = {
    "steps": 12,
    "reinitialisations": 2,
    "depths": 3,
    "curve_samples": 2,
    "runs": 3,
    "tolerance": 0.25,
    "draws": 8,
    "perturbations": 24,
    "noise_draws": 2,
    "layers": 3,
    "labels": 4,
    "side": 3,
}
EXPLAINED_BY = {"determinism": "rise"}  # for all others integrated gradients, which leave determinism nothing to say
N = 4


def measured():
    """What the file holds: by kind and key, the version and numbers of one entry."""
    from small_models import in_other_words, siblings_of, tiny_subject

    from cardgen import measure
    from cardgen.methods import METHODS
    from cardgen.metrics import METRICS

    small = tiny_subject(N)
    few = {key: {k: v for k, v in MAPS.items() if k in METHODS[key].defaults} for key in METHODS}
    methods = {
        key: {
            "version": METHODS[key].entry.version,
            "numbers": statistics(at_home_maps(key, few[key])),
            "declared": declared(METHODS[key]),
        }
        for key in METHODS
    }
    metrics = {}
    for key, metric in METRICS.items():
        if "training" in metric.entry.needs:
            continue  # networks trained on another machine are others
        method = EXPLAINED_BY.get(key, "integrated_gradients")
        parameters = {k: v for k, v in SCORES.items() if k in metric.defaults}
        others = {"siblings": siblings_of(small.model), "synonyms": in_other_words(small.inputs)}
        scores = measure(
            key, *small.call, masks=small.masks, method=method, method_params=few[method], **others, **parameters
        )
        # scores also move with the maps they judge
        metrics[key] = {
            "version": [metric.entry.version, METHODS[method].entry.version],
            "numbers": scores.values.tolist(),
        }
    return {"methods": methods, "metrics": metrics}


def at_home_maps(key, parameters):
    """A method's maps of the network that it fits."""
    from homes import at_home, masking

    from cardgen import explain

    small = at_home(key, N)
    return explain(key, *small.call, masks=small.masks, masker=masking(key, small), **parameters)


def declared(method):
    """What metrics read of a method beside its maps, and no key holds: as numbers do, it moves only with the version."""
    entry = method.entry
    return {
        "access": entry.access,
        "reduction": entry.reduction,
        "complete": method.complete,
        "ranges": {name: list(values) for name, values in method.ranges.items()},
    }


def statistics(maps):
    """Mean, deviation, least and largest value, one pixel, and a position-weighted mean, of each map in turn."""
    weights = np.linspace(-1, 1, maps[0].numel())
    rows = maps.flatten(1).double().numpy()
    return [
        float(value)
        for row in rows
        for value in (row.mean(), row.std(), row.min(), row.max(), row[37], (weights * row).mean())
    ]


def moved(now, stored):
    """Whether numbers differ by more than 1e-4 + 1e-3 of their size."""
    now, stored = np.asarray(now), np.asarray(stored)
    return now.shape != stored.shape or bool((np.abs(now - stored) > 1e-4 + 1e-3 * np.abs(stored)).any())


def findings(now, stored):
    """One sentence for every entry that does not stand as it is stored."""
    found = []
    for kind in ("methods", "metrics"):
        for key in sorted(now[kind].keys() | stored[kind].keys()):
            new, old = now[kind].get(key), stored[kind].get(key)
            if new is None or old is None:
                found.append(f"{kind} {key}: {'not in the file' if old is None else 'only in the file'}; write it anew")
            elif new["version"] != old["version"]:
                found.append(f"{kind} {key}: version {old['version']} → {new['version']}; write the file anew")
            elif new.get("declared") != old.get("declared"):
                found.append(f"{kind} {key}: declares something else at version {old['version']}; raise the version")
            elif moved(new["numbers"], old["numbers"]):
                found.append(
                    f"{kind} {key}: numbers moved at version {old['version']}; raise the version, or mend the code"
                )
    return found


def test_nothing_moves_without_a_new_version():
    assert findings(measured(), json.loads(GOLDEN.read_text())) == []


class TestFindings:
    NOW = {  # noqa: RUF012
        "methods": {"a": {"version": 1, "numbers": [0.5, 2000.0]}},
        "metrics": {"m": {"version": [1, 1], "numbers": [0.1]}},
    }

    def changed(self, kind, key, **entry):
        return {**self.NOW, kind: {**self.NOW[kind], key: {**self.NOW[kind].get(key, {}), **entry}}}

    def test_equal(self):
        assert findings(self.NOW, self.NOW) == []

    @pytest.mark.parametrize(
        ("numbers", "seen"),
        [([0.5005, 2001.9], False), ([0.502, 2000.0], True), ([0.5, 2003.0], True), ([0.5], True)],
    )
    def test_tolerance(self, numbers, seen):
        expected = ["methods a: numbers moved at version 1; raise the version, or mend the code"] if seen else []
        assert findings(self.changed("methods", "a", numbers=numbers), self.NOW) == expected

    def test_other_declarations_of_one_version(self):
        stored = self.changed("methods", "a", declared={"ranges": {"steps": [20, 50]}})
        now = self.changed("methods", "a", declared={"ranges": {"steps": [20, 200]}})
        assert findings(stored, stored) == []
        assert findings(now, stored) == ["methods a: declares something else at version 1; raise the version"]

    def test_a_raised_version_asks_for_a_new_file(self):
        now = self.changed("metrics", "m", numbers=[9.0], version=[2, 1])
        assert findings(now, self.NOW) == ["metrics m: version [1, 1] → [2, 1]; write the file anew"]

    def test_new_and_removed_entries(self):
        more = self.changed("methods", "b", version=1, numbers=[])
        assert findings(more, self.NOW) == ["methods b: not in the file; write it anew"]
        assert findings(self.NOW, more) == ["methods b: only in the file; write it anew"]


def write():
    """Make the file anew, and say what moved without a new version."""
    now = measured()
    if GOLDEN.exists():
        print(*findings(now, json.loads(GOLDEN.read_text())), sep="\n")
    rounded = json.loads(json.dumps(now), parse_float=lambda text: round(float(f"{float(text):.7g}"), 9))
    lines = [
        f'"{kind}": {{\n'
        + ",\n".join(f'"{key}": {json.dumps(entry)}' for key, entry in sorted(rounded[kind].items()))
        + "\n}"
        for kind in rounded
    ]
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__" and "--write" in sys.argv:
    write()
