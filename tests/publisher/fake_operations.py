"""The eight operations as GitHub does them, refusals and their words included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fake_answers import WHEN, failed, refused, shaped
from fake_state import BOT, Answer, FakeComment, FakePull, Request

if TYPE_CHECKING:
    from fake_github import FakeGitHub

LONGEST = 65_536
NOWHERE = Answer(404, {}, refused("Not Found", 404))
STUCK = "state cannot be changed. "


def get_repository(fake: FakeGitHub, request: Request) -> Answer:
    known = {"full_name": fake.full_name, "default_branch": fake.default_branch, "private": fake.private}
    return Answer(200, {}, shaped("full-repository", **known))


def list_pulls(fake: FakeGitHub, request: Request) -> Answer:
    wanted, query = list(reversed(fake.known)), request.query
    state = query.get("state", "open")
    if state != "all":
        wanted = [pull for pull in wanted if pull.state == state]
    if ":" in query.get("head", ""):
        wanted = [pull for pull in wanted if f"{pull.head_repo.split('/')[0]}:{pull.head_ref}" == query["head"]]
    if "base" in query:
        wanted = [pull for pull in wanted if pull.base_ref == query["base"]]
    return _page(fake, request, wanted, lambda pull: _shown(fake, pull, "pull-request-simple"))


def create_pull(fake: FakeGitHub, request: Request) -> Answer:
    given = request.body
    head, base, body = given["head"].removeprefix(f"{fake.owner}:"), given["base"], given.get("body") or ""
    sha, onto = fake.heads.get(head), fake.heads.get(base)
    if sha is None or onto is None:
        return _invalid(code="invalid", field="base" if sha else "head")
    if len(body) > LONGEST:
        return _too_long()
    if _opened(fake, head, base):
        return _invalid(code="custom", message=f"A pull request already exists for {fake.owner}:{head}.")
    if fake.bare.contains(onto, sha):
        return _invalid(code="custom", message=f"No commits between {base} and {head}")
    return Answer(201, {}, _shown(fake, fake.add(given["title"], body, head, base), "pull-request"))


def update_pull(fake: FakeGitHub, request: Request, number: int) -> Answer:
    pull, given = fake.find(number), request.body
    if pull is None:
        return NOWHERE
    if len(given.get("body") or "") > LONGEST:
        return _too_long()
    if given.get("state") == "open" and pull.state == "closed" and (why := _stays_closed(fake, pull)):
        return _invalid(code="custom", field="state", message=why)
    pull.title, pull.state = given.get("title", pull.title), given.get("state", pull.state)
    pull.body = given.get("body", pull.body) or ""
    return Answer(200, {}, _shown(fake, pull, "pull-request"))


def add_labels(fake: FakeGitHub, request: Request, number: int) -> Answer:
    pull = fake.find(number)
    if pull is None:
        return NOWHERE
    names = [each if isinstance(each, str) else each["name"] for each in request.body["labels"]]
    pull.labels += [name for name in dict.fromkeys(names) if name not in pull.labels]
    return Answer(200, {}, [shaped("label", name=name) for name in pull.labels])


def list_comments(fake: FakeGitHub, request: Request, number: int) -> Answer:
    if fake.find(number) is None:
        return NOWHERE
    return _page(fake, request, [each for each in fake.comments if each.number == number], _said)


def create_comment(fake: FakeGitHub, request: Request, number: int) -> Answer:
    if fake.find(number) is None:
        return NOWHERE
    if not request.body["body"].strip():
        return _invalid(resource="IssueComment", code="missing_field", field="body")
    fake.comment(number, request.body["body"], BOT)
    return Answer(201, {}, _said(fake.comments[-1]))


def request_reviewers(fake: FakeGitHub, request: Request, number: int) -> Answer:
    pull, wanted = fake.find(number), request.body.get("reviewers", [])
    if pull is None:
        return NOWHERE
    if pull.author in wanted:
        return Answer(422, {}, failed("Review cannot be requested from pull request author."))
    if not set(wanted) <= fake.collaborators:
        rest = (
            f"One or more of the users or teams you specified is not a collaborator of the {fake.full_name} repository."
        )
        return Answer(422, {}, failed(f"Reviews may only be requested from collaborators. {rest}"))
    pull.reviewers += [name for name in wanted if name not in pull.reviewers]
    return Answer(201, {}, _shown(fake, pull, "pull-request-simple"))


def _page(fake: FakeGitHub, request: Request, everything: list[Any], form: Callable[[Any], Any]) -> Answer:
    size, page = min(int(request.query.get("per_page", 30)), 100), int(request.query.get("page", 1))
    following = f'<{fake.api}{request.path}?page={page + 1}>; rel="next"'
    link = {"link": following} if len(everything) > size * page else {}
    return Answer(200, link, [form(each) for each in everything[size * (page - 1) : size * page]])


def _opened(fake: FakeGitHub, head: str, base: str) -> list[FakePull]:
    same = (head, base, fake.full_name, "open")
    return [pull for pull in fake.known if (pull.head_ref, pull.base_ref, pull.head_repo, pull.state) == same]


def _stays_closed(fake: FakeGitHub, pull: FakePull) -> str:
    """Why a closed pull request cannot be opened again; nothing where it can."""
    now, others = fake.heads.get(pull.head_ref), _opened(fake, pull.head_ref, pull.base_ref)
    if pull.merged:
        return f"{STUCK}The pull request was merged."
    if now is None:
        return f"{STUCK}The {pull.head_ref} branch has been deleted."
    if not fake.bare.contains(now, pull.head_sha):
        return f"{STUCK}The {pull.head_ref} branch was force-pushed or recreated."
    return f"{STUCK}There is already an open pull request from {pull.head_ref}." if others else ""


def _invalid(**error: str) -> Answer:
    return Answer(422, {}, failed("Validation Failed", {"resource": "PullRequest"} | error))


def _too_long() -> Answer:
    return _invalid(code="custom", field="body", message=f"body is too long (maximum is {LONGEST} characters)")


def _said(comment: FakeComment) -> dict[str, Any]:
    return shaped("issue-comment", body=comment.body, user=_user(comment.author))


def _user(login: str) -> dict[str, Any]:
    return shaped("simple-user", login=login)


def _shown(fake: FakeGitHub, pull: FakePull, schema: str) -> dict[str, Any]:
    owner, private = pull.head_repo.split("/")[0], fake.private
    known = {
        "number": pull.number,
        "state": pull.state,
        "title": pull.title,
        "body": pull.body or None,
        "html_url": f"https://github.com/{fake.full_name}/pull/{pull.number}",
        "user": _user(pull.author),
        "merged_at": WHEN if pull.merged else None,
        "merge_commit_sha": pull.merge_sha,
        "closed_at": None if pull.state == "open" else WHEN,
        "labels": [shaped("label", name=name, description="") for name in pull.labels],
        "requested_reviewers": [_user(name) for name in pull.reviewers],
        "head": {
            "label": f"{owner}:{pull.head_ref}",
            "ref": pull.head_ref,
            "sha": pull.head_sha,
            "repo": {"full_name": pull.head_repo, "private": private},
            "user": _user(owner),
        },
        "base": {
            "label": f"{fake.owner}:{pull.base_ref}",
            "ref": pull.base_ref,
            "sha": fake.heads.get(pull.base_ref, "0" * 40),
            "repo": {"full_name": fake.full_name, "private": private},
            "user": _user(fake.owner),
        },
    }
    return shaped(schema, **known) | ({"merged": pull.merged} if schema == "pull-request" else {})


ROUTES = (
    ("GET", "", "metadata=read", get_repository),
    ("GET", "/pulls", "pull_requests=read", list_pulls),
    ("POST", "/pulls", "pull_requests=write", create_pull),
    ("PATCH", r"/pulls/(\d+)", "pull_requests=write", update_pull),
    ("POST", r"/issues/(\d+)/labels", "issues=write; pull_requests=write", add_labels),
    ("GET", r"/issues/(\d+)/comments", "issues=read; pull_requests=read", list_comments),
    ("POST", r"/issues/(\d+)/comments", "issues=write; pull_requests=write", create_comment),
    ("POST", r"/pulls/(\d+)/requested_reviewers", "pull_requests=write", request_reviewers),
)
