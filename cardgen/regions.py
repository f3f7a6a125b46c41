"""Kept regions and the digest: how hand-written text survives a rebuild.

A region stands between `<!-- cardgen:keep NAME -->` and `<!-- /cardgen:keep -->`, each mark on a line of its own. The
last line of a generated file is `<!-- cardgen:digest SHA256 -->`, the digest of everything outside the regions.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from cardgen.errors import CardgenError

OPEN = re.compile(r"<!-- cardgen:keep ([A-Za-z0-9][A-Za-z0-9_-]*) -->")
CLOSE = "<!-- /cardgen:keep -->"
LOOKS_LIKE_ONE = re.compile(r"<!--\s*/?\s*cardgen:keep")
DIGEST = re.compile(r"<!-- cardgen:digest ([0-9a-f]{64}) -->")


@dataclass(frozen=True)
class Parsed:
    """A text's lines outside its regions, and each region's name → the lines between its marks."""

    outside: list[str]
    inside: dict[str, list[str]]


def parse(text: str, where: str) -> Parsed:
    """Tell kept lines from generated ones; the marks themselves are in neither.

    Raises:
        CardgenError: a mark is malformed, never closed, closed twice, nested, or a name is used twice.
    """
    parsed, name = Parsed([], {}), ""
    for at, line in enumerate(text.split("\n"), start=1):
        opened, bare = OPEN.fullmatch(line.strip()), line.strip()
        if opened and name:
            raise _broken(where, at, f"`<!-- /cardgen:keep -->` for region {name!r} before the next one opens", bare)
        if opened and opened[1] in parsed.inside:
            raise _broken(where, at, "each region's name once", bare)
        if bare == CLOSE and not name:
            raise _broken(where, at, "an opening mark before this closing one", bare)
        if not opened and bare != CLOSE and LOOKS_LIKE_ONE.search(line):
            raise _broken(
                where, at, "a mark `<!-- cardgen:keep NAME -->` or `<!-- /cardgen:keep -->` alone on its line", bare
            )
        if opened:
            name = opened[1]
            parsed.inside[name] = []
        elif bare == CLOSE:
            name = ""
        elif name:
            parsed.inside[name].append(line)
        else:
            parsed.outside.append(line)
    if name:
        raise _broken(where, at, f"`<!-- /cardgen:keep -->` for region {name!r}", "the end of the file")
    return parsed


def _broken(where: str, line: int, expected: str, got: str) -> CardgenError:
    return CardgenError(
        f"{where}: line {line}: kept regions do not match up; expected {expected}, got {got[:80]}; "
        f"mend the marks by hand"
    )


def merge(new: str, kept: dict[str, list[str]], where: str) -> str:
    """Fill kept lines into the regions of a newly rendered text; regions that it no longer has go to its end."""
    lines: list[str] = []
    names = parse(new, where).inside
    skipping = False
    for line in new.rstrip("\n").split("\n"):
        opened = OPEN.fullmatch(line.strip())
        if not skipping:
            lines.append(line)
        elif line.strip() == CLOSE:
            lines.append(line)
            skipping = False
        if opened and opened[1] in kept:
            lines += kept[opened[1]]
            skipping = True
    for name in kept:
        if name not in names:
            lines += ["", f"<!-- cardgen:keep {name} -->", *kept[name], CLOSE]
    return "\n".join(lines) + "\n"


def digest(text: str, where: str) -> str:
    """sha256 of everything outside the kept regions and before the digest's own line."""
    return hashlib.sha256("\n".join(parse(text, where).outside).encode()).hexdigest()


def sign(text: str, where: str) -> str:
    """The text with its digest as the last line."""
    return f"{text}\n<!-- cardgen:digest {digest(text, where)} -->\n"


def edited(text: str, where: str) -> bool:
    """Whether anything outside the kept regions differs from what was generated; also true where there is no digest."""
    body, _, last = text.removesuffix("\n").rpartition("\n")
    found = DIGEST.fullmatch(last)
    return not found or digest(body, where) != found[1]
