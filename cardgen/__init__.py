"""cardgen: saliency cards from measurements.

`explain`, `measure` and `evaluate` work on any module that gives logits. Nothing here imports torch until one of them is used.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "CardgenError": "cardgen.errors",
    "Record": "cardgen.records",
    "Scores": "cardgen.scores",
    "Space": "cardgen.space",
    "Thresholds": "cardgen.thresholds",
    "evaluate": "cardgen.evaluating",
    "explain": "cardgen.api",
    "measure": "cardgen.api",
}
__all__ = sorted(_LAZY)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cardgen' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
