"""Every request and every answer of the fake, held against GitHub's own description of its API.

GitHub's media type is an alias of JSON there. A status that the description lists nowhere (401, limits, 5xx) must have the
form of its errors.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import Any

from fake_answers import description
from fake_state import Answer, Exchange, Request
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

HOST = "https://api.github.com"
ACCEPT = "application/vnd.github+json"
JSON = "application/json"
SENT = {"accept": ACCEPT, "x-github-api-version": "2022-11-28"}


class Broken(AssertionError):
    """A request or an answer that GitHub's description does not allow."""


@dataclass(frozen=True)
class _Asked:
    """A request in the form that openapi-core reads."""

    method: str
    path: str
    parameters: RequestParameters
    body: bytes | None
    content_type: str = JSON
    host_url: str = HOST


@dataclass(frozen=True)
class _Answered:
    """An answer in the form that openapi-core reads."""

    status_code: int
    data: bytes
    content_type: str = JSON
    headers: Headers = field(default_factory=Headers)


def assert_contract(fake: Any) -> None:
    """All exchanges of a fake so far: requests always, answers unless a fault took their place."""
    for exchange in list(fake.exchanges):
        check(exchange)


def check(exchange: Exchange) -> None:
    """One exchange.

    Raises:
        Broken: says which request, and what is wrong with it or with its answer.
    """
    request, answer = exchange.request, exchange.answer
    check_request(request)
    if answer is not None and not exchange.injected:
        check_answer(request, answer)


def check_request(request: Request) -> None:
    """Path, query and body as described, nothing beyond them, and the headers that GitHub asks for."""
    unknown = set(request.query) - _query_names(request)
    if unknown:
        raise Broken(f"{request}: GitHub has no query parameter {sorted(unknown)}")
    missing = [name for name, value in SENT.items() if request.headers.get(name) != value]
    if missing or not request.headers.get("user-agent"):
        raise Broken(f"{request}: headers missing or other than {SENT}, with a user-agent")
    _judge(request, lambda: _github().validate_request(_asked(request)))


def check_answer(request: Request, answer: Answer) -> None:
    """The body as described for that status."""
    data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    if str(answer.status) in _operation(request)["responses"]:
        _judge(request, lambda: _github().validate_response(_asked(request), _Answered(answer.status, data)))
    elif answer.status < 400 or not {"message", "documentation_url"} <= set(json.loads(data)):
        raise Broken(f"{request}: GitHub has no such answer: {answer.status} {data[:200]!r}")


def _judge(request: Request, judge: Any) -> None:
    try:
        judge()
    except OpenAPIError as error:
        reasons = [_reason(each) for each in getattr(error.__cause__, "schema_errors", ())] or [str(error)]
        raise Broken(f"{request}: {'; '.join(reasons)}"[:600]) from None


def _reason(error: Any) -> str:
    return f"{'.'.join(map(str, error.absolute_path)) or 'value'}: {error.message[:200]}"


@functools.cache
def _github() -> OpenAPI:
    return OpenAPI.from_dict(description())


def _asked(request: Request) -> _Asked:
    body = None if request.body is None else json.dumps(request.body).encode()
    parameters = RequestParameters(query=ImmutableMultiDict(request.query), header=Headers(request.headers))
    return _Asked(request.method.lower(), request.path, parameters, body)


def _operation(request: Request) -> dict[str, Any]:
    wanted = request.path.split("/")
    for path, verbs in description()["paths"].items():
        parts = path.split("/")
        if len(parts) == len(wanted) and all(p == w or p[:1] == "{" for p, w in zip(parts, wanted, strict=True)):
            return verbs.get(request.method.lower()) or _nowhere(request)
    return _nowhere(request)


def _nowhere(request: Request) -> Any:
    raise Broken(f"{request}: not one of the operations that cardgen uses")


def _query_names(request: Request) -> set[str]:
    parameters = description()["components"]["parameters"]
    named = [
        each if "name" in each else parameters[each["$ref"].rsplit("/")[-1]]
        for each in _operation(request)["parameters"]
    ]
    return {each["name"] for each in named if each["in"] == "query"}
