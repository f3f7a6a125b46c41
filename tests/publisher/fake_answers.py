"""Answers in the form of GitHub's own description: what it requires filled in, what the fake knows laid over."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

DESCRIPTION = Path(__file__).parent / "openapi" / "api.github.com.cut.json"
WHEN = "2026-01-05T06:00:00Z"
DOCS = "https://docs.github.com/rest"
PLAIN = {"integer": 1, "number": 0, "boolean": False, "array": []}
FORMATS = {"uri": "https://api.github.com/", "date-time": WHEN}


@functools.cache
def description() -> dict[str, Any]:
    return json.loads(DESCRIPTION.read_text())


def shaped(schema: str, **known: Any) -> dict[str, Any]:
    """The smallest object that the schema allows, with the known fields laid over it, nested ones too."""
    return _over(_smallest({"$ref": f"#/components/schemas/{schema}"}), known)


def failed(message: str, *errors: dict[str, str]) -> dict[str, Any]:
    """The body of a 422."""
    body = {"message": message, "documentation_url": DOCS}
    return body | ({"errors": list(errors)} if errors else {})


def refused(message: str, status: int) -> dict[str, Any]:
    """The body of any other error."""
    return {"message": message, "documentation_url": DOCS, "status": str(status)}


def _smallest(schema: dict[str, Any]) -> Any:
    if "$ref" in schema:
        *_, kind, name = schema["$ref"].split("/")
        return _smallest(description()["components"][kind][name])
    if schema.get("nullable"):
        return None
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return _smallest(schema[choice][0])
    if "allOf" in schema:
        return functools.reduce(_over, (_smallest(each) for each in schema["allOf"]))
    if "properties" in schema or schema.get("type") == "object":
        return {name: _smallest(schema["properties"][name]) for name in schema.get("required", [])}
    return PLAIN.get(schema["type"], FORMATS.get(schema.get("format", ""), "x"))


def _over(base: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    nested = {
        key: _over(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in known.items()
    }
    return base | nested
