"""Shipped folders: in the wheel first, else in the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardgen import paths
from cardgen.errors import CardgenError


def test_a_checkout_has_them_beside_the_package() -> None:
    assert (paths.shipped("templates") / "card.md.j2").is_file()
    assert (paths.shipped("evaluations/literature") / "grad_cam.yaml").is_file()


def test_a_wheel_has_them_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("cardgen/_shipped/templates", "templates"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "cardgen")
    assert paths.shipped("templates") == tmp_path / "cardgen" / "_shipped" / "templates"


def test_neither_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "cardgen")
    with pytest.raises(CardgenError) as caught:
        paths.shipped("templates")
    assert str(caught.value) == (
        "templates: not shipped with this installation; expected it in cardgen/_shipped or beside the package; "
        "install cardgen again, or run from a full checkout"
    )
