"""GitHub's answers, read: only the fields that a publisher uses, each of its type."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cardgen.publisher.forge import Comment, Pull, RepositoryInfo, Unreachable

OK = 200
Read = TypeVar("Read", bound=BaseModel)


class _Repository(BaseModel):
    full_name: str
    private: bool = False
    default_branch: str = ""


class _Tip(BaseModel):
    ref: str
    sha: str
    repo: _Repository | None


class _Named(BaseModel):
    name: str


class _Refusal(BaseModel):
    message: str = ""
    errors: list[Any] = []


class _User(BaseModel):
    login: str


class _Comment(BaseModel):
    user: _User | None
    body: str | None = None


class _Pull(BaseModel):
    """`merged_at` stands in the answers of all operations, `merged` does not."""

    number: int
    state: str
    title: str
    body: str | None
    merged_at: str | None
    head: _Tip
    base: _Tip
    labels: list[_Named]
    html_url: str


def repository_of_answer(answer: Any, call: str) -> RepositoryInfo:
    """What `GET /repos/…` says."""
    return RepositoryInfo(**_read(_Repository, answer, call).model_dump())


def pull_of(answer: Any, call: str) -> Pull:
    """A pull request, listed or alone."""
    read = _read(_Pull, answer, call)
    return Pull(
        number=read.number,
        state=read.state,
        merged=read.merged_at is not None,
        title=read.title,
        body=read.body or "",
        head_ref=read.head.ref,
        head_sha=read.head.sha,
        base_ref=read.base.ref,
        labels=tuple(label.name for label in read.labels),
        url=read.html_url,
    )


def same_repository(answer: Any, full_name: str, call: str) -> bool:
    """Whether a pull request's branch lies in that repository: not in a fork, and not in one that is gone."""
    head = _read(_Pull, answer, call).head.repo
    return head is not None and head.full_name.lower() == full_name.lower()


def comment_of(answer: Any, call: str) -> Comment:
    """One comment."""
    read = _read(_Comment, answer, call)
    return Comment(author=read.user.login if read.user else "", body=read.body or "")


def items_of(answer: Any, call: str) -> list[Any]:
    """A page's items."""
    if not isinstance(answer, list):
        raise Unreachable(f"{call}: expected a list, got {type(answer).__name__}; run again", OK)
    return answer


def message_of(answer: Any) -> str:
    """GitHub's own words for an error, and every field that it names; one printable line of at most 300 characters."""
    try:
        read = _Refusal.model_validate(answer)
    except ValidationError:
        return ""
    words = " ".join("; ".join([read.message, *map(_error, read.errors)]).split())
    return "".join(sign for sign in words if sign.isprintable())[:300]


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or f"{error.get('field', 'a field')}: {error.get('code', 'invalid')}")


def _read(kind: type[Read], answer: Any, call: str) -> Read:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the answer"
        raise Unreachable(f"{call}: {field}: {first['msg']}; expected GitHub's own form; run again", OK) from None
