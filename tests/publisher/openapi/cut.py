"""Cut GitHub's own description of its API to the operations that cardgen uses; see README.md beside this file.

`python cut.py package/generated/api.github.com.json` writes api.github.com.cut.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CUT = Path(__file__).with_name("api.github.com.cut.json")
REPOSITORY = "/repos/{owner}/{repo}"
OPERATIONS = {
    REPOSITORY: ("get",),
    f"{REPOSITORY}/pulls": ("get", "post"),
    f"{REPOSITORY}/pulls/{{pull_number}}": ("patch",),
    f"{REPOSITORY}/issues/{{issue_number}}/labels": ("post",),
    f"{REPOSITORY}/issues/{{issue_number}}/comments": ("get", "post"),
    f"{REPOSITORY}/pulls/{{pull_number}}/requested_reviewers": ("post",),
}
PROSE = {"description", "example", "examples", "externalDocs", "summary", "tags", "deprecated", "title"}


def cut(whole: dict) -> dict:
    """The operations, everything they refer to, no prose, and no property that the description does not name."""
    paths = {path: {verb: _bare(whole["paths"][path][verb]) for verb in verbs} for path, verbs in OPERATIONS.items()}
    components: dict[str, dict] = {}
    todo = _references(paths)
    while todo:
        _, _, kind, name = todo.pop().split("/")
        if name in components.setdefault(kind, {}):
            continue
        found = _bare(whole["components"][kind][name])
        components[kind][name] = _strict(found)
        todo += _references(found)
    about = {key: whole[key] for key in ("openapi", "info", "servers")}
    return about | {"paths": _strict(paths), "components": components}


def _bare(node, names: bool = False):
    """Without prose and extensions; the keys of a mapping of names all stay, an answer's own description is emptied."""
    if isinstance(node, list):
        return [_bare(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _bare(value, key in ("properties", "headers") and not names)
        for key, value in node.items()
        if names or (key not in PROSE and not key.startswith("x-"))
    }
    answer = "description" in node and not names and (not kept or {"content", "headers"} & set(kept))
    return {"description": ""} | kept if answer else kept


def _strict(node, composed: bool = False):
    """Every object takes the properties named and no others, except where several schemas are laid over each other."""
    if isinstance(node, list):
        return [_strict(each, composed) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _strict(value, key == "allOf") for key, value in node.items()}
    named = isinstance(node.get("properties"), dict) and "additionalProperties" not in node and not composed
    return closed | {"additionalProperties": False} if named else closed


def _references(node) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [found for value in node.values() for found in _references(value)]
    return [found for each in node for found in _references(each)] if isinstance(node, list) else []


if __name__ == "__main__":
    CUT.write_text(json.dumps(cut(json.loads(Path(sys.argv[1]).read_text())), indent=1, sort_keys=True) + "\n")
