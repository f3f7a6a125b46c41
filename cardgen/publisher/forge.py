"""What a publisher asks of the place that holds the repository, and how that can go wrong.

`GitHub` is the one implementation; tests and other forges need only these eight methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cardgen.errors import CardgenError


@dataclass(frozen=True)
class RepositoryInfo:
    """The repository as the forge names it."""

    full_name: str
    default_branch: str
    private: bool


@dataclass(frozen=True)
class Pull:
    """A pull request; `state` is open or closed, and a merged one is closed."""

    number: int
    state: str
    merged: bool
    title: str
    body: str
    head_ref: str
    head_sha: str
    base_ref: str
    labels: tuple[str, ...]
    url: str


@dataclass(frozen=True)
class Comment:
    """A comment on a pull request; the author is empty where the account is gone."""

    author: str
    body: str


class ForgeError(CardgenError):
    """The forge did not do what was asked; `status` is its HTTP status, 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Denied(ForgeError):
    """The token may not do this, or may not see the repository; trying again changes nothing."""


class Limited(ForgeError):
    """A rate limit that lasts longer than one run may wait; the same command goes on from here after `wait` seconds."""

    def __init__(self, message: str, status: int, wait: float) -> None:
        super().__init__(message, status)
        self.wait = wait


class Unreachable(ForgeError):
    """No usable answer after every try; the same command goes on from here."""


@runtime_checkable
class Forge(Protocol):
    """Pull requests of one repository. Every method raises ForgeError."""

    def repository(self) -> RepositoryInfo:
        """Name, default branch and visibility."""
        ...

    def pulls(self, head: str, base: str) -> list[Pull]:
        """Every pull request, open or closed, from branch `head` of this very repository into `base`; newest first."""
        ...

    def create_pull(self, *, head: str, base: str, title: str, body: str) -> Pull:
        """The open pull request from `head` into `base`: a new one, or the one that there is already."""
        ...

    def update_pull(
        self, number: int, *, title: str | None = None, body: str | None = None, state: str | None = None
    ) -> Pull:
        """Change what is given, leave the rest."""
        ...

    def add_labels(self, number: int, labels: Sequence[str]) -> None:
        """Add labels to those that it has."""
        ...

    def comments(self, number: int) -> list[Comment]:
        """All comments, oldest first."""
        ...

    def create_comment(self, number: int, body: str) -> None:
        """Add one comment."""
        ...

    def request_reviewers(self, number: int, reviewers: Sequence[str]) -> None:
        """Ask users for a review."""
        ...
