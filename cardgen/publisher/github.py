"""Pull requests on GitHub: the only module that speaks HTTP.

Reading (GET) and setting (PATCH) are tried three times. POST is sent again only where GitHub said that it did nothing (a
rate limit), where it never went out, or, to create a pull request, after a look at what is there; GitHub itself refuses a second open one.
Redirects are never followed and addresses in answers never asked, so the token goes to one host.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx

from cardgen import __version__
from cardgen.errors import CardgenError
from cardgen.publisher.answers import comment_of, items_of, message_of, pull_of, repository_of_answer, same_repository
from cardgen.publisher.credentials import scrub
from cardgen.publisher.forge import Comment, Denied, ForgeError, Limited, Pull, RepositoryInfo, Unreachable
from cardgen.publisher.limits import PATIENCE, limit_wait
from cardgen.publisher.refusals import refusal
from cardgen.publisher.remotes import FULL_NAME
from cardgen.publisher.remotes import repository_of as repository_of

API = "https://api.github.com"
VERSION = "2022-11-28"
TIMEOUT = 30.0
TRIES = 3
BACK_OFF = 2.0
PAGE = 100
TOKEN = re.compile(r"[!-~]+")
AT_HOME = {("http", host) for host in ("127.0.0.1", "localhost", "::1")}
NEW_CONNECTIONS = httpx.Limits(max_keepalive_connections=0)
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


class GitHub:
    """A forge on GitHub; one object waits at most five minutes for rate limits in all."""

    def __init__(
        self,
        repository: str,
        token: str,
        *,
        api: str = API,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check(repository, token, api)
        self._repository, self._token, self._api = repository, token, api.rstrip("/")
        self._sleep, self._clock, self._waited = sleep, clock, 0.0
        self._client = httpx.Client(timeout=TIMEOUT, limits=NEW_CONNECTIONS)

    def repository(self) -> RepositoryInfo:
        """Name, default branch and visibility."""
        return repository_of_answer(*self._call("GET", ""))

    def pulls(self, head: str, base: str) -> list[Pull]:
        """Every pull request from branch `head` of this very repository into `base`; newest first.

        GitHub ignores a filter without an owner, so head and base of each answer are compared again.
        """
        owner = self._repository.partition("/")[0]
        query = {"state": "all", "head": f"{owner}:{head}", "base": base, "sort": "created", "direction": "desc"}
        found = [pull_of(item, call) for item, call in self._pages("/pulls", query) if self._ours(item, call)]
        return [pull for pull in found if (pull.head_ref, pull.base_ref) == (head, base)]

    def create_pull(self, *, head: str, base: str, title: str, body: str) -> Pull:
        """A new pull request, or the open one that there is: another runner's, or ours whose answer was lost."""
        wanted = {"head": head, "base": base, "title": title, "body": body}
        for tried in range(1, TRIES + 1):
            try:
                return pull_of(*self._call("POST", "/pulls", body=wanted))
            except ForgeError as error:
                if not isinstance(error, Unreachable) and error.status != 422:
                    raise
                lost = error
            there = [pull for pull in self.pulls(head, base) if pull.state == "open"]
            if there:
                return there[0]
            if lost.status == 422 or tried == TRIES:
                break
            self._back_off(tried)
        raise lost

    def update_pull(
        self, number: int, *, title: str | None = None, body: str | None = None, state: str | None = None
    ) -> Pull:
        """Change what is given, leave the rest."""
        given = {"title": title, "body": body, "state": state}
        change = {name: value for name, value in given.items() if value is not None}
        return pull_of(*self._call("PATCH", f"/pulls/{number}", body=change))

    def add_labels(self, number: int, labels: Sequence[str]) -> None:
        """Add labels to those that it has; GitHub makes those that the repository does not know."""
        if labels:
            self._call("POST", f"/issues/{number}/labels", body={"labels": list(labels)})

    def comments(self, number: int) -> list[Comment]:
        """All comments, oldest first."""
        return [comment_of(item, call) for item, call in self._pages(f"/issues/{number}/comments", {})]

    def create_comment(self, number: int, body: str) -> None:
        """Add one comment; where the answer was lost, it counts as written if it is there now."""
        try:
            self._call("POST", f"/issues/{number}/comments", body={"body": body})
        except Unreachable:
            if body not in [comment.body for comment in self.comments(number)]:
                raise

    def request_reviewers(self, number: int, reviewers: Sequence[str]) -> None:
        """Ask users for a review."""
        if reviewers:
            self._call("POST", f"/pulls/{number}/requested_reviewers", body={"reviewers": list(reviewers)})

    def _ours(self, item: Any, call: str) -> bool:
        return same_repository(item, self._repository, call)

    def _pages(self, path: str, query: Mapping[str, str]) -> list[tuple[Any, str]]:
        """All items of a list, each with the call that brought it."""
        found: list[tuple[Any, str]] = []
        for page in count(1):
            answer, call, more = self._ask("GET", path, {**query, "per_page": str(PAGE), "page": str(page)}, None)
            items = items_of(answer, call)
            found += [(item, call) for item in items]
            if not more or not items:
                break
        return found

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[Any, str]:
        answer, call, _ = self._ask(method, path, {}, body)
        return answer, call

    def _ask(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> tuple[Any, str, bool]:
        """The answer as JSON, what was asked in words, and whether there is a next page.

        Raises:
            ForgeError: no answer after every try (Unreachable), a limit (Limited), or a refusal (Denied, ForgeError).
        """
        call, tried = f"{method} /repos/{self._repository}{path}", 0
        while True:
            try:
                response = self._send(method, path, query, body)
            except httpx.RequestError as error:
                why, status, again = str(error) or type(error).__name__, 0, isinstance(error, NEVER_SENT)
            else:
                if response.status_code < 500:
                    if self._waited_for(response, call):
                        continue
                    return self._checked(response, call), call, "next" in response.links
                why, status, again = f"status {response.status_code}", response.status_code, False
            tried += 1
            if tried == TRIES or not (again or method != "POST"):
                raise Unreachable(
                    f"{call}: no answer from GitHub in {tried} {'try' if tried == 1 else 'tries'} "
                    f"({scrub(why, self._token)}); expected one; run the same command again",
                    status,
                )
            self._back_off(tried)

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None) -> httpx.Response:
        headers = {
            "accept": "application/vnd.github+json",
            "authorization": f"Bearer {self._token}",
            "user-agent": f"cardgen/{__version__}",
            "x-github-api-version": VERSION,
        }
        url = f"{self._api}/repos/{self._repository}{path}"
        return self._client.request(method, url, params=query, json=body, headers=headers)

    def _back_off(self, tried: int) -> None:
        self._sleep(BACK_OFF**tried)

    def _waited_for(self, response: httpx.Response, call: str) -> bool:
        """Whether the answer was a rate limit, which is over now.

        Raises:
            Limited: it would last longer than is left of the five minutes.
        """
        words = message_of(_json(response))
        wait = limit_wait(response.status_code, response.headers, words, self._clock())
        if wait is None:
            return False
        if self._waited + wait > PATIENCE:
            raise Limited(
                f"{call}: rate limit ({response.status_code}: {scrub(words, self._token)}) for {wait:.0f} s more; "
                f"expected at most {PATIENCE:.0f} s in all; run the same command again after that",
                response.status_code,
                wait,
            )
        self._sleep(wait)
        self._waited += wait
        return True

    def _checked(self, response: httpx.Response, call: str) -> Any:
        answer = _json(response)
        if not response.is_success:
            raise refusal(call, response.status_code, response.headers, scrub(message_of(answer), self._token))
        if answer is None:
            raise Unreachable(f"{call}: the answer is no JSON; expected GitHub's; run again", response.status_code)
        return answer


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _check(repository: str, token: str, api: str) -> None:
    if not FULL_NAME.fullmatch(repository):
        raise CardgenError(f"{repository[:100]!r}: not a repository's name; expected OWNER/NAME; mend it")
    if not TOKEN.fullmatch(token):
        what = "it holds spaces or other signs that no token has" if token else "it is empty"
        raise Denied(
            f"no usable token: {what}; expected one with `pull_requests: write`; set GITHUB_TOKEN and run again"
        )
    parts = urlsplit(api)
    if not parts.hostname or (parts.scheme != "https" and (parts.scheme, parts.hostname) not in AT_HOME):
        raise CardgenError(f"{scrub(api, token)}: expected an https address for GitHub's API, as {API}; mend it")
