"""A stateful fake of GitHub: a small server whose branches are those of a real bare repository.

It has the habits of GitHub that publishers trip over: `head=` without an owner filters nothing, two open pull requests
of one branch are refused, a pull request closes when its branch goes and is merged when its commits reach the base, and
a closed one cannot be opened again after its branch was rewritten. Faults are put in with `fail`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from bare_repository import Bare
from fake_answers import refused
from fake_operations import ROUTES
from fake_server import Handler
from fake_state import BOT, Answer, Exchange, FakeComment, FakePull, Fault, Request

FORBIDDEN = "Resource not accessible by integration"


class FakeGitHub:
    """`with FakeGitHub(bare) as fake:` serves at `fake.api`."""

    def __init__(
        self,
        bare: Path,
        full_name: str = "octo/cards",
        default_branch: str = "main",
        token: str = "ghs_thisIsTheSecretOfTheTests",
        private: bool = False,
    ) -> None:
        self.bare, self.full_name, self.default_branch = Bare(bare), full_name, default_branch
        self.token, self.private, self.visible = token, private, True
        self.permissions = {"metadata": "read", "contents": "write", "pull_requests": "write", "issues": "write"}
        self.collaborators = {"maintainer", "reviewer"}
        self.exchanges: list[Exchange] = []
        self.comments: list[FakeComment] = []
        self.known: list[FakePull] = []
        self.heads: dict[str, str] = {}
        self._faults: list[Fault] = []
        self._lock, self.closing = threading.RLock(), threading.Event()

    def __enter__(self) -> FakeGitHub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.fake = self
        self.api = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def owner(self) -> str:
        return self.full_name.split("/")[0]

    @property
    def requests(self) -> list[Request]:
        return [exchange.request for exchange in self.exchanges]

    @property
    def calls(self) -> list[str]:
        """One short line a request: `POST /pulls`."""
        here = f"/repos/{self.full_name}"
        return [f"{each.method} {each.path.removeprefix(here) or '/'}" for each in self.requests]

    @property
    def pulls(self) -> list[FakePull]:
        """All pull requests as GitHub would show them now, oldest first."""
        with self._lock:
            self._follow_branches()
            return list(self.known)

    def fail(
        self,
        method: str,
        path: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        times: int = 1,
        drop: str | None = None,
    ) -> None:
        """Let the next requests whose path holds the pattern fail.

        Args:
            status: the answer's; without it and with `drop`, the connection is closed and no answer comes.
            drop: `before` the request has its effect, `after` it, or `hang` without effect until the client gives up.
        """
        assert status or drop, "a fault needs a status or a drop"
        given = refused("injected", status) if status and body is None else body
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        self._faults.append(Fault(method, path, status, lower, given, times, drop))

    def open_pull(self, head: str, base: str = "main", author: str = "human", head_repo: str = "") -> FakePull:
        """A pull request of somebody else's, maybe from a fork."""
        return self.add(f"Pull {head}", "", head, base, author, head_repo)

    def merge(self, number: int, *, squash: bool = False, delete_branch: bool = False) -> None:
        """Press the merge button."""
        with self._lock:
            self._follow_branches()
            pull = self.pull(number)
            pull.merge_sha = self.bare.merge(pull.head_sha, pull.base_ref, f"{pull.title} (#{number})", squash)
            pull.merged, pull.state = True, "closed"
            if delete_branch:
                self.bare.delete(pull.head_ref)

    def close(self, number: int) -> None:
        """Close without merging."""
        self.pull(number).state = "closed"

    def label(self, number: int, *labels: str) -> None:
        self.pull(number).labels += labels

    def comment(self, number: int, body: str, author: str = "human") -> None:
        self.comments.append(FakeComment(number, author, body))

    def pull(self, number: int) -> FakePull:
        """The pull request of that number as it is now."""
        return self.pulls[number - 1]

    def answer(self, method: str, target: str, headers: Mapping[str, str], raw: bytes) -> tuple[Answer | None, bool]:
        """Answer one request; no answer means that the connection is to be closed, True that it is to hang before."""
        parts = urlsplit(target)
        lower = {name.lower(): value for name, value in headers.items()}
        request = Request(
            method, unquote(parts.path), dict(parse_qsl(parts.query)), json.loads(raw) if raw else None, lower
        )
        with self._lock:
            fault = self._fault(request)
            answer = None if fault and fault.drop != "after" else self._real(request)
            if fault:
                answer = Answer(fault.status, dict(fault.headers), fault.body) if fault.status else None
            self.exchanges.append(Exchange(request, answer, fault is not None))
            return answer, bool(fault and fault.drop == "hang")

    def _fault(self, request: Request) -> Fault | None:
        for fault in self._faults:
            if fault.times and fault.method == request.method and re.search(fault.path, request.path):
                fault.times -= 1
                return fault
        return None

    def _real(self, request: Request) -> Answer:
        self._follow_branches()
        if not request.headers.get("user-agent"):
            return Answer(403, {}, refused("Request forbidden by administrative rules.", 403))
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, {}, refused("Bad credentials", 401))
        path = request.path.removeprefix(f"/repos/{self.full_name}")
        for method, pattern, needs, handler in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == request.method and path != request.path and self.visible:
                return self._allowed(needs) or handler(self, request, *(int(number) for number in found.groups()))
        return Answer(404, {}, refused("Not Found", 404))

    def _allowed(self, needs: str) -> Answer | None:
        levels = ("none", "read", "write")
        for alternative in needs.split(";"):
            name, level = alternative.strip().split("=")
            if levels.index(self.permissions.get(name, "none")) >= levels.index(level):
                return None
        return Answer(403, {"x-accepted-github-permissions": needs}, refused(FORBIDDEN, 403))

    def _follow_branches(self) -> None:
        """Close pull requests whose branch is gone or has nothing left to merge; merged ones are those that the base took in."""
        self.heads = self.bare.heads()
        for pull in self.known:
            if pull.state == "closed" or pull.head_repo != self.full_name:
                continue
            before, pull_head, base = pull.head_sha, self.heads.get(pull.head_ref), self.heads.get(pull.base_ref)
            pull.head_sha = pull_head or before
            taken_in = base is not None and self.bare.contains(base, pull.head_sha)
            pull.merged = taken_in and pull.head_sha == before
            if pull_head is None or taken_in:
                pull.state = "closed"

    def add(self, title: str, body: str, head: str, base: str, author: str = BOT, head_repo: str = "") -> FakePull:
        sha = self.bare.head(head) or "0" * 40
        pull = FakePull(len(self.known) + 1, title, body, head, sha, base, head_repo or self.full_name, author)
        self.known.append(pull)
        return pull

    def find(self, number: int) -> FakePull | None:
        return next((pull for pull in self.known if pull.number == number), None)
