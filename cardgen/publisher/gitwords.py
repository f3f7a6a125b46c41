"""What git is told and what it says: identity, settings, and the reading of its answers. Nothing here runs it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

NAME, EMAIL = "cardgen", "cardgen-bot@noreply.invalid"
"""Who commits. No account can own an address below `.invalid`, so these commits are nobody else's."""
SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
    "maintenance.auto": "false",
    "log.showSignature": "false",
    "protocol.ext.allow": "never",
    "push.gpgSign": "false",
    "push.pushOption": "",
}
MOVED = re.compile(r"stale info|cannot lock ref|failed to (update|lock) ref|not our ref|unadvertised object")


@dataclass(frozen=True)
class Commit:
    """Who made a commit, by address; its parents; its message."""

    sha: str
    author: str
    committer: str
    parents: tuple[str, ...]
    message: str

    @property
    def ours(self) -> bool:
        """Whether cardgen made it, and nobody amended or rebased it."""
        return self.author == self.committer == EMAIL


def safe(path: str) -> bool:
    """Whether a path in a repository is plain: no `..`, nothing absolute, no `.git`, no control characters."""
    parts = PurePosixPath(path).parts
    plain = path.isprintable() and "\\" not in path and path == "/".join(parts) and not path.startswith("/")
    return bool(parts) and plain and not any(part in (".", "..") or part.lower() == ".git" for part in parts)


def entry(line: str) -> tuple[str, str, str]:
    """Mode, blob and path of a line of `ls-tree`."""
    head, _, path = line.partition("\t")
    mode, _, blob = head.split(" ")
    return mode, blob, path


def reasons(out: str, err: str) -> list[str]:
    """What git said, without its advice to people at a keyboard."""
    refused = [" ".join(line.split("\t")[1:]) for line in out.splitlines() if line.startswith("!")]
    said = [line.strip() for line in err.splitlines() if not line.startswith(("hint:", "To "))]
    return [part for part in [*refused, *said] if part]


def verb(arguments: Sequence[str]) -> str:
    """Which of git's commands arguments call."""
    return next(word for word in arguments if not word.startswith("-") and "=" not in word)
