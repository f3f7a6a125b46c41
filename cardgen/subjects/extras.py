"""Packages that only some users need."""

import importlib
from typing import Any

from cardgen.errors import CardgenError


def extra(package: str, name: str, purpose: str) -> Any:
    """The package, imported.

    Args:
        package: as it is imported, timm say.
        name: of cardgen's extra that installs it.
        purpose: what needs it, such as "models called timm:…".

    Raises:
        CardgenError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise CardgenError(
            f"{package} is not installed; {purpose} need it; run: pip install 'cardgen[{name}]'"
        ) from None
