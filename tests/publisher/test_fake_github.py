"""The fake has GitHub's habits: without them, the publisher's tests would prove nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bare_repository import Bare
from contract import SENT, assert_contract
from fake_github import FakeGitHub

BRANCH = "cardgen/update"
PULL = {"head": BRANCH, "base": "main", "title": "T", "body": "B"}
CLOSED = {"state": "closed"}
OPEN = {"state": "open"}


class World:
    """The fake, a base, and a branch one commit ahead of it; asked as GitHub is asked."""

    def __init__(self, fake: FakeGitHub) -> None:
        self.fake, self.bare = fake, fake.bare
        self.base = self.bare.commit("main", "base")
        self.ahead = self.bare.commit(BRANCH, "ahead", self.base)
        headers = {**SENT, "user-agent": "test", "authorization": f"Bearer {fake.token}"}
        self._client = httpx.Client(headers=headers)

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> httpx.Response:
        return self._client.request(method, f"{self.fake.api}/repos/octo/cards{path}", json=body, params=query)

    def create(self, **change: Any) -> httpx.Response:
        return self.ask("POST", "/pulls", PULL | change)

    def states(self) -> list[tuple[str, bool]]:
        return [(pull.state, pull.merged) for pull in self.fake.pulls]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeGitHub(Bare.create(tmp_path / "bare.git").folder) as fake:
        yield World(fake)
        assert_contract(fake)


def _why(response: httpx.Response) -> str:
    assert response.status_code == 422
    error = response.json()["errors"][0]
    return str(error.get("message") or f"{error['field']}: {error['code']}")


def test_a_pull_shows_the_commits_of_the_bare_repository(world: World) -> None:
    made = world.create().json()
    assert (made["head"]["sha"], made["base"]["sha"]) == (world.ahead, world.base)
    newer = world.bare.commit(BRANCH, "newer", world.ahead)
    assert world.ask("GET", "/pulls").json()[0]["head"]["sha"] == newer
    assert world.fake.pull(1).head_sha == newer


def test_head_without_an_owner_filters_nothing(world: World) -> None:
    world.bare.commit("feature", "theirs", world.base)
    world.create()
    world.fake.open_pull("feature")
    world.fake.open_pull(BRANCH, head_repo="mallory/cards")

    def numbers(**query: str) -> list[int]:
        return [pull["number"] for pull in world.ask("GET", "/pulls", **query).json()]

    assert numbers() == numbers(head=BRANCH) == [3, 2, 1]
    assert numbers(head=f"octo:{BRANCH}") == [1]
    assert numbers(head=f"mallory:{BRANCH}") == [3]
    assert numbers(head="octo:nothing") == numbers(base="other") == []


def test_only_open_ones_are_listed_unless_asked(world: World) -> None:
    world.create()
    world.fake.close(1)
    assert [len(world.ask("GET", "/pulls", state=state).json()) for state in ("open", "closed", "all")] == [0, 1, 1]
    assert world.ask("GET", "/pulls").json() == []


def test_a_second_open_one_of_the_same_branch_is_refused(world: World) -> None:
    assert world.create().status_code == 201
    assert _why(world.create()) == f"A pull request already exists for octo:{BRANCH}."
    assert _why(world.create(head=f"octo:{BRANCH}")) == f"A pull request already exists for octo:{BRANCH}."
    world.fake.close(1)
    assert world.create().json()["number"] == 2


def test_what_cannot_be_a_pull_is_refused(world: World) -> None:
    assert _why(world.create(head="nowhere")) == "head: invalid"
    assert _why(world.create(base="nowhere")) == "base: invalid"
    assert _why(world.create(head="main")) == "No commits between main and main"
    assert _why(world.create(body="x" * 65_537)) == "body is too long (maximum is 65536 characters)"
    assert world.fake.pulls == []
    assert world.create(body="x" * 65_536).status_code == 201
    assert _why(world.ask("PATCH", "/pulls/1", {"body": "x" * 65_537})).startswith("body is too long")


def test_a_pull_closes_when_its_branch_goes(world: World) -> None:
    world.create()
    world.bare.delete(BRANCH)
    assert world.states() == [("closed", False)]
    assert world.fake.pull(1).head_sha == world.ahead
    why = _why(world.ask("PATCH", "/pulls/1", OPEN))
    assert why == f"state cannot be changed. The {BRANCH} branch has been deleted."


def test_a_pull_is_merged_when_the_base_takes_its_commits_in(world: World) -> None:
    world.create()
    world.bare.git("update-ref", "refs/heads/main", world.ahead)
    assert world.states() == [("closed", True)]


def test_a_pull_closes_unmerged_when_its_branch_is_reset_to_the_base(world: World) -> None:
    world.create()
    world.bare.git("update-ref", f"refs/heads/{BRANCH}", world.base)
    assert world.states() == [("closed", False)]


def test_a_forks_pull_does_not_follow_this_repositorys_branches(world: World) -> None:
    world.fake.open_pull(BRANCH, head_repo="mallory/cards")
    world.bare.delete(BRANCH)
    assert world.states() == [("open", False)]


def test_a_closed_pull_can_be_opened_again_until_its_branch_is_rewritten(world: World) -> None:
    world.create()
    world.ask("PATCH", "/pulls/1", CLOSED)
    world.bare.commit(BRANCH, "more", world.ahead)
    assert world.ask("PATCH", "/pulls/1", OPEN).json()["state"] == "open"
    world.ask("PATCH", "/pulls/1", CLOSED)
    world.bare.commit(BRANCH, "rewritten", world.base)
    why = _why(world.ask("PATCH", "/pulls/1", OPEN))
    assert why == f"state cannot be changed. The {BRANCH} branch was force-pushed or recreated."


def test_a_closed_pull_stays_closed_beside_an_open_one_and_once_merged(world: World) -> None:
    world.create()
    world.fake.close(1)
    world.create()
    why = _why(world.ask("PATCH", "/pulls/1", OPEN))
    assert why == f"state cannot be changed. There is already an open pull request from {BRANCH}."
    world.fake.merge(2)
    assert _why(world.ask("PATCH", "/pulls/2", OPEN)) == "state cannot be changed. The pull request was merged."


@pytest.mark.parametrize(("squash", "parents"), [(False, 2), (True, 1)])
def test_the_merge_button_makes_a_real_commit(world: World, squash: bool, parents: int) -> None:
    world.create()
    world.fake.merge(1, squash=squash)
    tip = world.bare.head("main")
    assert world.bare.git("show", f"{tip}:README.md") == "ahead"
    assert len(world.bare.git("rev-list", "--parents", "-1", tip).split()) == 1 + parents
    assert world.bare.contains(tip, world.ahead) is not squash
    assert world.bare.head(BRANCH) == world.ahead
    answer = world.ask("GET", "/pulls", state="all").json()[0]
    assert (answer["state"], answer["merge_commit_sha"], answer["merged_at"] is None) == ("closed", tip, False)


def test_the_merge_button_can_delete_the_branch(world: World) -> None:
    world.create()
    world.fake.merge(1, delete_branch=True)
    assert world.bare.head(BRANCH) is None
    assert world.states() == [("closed", True)]


def test_an_update_leaves_alone_what_it_does_not_name(world: World) -> None:
    world.create()
    answer = world.ask("PATCH", "/pulls/1", {"title": "new"}).json()
    assert (answer["title"], answer["body"], answer["state"], answer["merged"]) == ("new", "B", "open", False)
    assert world.ask("PATCH", "/pulls/1", {"body": ""}).json()["body"] is None
    assert world.ask("PATCH", "/pulls/2", CLOSED).status_code == 404


def test_labels_are_added_once_and_comments_kept_in_order(world: World) -> None:
    world.create()
    for names in (["a", "b"], ["b", "c"]):
        answer = world.ask("POST", "/issues/1/labels", {"labels": names})
    assert [label["name"] for label in answer.json()] == ["a", "b", "c"]
    world.fake.comment(1, "first")
    world.ask("POST", "/issues/1/comments", {"body": "second"})
    said = world.ask("GET", "/issues/1/comments").json()
    assert [(each["user"]["login"], each["body"]) for each in said] == [
        ("human", "first"),
        ("github-actions[bot]", "second"),
    ]
    assert world.ask("POST", "/issues/1/comments", {"body": " "}).status_code == 422


def test_reviewers_are_collaborators_and_not_the_author(world: World) -> None:
    world.create()
    path = "/pulls/1/requested_reviewers"
    assert (
        world.ask("POST", path, {"reviewers": ["stranger"]})
        .json()["message"]
        .startswith("Reviews may only be requested from collaborators.")
    )
    assert world.ask("POST", path, {"reviewers": ["github-actions[bot]"]}).status_code == 422
    answer = world.ask("POST", path, {"reviewers": ["reviewer"]})
    assert [user["login"] for user in answer.json()["requested_reviewers"]] == ["reviewer"]


def test_pages_are_linked_and_never_longer_than_a_hundred(world: World) -> None:
    world.create()
    for number in range(101):
        world.fake.comment(1, str(number))
    first = world.ask("GET", "/issues/1/comments", per_page="500")
    assert (len(first.json()), "next" in first.links) == (100, True)
    second = world.ask("GET", "/issues/1/comments", per_page="100", page="2")
    assert ([each["body"] for each in second.json()], "next" in second.links) == (["100"], False)


@pytest.mark.parametrize(
    ("change", "path", "status"),
    [
        ({"authorization": "Bearer other"}, "/repos/octo/cards", 401),
        ({"user-agent": ""}, "/repos/octo/cards", 403),
        ({}, "/repos/octo/other", 404),
        ({}, "/repos/octo/cards/pulls/1/files", 404),
        ({}, "/", 404),
    ],
)
def test_who_is_let_in(world: World, change: dict[str, str], path: str, status: int) -> None:
    headers = {"user-agent": "test", "authorization": f"Bearer {world.fake.token}"} | change
    assert httpx.get(world.fake.api + path, headers=headers).status_code == status
    world.fake.exchanges.clear()


def test_permissions_are_asked_of_the_token(world: World) -> None:
    world.create()
    world.fake.permissions = {"metadata": "read", "issues": "write", "pull_requests": "read"}
    refused = world.ask("PATCH", "/pulls/1", CLOSED)
    assert (refused.status_code, refused.headers["x-accepted-github-permissions"]) == (403, "pull_requests=write")
    assert world.fake.pull(1).state == "open"
    assert world.ask("POST", "/issues/1/labels", {"labels": ["a"]}).status_code == 200
    assert world.ask("GET", "/pulls").status_code == 200
    world.fake.visible = False
    assert world.ask("GET", "").status_code == 404


def test_faults_come_as_often_as_asked_and_with_or_without_effect(world: World) -> None:
    world.fake.fail("POST", "/pulls$", status=502, times=2)
    assert [world.create().status_code for _ in range(2)] == [502, 502]
    assert world.fake.pulls == []
    world.fake.fail("POST", "/pulls$", status=502, drop="after")
    assert (world.create().status_code, len(world.fake.pulls)) == (502, 1)
    for drop, labels in (("before", []), ("after", ["a"])):
        world.fake.fail("POST", "/labels$", drop=drop)
        with pytest.raises(httpx.RemoteProtocolError):
            world.ask("POST", "/issues/1/labels", {"labels": ["a"]})
        assert world.fake.pull(1).labels == labels
    assert world.ask("GET", "/pulls").status_code == 200
    assert world.fake.calls == ["POST /pulls"] * 3 + ["POST /issues/1/labels"] * 2 + ["GET /pulls"]
    assert [each.injected for each in world.fake.exchanges] == [True] * 5 + [False]


def test_every_answer_has_the_limits_that_github_sends(world: World) -> None:
    headers = world.ask("GET", "").headers
    assert (headers["x-ratelimit-remaining"], headers["content-type"]) == ("4987", "application/json; charset=utf-8")
