"""catalogue.json: what the decorators say, for the half that does not import them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("catalogue.json")


def read() -> Mapping[str, Any]:
    """The shipped catalogue: `methods` and `metrics`, each an entry by key."""
    found: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def text() -> str:
    """The catalogue of the plug-ins in this package, as it should be shipped. Imports them all, and torch with them."""
    from cardgen.methods import METHODS
    from cardgen.metrics import METRICS

    entries = {
        kind: {key: item.entry.model_dump(mode="json") for key, item in registry.items() if _ours(item.function)}
        for kind, registry in (("methods", METHODS), ("metrics", METRICS))
    }
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def _ours(function: Any) -> bool:
    return str(function.__module__).startswith("cardgen.")
