"""YAML files that people write, read into a schema."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from cardgen.errors import CardgenError
from cardgen.records import Model

T = TypeVar("T", bound=Model)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The fast one where libyaml is there; both are safe."""


def load_yaml(kind: type[T], path: Path) -> T:
    """Read and validate one file.

    Raises:
        CardgenError: missing, no YAML, or a part is missing, unknown or wrong; the message names file and field.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise CardgenError(
            f"{path}: not a readable file: {' '.join(str(error).split())}; expected YAML in UTF-8, got something else; "
            f"mend or restore the file"
        ) from None
    return checked(kind, values, path)


def checked(kind: type[T], values: object, path: Path) -> T:
    """What a file says, in a schema.

    Raises:
        CardgenError: a part is missing, unknown or wrong; the message names file and field.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        got = "nothing" if first["type"] == "missing" else f"{first['input']!r:.80}"
        raise CardgenError(
            f"{path}: {field}: {first['msg']}; expected what the schema {kind.__name__} asks for, got {got}; "
            f"mend that field"
        ) from None
