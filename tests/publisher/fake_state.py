"""What the fake remembers: requests, pull requests, comments, and the faults put in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BOT = "github-actions[bot]"


@dataclass(frozen=True)
class Answer:
    """A status, further headers, and a body that is sent as JSON unless it is bytes."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Request:
    """What came in; header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Exchange:
    """A request with its answer; `injected` where a fault took the answer's place."""

    request: Request
    answer: Answer | None
    injected: bool


@dataclass
class FakePull:
    """A pull request; `head_sha` follows the branch while it is open."""

    number: int
    title: str
    body: str
    head_ref: str
    head_sha: str
    base_ref: str
    head_repo: str
    author: str = BOT
    state: str = "open"
    merged: bool = False
    merge_sha: str | None = None
    labels: list[str] = field(default_factory=list)
    reviewers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FakeComment:
    """A comment on the pull request of that number."""

    number: int
    author: str
    body: str


@dataclass
class Fault:
    """An answer, or none, in place of the real one."""

    method: str
    path: str
    status: int | None
    headers: Mapping[str, str]
    body: Any
    times: int
    drop: str | None
