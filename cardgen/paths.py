"""Where the files lie that ship with the package: beside it in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from cardgen.errors import CardgenError

PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The folder `templates` or `evaluations/literature`, from the wheel or else from the checkout.

    Raises:
        CardgenError: neither has it.
    """
    for root in (PACKAGE / "_shipped", PACKAGE.parent):
        if (root / name).is_dir():
            return root / name
    raise CardgenError(
        f"{name}: not shipped with this installation; expected it in cardgen/_shipped or beside the package; "
        f"install cardgen again, or run from a full checkout"
    )
