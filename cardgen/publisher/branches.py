"""Names of branches: our own, and which of others' we take."""

from __future__ import annotations

import hashlib
import re

from cardgen.errors import CardgenError

GROUPED = "cardgen/update"
PENDING = "refs/cardgen/pending"
"""Holds the verdicts that wait for a second run to agree; no branch, so nobody is shown it."""
LONGEST = 40
FORBIDDEN = re.compile(r"^[-/.]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|[/.]$|^@$|^$")
"""What `git check-ref-format` refuses of a branch."""


def branch_of(method: str) -> str:
    """The branch of one method's own pull request: a plain slug, told apart by eight digits of the name's digest; never a time."""
    slug = re.sub(r"[^a-z0-9]+", "-", method.lower())[:LONGEST].strip("-") or "card"
    return f"cardgen/{slug}-{hashlib.sha256(method.encode()).hexdigest()[:8]}"


def checked(branch: str) -> str:
    """A base branch's name as it was given.

    Raises:
        CardgenError: git would refuse it, or take it for something else.
    """
    if FORBIDDEN.search(branch) or not branch.isprintable():
        raise CardgenError(f"base {branch!r:.80}: no name of a branch; expected one such as main; mend --base")
    return branch
