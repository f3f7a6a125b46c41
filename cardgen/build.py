"""Records → cards on disk. What people wrote is kept, what has not changed is not touched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardgen.aggregator import verdicts
from cardgen.card import make_card, picture_name
from cardgen.errors import CardgenError
from cardgen.evidence import METHOD, Catalogue, Evidence, load_all
from cardgen.facts import Facts, load_facts
from cardgen.overview import make_overview
from cardgen.paths import shipped
from cardgen.records import write_atomic
from cardgen.regions import edited, merge, parse, sign
from cardgen.templater import render_card, render_overview
from cardgen.yamlfile import checked

README = "README.md"


@dataclass(frozen=True)
class Report:
    """What a build did, or with `check` would do; paths below the cards' folder.

    `edited` files were changed by hand outside kept regions and are left alone; `obsolete` folders hold a card whose
    method has no records any more. `unfinished` subject/method folders have records but no method.json yet, so no card.
    """

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    edited: tuple[str, ...]
    obsolete: tuple[str, ...]
    unfinished: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether the cards on disk are what the records say."""
        return not self.changed and not self.edited and not self.obsolete


def build(
    evaluations: Path,
    cards: Path,
    *,
    templates: Path | None = None,
    check: bool = False,
    catalogue: Catalogue | Mapping[str, Any] | None = None,
    force: bool = False,
) -> Report:
    """Render every method's card and the overview into `cards`; the same records give the same bytes.

    With `check` nothing is written. With `force` files edited by hand are overwritten; kept regions never are.

    Raises:
        CardgenError: a record, facts file, template, picture or kept region is not as it should; nothing was written.
    """
    listed = None if catalogue is None else Catalogue.model_validate(catalogue)
    evidence = load_all(evaluations, listed)
    texts = _render(evidence, templates or shipped("templates"))
    plan: dict[str, bytes] = {}
    left: list[str] = []
    for name, text in texts.items():
        signed, by_hand = _merged(cards / name, text)
        if by_hand and not force:
            left.append(name)
        else:
            plan[name] = signed.encode()
    for name, data in _pictures(evidence).items():
        if f"{Path(name).parent}/{README}" not in left:
            plan[name] = data
    changed = [name for name, data in plan.items() if not _same(cards / name, data)]
    if not check:
        for name in changed:
            write_atomic(cards / name, plan[name])
    obsolete = [path.parent.name for path in cards.glob(f"*/{README}") if path.parent.name not in evidence.methods]
    return Report(
        tuple(sorted(changed)),
        tuple(sorted(plan.keys() - set(changed))),
        tuple(sorted(left)),
        tuple(sorted(obsolete)),
        evidence.unfinished,
    )


def _render(evidence: Evidence, templates: Path) -> dict[str, str]:
    table = verdicts(evidence.records)
    texts = {README: render_overview(make_overview(evidence, table), templates)}
    for method in evidence.methods:
        card = make_card(method, evidence, table, load_facts(method) or _own_facts(method, evidence))
        texts[f"{method}/{README}"] = render_card(card, templates)
    return texts


def _own_facts(method: str, evidence: Evidence) -> Facts | None:
    """What the author of a method of their own wrote of it; it lies in method.json."""
    for subject, record in evidence.methods[method].items():
        if record.facts:
            return checked(Facts, record.facts, evidence.folder / subject / method / METHOD)
    return None


def _merged(path: Path, text: str) -> tuple[str, bool]:
    """The new text with the old file's kept regions, signed; and whether the old file was edited outside them."""
    where = str(path)
    if not path.exists():
        return sign(text, where), False
    old = _text(path)
    return sign(merge(text, parse(old, where).inside, where), where), edited(old, where)


def _pictures(evidence: Evidence) -> dict[str, bytes]:
    """Every example picture, checked against the digest in its method.json."""
    found = {}
    for method, subjects in evidence.methods.items():
        for subject, record in subjects.items():
            if record.picture_sha256 is None:
                continue
            path = evidence.folder / subject / method / "example.png"
            data = path.read_bytes() if path.is_file() else b""
            digest = hashlib.sha256(data).hexdigest() if data else "no file"
            if digest != record.picture_sha256:
                raise CardgenError(
                    f"{path}: not the picture that method.json names; expected sha256 {record.picture_sha256}, "
                    f"got {digest}; run `cardgen run` again, or restore the file from git"
                )
            found[f"{method}/{picture_name(method, subject, evidence)}"] = data
    return found


def _same(path: Path, data: bytes) -> bool:
    if not path.is_file():
        return False
    return _text(path) == data.decode() if path.name == README else path.read_bytes() == data


def _text(path: Path) -> str:
    """A file's text; a checkout with Windows line ends reads the same."""
    try:
        return path.read_bytes().decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise CardgenError(f"{path}: {error}; expected UTF-8; save the file as UTF-8") from None
