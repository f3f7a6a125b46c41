"""What to do about a branch and its pull request: a pure function of what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cardgen.publisher.body import read_marker
from cardgen.publisher.forge import Pull

REBUILD = "cardgen:rebuild"
"""A label of a pull request: people's commits on its branch may go."""
Kind = Literal["nothing", "unchanged", "create", "update", "declined", "blocked", "close", "clean"]


@dataclass(frozen=True)
class Seen:
    """All that the decision rests on.

    `wanted`: something differs from the base; `digest` is that of what does. `branch` is the own branch's head, `planned` the
    commit that would be pushed. `written` is the digest in the branch's one commit if cardgen made it, else empty; `others`
    says that it has commits that cardgen did not make, `behind` that the base changed a file of it since. `pulls` are all
    pull requests from this branch into the base.
    """

    wanted: bool
    digest: str
    planned: str | None = None
    branch: str | None = None
    written: str = ""
    others: bool = False
    behind: bool = False
    pulls: tuple[Pull, ...] = ()
    reopen: bool = False

    @property
    def open(self) -> Pull | None:
        """The open pull request, if there is one."""
        return next((pull for pull in self.pulls if pull.state == "open"), None)

    @property
    def current(self) -> bool:
        """Whether the branch holds just what would be pushed; also after a crash between push and pull request."""
        if self.branch is None or self.others:
            return False
        return self.branch == self.planned or (self.written == self.digest and not self.behind)

    @property
    def merged(self) -> bool:
        """Whether all of the branch was merged, squashed or not."""
        return any(pull.merged and pull.head_sha == self.branch for pull in self.pulls)

    @property
    def theirs(self) -> bool:
        """Whether somebody else's work stands on the branch: commits by others, or a head that cardgen did not push."""
        if self.branch is None or self.merged or (self.open and REBUILD in self.open.labels):
            return False
        moved = self.open is not None and _marked(self.open)[1] != self.branch
        return self.others or (moved and not self.current)

    @property
    def declined(self) -> Pull | None:
        """A pull request with this very content that was closed without being merged."""
        closed = (pull for pull in self.pulls if pull.state == "closed" and not pull.merged)
        return next((pull for pull in closed if _marked(pull)[0] == self.digest), None)


@dataclass(frozen=True)
class Action:
    """What to do: `push` before the pull request is touched; `pull` is the one to change, or the one that decided."""

    kind: Kind
    pull: Pull | None = None
    push: bool = False


def decide(seen: Seen) -> Action:
    """The action, in the order of the questions: is anything wanted, is a pull request open, who holds the branch."""
    return _wanted(seen) if seen.wanted else _unwanted(seen)


def _wanted(seen: Seen) -> Action:
    opened, declined = seen.open, seen.declined
    if opened is None and declined and not seen.reopen:
        return Action("declined", declined)
    if seen.theirs:
        return Action("blocked", opened)
    if opened and seen.current and _marked(opened) == (seen.digest, seen.branch):
        return Action("unchanged", opened)
    return Action("update" if opened else "create", opened, push=not seen.current)


def _unwanted(seen: Seen) -> Action:
    opened = seen.open
    if opened:
        return Action("blocked" if seen.theirs else "close", opened)
    declined = any(pull.head_sha == seen.branch and not pull.merged for pull in seen.pulls)
    if seen.branch is None or seen.theirs or declined:
        return Action("nothing")
    return Action("clean")


def _marked(pull: Pull) -> tuple[str, str]:
    """Digest and head that the body's marker names; empty where there is none."""
    return read_marker(pull.body) or ("", "")
