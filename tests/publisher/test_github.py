"""The client against the fake: what it asks, what it never sends twice, and what it says when it is refused.

Every request of every test here is held against GitHub's own description.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_repository import Bare
from contract import assert_contract
from fake_answers import refused
from fake_github import FakeGitHub
from fake_state import BOT

from cardgen.errors import CardgenError
from cardgen.publisher import github
from cardgen.publisher.forge import Comment, Denied, Forge, ForgeError, Limited, Pull, RepositoryInfo, Unreachable
from cardgen.publisher.github import GitHub

BRANCH = "cardgen/update"
NOW = 1_767_600_000.0
POST = "POST /pulls"
LIST = "GET /pulls"
WANTED = {"head": BRANCH, "base": "main", "title": "Regenerate saliency cards", "body": "What changed | é 🦊"}
SECONDARY = refused("You have exceeded a secondary rate limit. Please wait a few minutes.", 403)
AGAIN = "expected one; run the same command again"


class World:
    """The fake with a base and one branch ahead of it, a client, and how long the client slept."""

    def __init__(self, fake: FakeGitHub) -> None:
        self.fake, self.slept = fake, []
        self.base = fake.bare.commit("main", "cards")
        self.sha = fake.bare.commit(BRANCH, "new cards", self.base)
        self.forge = self.client()

    def client(self, token: str = "") -> GitHub:
        token = token or self.fake.token
        return GitHub("octo/cards", token, api=self.fake.api, sleep=self.slept.append, clock=lambda: NOW)

    def create(self) -> Pull:
        return self.forge.create_pull(**WANTED)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeGitHub(Bare.create(tmp_path / "bare.git").folder) as fake:
        yield World(fake)
        assert_contract(fake)


def test_it_is_a_forge(world: World) -> None:
    assert isinstance(world.forge, Forge)
    assert not isinstance(world.fake, Forge)


def test_it_reads_the_repository(world: World) -> None:
    assert world.forge.repository() == RepositoryInfo("octo/cards", "main", False)
    world.fake.private, world.fake.default_branch = True, "trunk"
    assert world.forge.repository() == RepositoryInfo("octo/cards", "trunk", True)


def test_a_new_pull_is_one_request_with_what_was_given(world: World) -> None:
    pull = world.create()
    assert pull == Pull(
        number=1,
        state="open",
        merged=False,
        title="Regenerate saliency cards",
        body="What changed | é 🦊",
        head_ref=BRANCH,
        head_sha=world.sha,
        base_ref="main",
        labels=(),
        url="https://github.com/octo/cards/pull/1",
    )
    assert world.fake.calls == [POST]
    (sent,) = world.fake.requests
    assert sent.body == WANTED
    assert sent.headers["authorization"] == f"Bearer {world.fake.token}"
    assert sent.headers["user-agent"].startswith("cardgen/")
    assert world.forge.pulls(BRANCH, "main") == [pull]


def test_the_list_holds_closed_and_merged_ones_newest_first(world: World) -> None:
    world.create()
    world.fake.close(1)
    world.create()
    world.fake.label(2, "a", "b")
    world.fake.merge(2)
    found = world.forge.pulls(BRANCH, "main")
    assert [(pull.number, pull.state, pull.merged, pull.labels) for pull in found] == [
        (2, "closed", True, ("a", "b")),
        (1, "closed", False, ()),
    ]
    assert world.fake.requests[-1].query == {
        "state": "all",
        "head": "octo:cardgen/update",
        "base": "main",
        "sort": "created",
        "direction": "desc",
        "per_page": "100",
        "page": "1",
    }


def test_others_pull_requests_are_left_out_even_where_the_answer_has_them(world: World) -> None:
    world.fake.bare.commit("feature", "theirs", world.base)
    world.fake.open_pull("feature")
    world.fake.open_pull(BRANCH, head_repo="mallory/cards")
    world.fake.open_pull(BRANCH, base="other")
    world.create()
    with FakeGitHub(world.fake.bare.folder) as unfiltered:
        unfiltered.known = world.fake.known
        listed = unfiltered.answer("GET", "/repos/octo/cards/pulls?state=all&head=anything", _signed(world), b"")[
            0
        ].body
    assert len(listed) == 4
    world.fake.fail("GET", "/pulls$", status=200, body=listed)
    assert [pull.number for pull in world.forge.pulls(BRANCH, "main")] == [4]


def _signed(world: World) -> dict[str, str]:
    return {"authorization": f"Bearer {world.fake.token}", "user-agent": "test"}


def test_a_pull_of_a_deleted_fork_is_left_out(world: World) -> None:
    world.create()
    gone = world.fake.answer("GET", "/repos/octo/cards/pulls", _signed(world), b"")[0].body
    world.fake.exchanges.clear()
    gone[0]["head"]["repo"] = None
    world.fake.fail("GET", "/pulls$", status=200, body=gone)
    assert world.forge.pulls(BRANCH, "main") == []


def test_lists_are_read_to_their_last_page(world: World) -> None:
    for number in range(1, 121):
        world.fake.open_pull(BRANCH).state = "closed"
        world.fake.comment(1, f"comment {number}")
    assert [pull.number for pull in world.forge.pulls(BRANCH, "main")] == list(range(120, 0, -1))
    assert world.forge.comments(1) == [Comment("human", f"comment {number}") for number in range(1, 121)]
    assert [request.query["page"] for request in world.fake.requests] == ["1", "2"] * 2


def test_a_next_page_elsewhere_is_never_asked(world: World, tmp_path: Path) -> None:
    world.create()
    with FakeGitHub(tmp_path / "bare.git") as elsewhere:
        link = {"link": f'<{elsewhere.api}/repos/octo/cards/pulls?page=2>; rel="next"'}
        world.fake.fail("GET", "/pulls$", status=200, headers=link, body=[])
        assert world.forge.pulls(BRANCH, "main") == []
        assert elsewhere.requests == []


def test_an_update_sends_only_what_is_given(world: World) -> None:
    world.create()
    assert world.forge.update_pull(1, body="new").body == "new"
    assert world.forge.update_pull(1, title="T", state="closed").state == "closed"
    assert world.forge.update_pull(1, body="").body == ""
    assert [each.body for each in world.fake.requests[1:]] == [
        {"body": "new"},
        {"title": "T", "state": "closed"},
        {"body": ""},
    ]
    assert (world.fake.pull(1).title, world.fake.pull(1).state) == ("T", "closed")


def test_labels_comments_and_reviewers(world: World) -> None:
    world.create()
    world.forge.add_labels(1, ["cardgen", "docs"])
    world.forge.add_labels(1, ("docs",))
    world.forge.request_reviewers(1, ["reviewer"])
    world.forge.create_comment(1, "left alone")
    assert world.forge.comments(1) == [Comment(BOT, "left alone")]
    assert (world.fake.pull(1).labels, world.fake.pull(1).reviewers) == (["cardgen", "docs"], ["reviewer"])
    before = len(world.fake.requests)
    world.forge.add_labels(1, [])
    world.forge.request_reviewers(1, [])
    assert len(world.fake.requests) == before


# What is never sent twice


@pytest.mark.parametrize("status", [None, 500, 502, 503])
def test_a_pull_whose_answer_was_lost_is_found_and_adopted(world: World, status: int | None) -> None:
    world.fake.fail("POST", "/pulls$", status=status, drop="after")
    assert world.create().number == 1
    assert world.fake.calls == [POST, LIST]
    assert len(world.fake.pulls) == 1
    assert world.slept == []


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"number": "one"}'])
def test_an_answer_that_cannot_be_read_counts_as_lost(world: World, body: bytes) -> None:
    world.fake.fail("POST", "/pulls$", status=201, body=body, drop="after")
    assert world.create().number == 1
    assert (world.fake.calls, len(world.fake.pulls)) == ([POST, LIST], 1)


def test_a_request_without_effect_is_sent_again_only_after_a_look(world: World) -> None:
    world.fake.fail("POST", "/pulls$", drop="before", times=2)
    assert world.create().number == 1
    assert world.fake.calls == [POST, LIST, POST, LIST, POST]
    assert (len(world.fake.pulls), world.slept) == (1, [2.0, 4.0])


def test_three_lost_answers_stop_it(world: World) -> None:
    world.fake.fail("POST", "/pulls$", status=502, times=3)
    with pytest.raises(Unreachable) as error:
        world.create()
    assert world.fake.calls == [POST, LIST] * 3
    assert error.value.status == 502
    assert str(error.value) == f"POST /repos/octo/cards/pulls: no answer from GitHub in 1 try (status 502); {AGAIN}"


def test_a_second_runner_gets_the_first_ones_pull(world: World) -> None:
    found: list[Pull] = []
    runners = [threading.Thread(target=lambda: found.append(world.client().create_pull(**WANTED))) for _ in range(4)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert [pull.number for pull in found] == [1] * 4
    assert len(world.fake.pulls) == 1
    assert world.slept == []


def test_what_github_does_not_accept_is_said_and_not_repeated(world: World) -> None:
    with pytest.raises(ForgeError) as error:
        world.forge.create_pull(head="nowhere", base="main", title="T", body="")
    assert str(error.value) == (
        "POST /repos/octo/cards/pulls: not accepted (422: Validation Failed; head: invalid); "
        "expected what GitHub takes; mend what it names and run again"
    )
    assert (type(error.value), error.value.status) == (ForgeError, 422)
    assert world.fake.calls == [POST, LIST]


def test_a_closed_pull_is_not_adopted(world: World) -> None:
    world.create()
    world.fake.close(1)
    world.fake.fail("POST", "/pulls$", drop="before")
    assert world.create().number == 2


def test_a_comment_whose_answer_was_lost_is_not_written_twice(world: World) -> None:
    world.create()
    world.fake.fail("POST", "/comments$", drop="after")
    world.forge.create_comment(1, "once")
    assert world.forge.comments(1) == [Comment(BOT, "once")]
    world.fake.fail("POST", "/comments$", drop="before")
    with pytest.raises(Unreachable, match="no answer from GitHub in 1 try"):
        world.forge.create_comment(1, "never")
    assert [call for call in world.fake.calls if "POST" in call].count("POST /issues/1/comments") == 2


@pytest.mark.parametrize("name", ["labels", "requested_reviewers"])
def test_labels_and_reviewers_are_tried_once(world: World, name: str) -> None:
    world.create()
    world.fake.fail("POST", f"/{name}$", status=500)
    ask = world.forge.add_labels if name == "labels" else world.forge.request_reviewers
    with pytest.raises(Unreachable, match=f"{name}: no answer from GitHub in 1 try"):
        ask(1, ["x"])
    assert len(world.fake.requests) == 2


# What is tried again


@pytest.mark.parametrize(("status", "drop"), [(500, None), (502, None), (None, "before"), (None, "after")])
def test_reading_and_setting_are_tried_three_times(world: World, status: int | None, drop: str | None) -> None:
    world.create()
    world.fake.fail("GET", "/pulls$", status=status, drop=drop, times=2)
    world.fake.fail("PATCH", "/pulls/1$", status=status, drop=drop, times=2)
    assert [pull.number for pull in world.forge.pulls(BRANCH, "main")] == [1]
    assert world.slept == [2.0, 4.0]
    assert world.forge.update_pull(1, body="new").body == "new"
    assert world.fake.calls == [POST, *[LIST] * 3, *["PATCH /pulls/1"] * 3]


def test_after_three_tries_it_stops(world: World) -> None:
    world.fake.fail("GET", "cards$", status=503, times=9)
    with pytest.raises(Unreachable) as error:
        world.forge.repository()
    assert str(error.value) == f"GET /repos/octo/cards: no answer from GitHub in 3 tries (status 503); {AGAIN}"
    assert (error.value.status, len(world.fake.requests)) == (503, 3)


def test_a_server_that_hangs_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "TIMEOUT", 0.2)
    forge = world.client()
    world.fake.fail("GET", "cards$", drop="hang", times=2)
    assert forge.repository().full_name == "octo/cards"
    world.fake.fail("POST", "/comments$", drop="hang")
    world.create()
    with pytest.raises(Unreachable, match=r"no answer from GitHub in 1 try \(timed out\)"):
        forge.create_comment(1, "slow")


def test_a_server_that_is_not_there_is_tried_three_times_and_named(tmp_path: Path) -> None:
    slept: list[float] = []
    with FakeGitHub(tmp_path) as gone:
        forge = GitHub("octo/cards", "ghs_zzz", api=gone.api, sleep=slept.append)
    with pytest.raises(
        Unreachable, match="POST /repos/octo/cards/issues/1/labels: no answer from GitHub in 3 tries"
    ) as error:
        forge.add_labels(1, ["x"])
    assert (error.value.status, slept) == (0, [2.0, 4.0])


# Limits


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait"),
    [
        (403, {"retry-after": "30"}, None, 30.0),
        (429, {"retry-after": "30"}, None, 30.0),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767600120"}, None, 120.0),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1767600120"}, None, 120.0),
        (403, {}, SECONDARY, 60.0),
        (429, {}, None, 60.0),
    ],
)
def test_a_limit_is_waited_for_and_the_request_sent_again(world: World, status, headers, body, wait) -> None:
    world.fake.fail("POST", "/pulls$", status=status, headers=headers, body=body)
    assert world.create().number == 1
    assert (world.fake.calls, world.slept) == ([POST, POST], [wait])


def test_a_limit_beyond_five_minutes_stops_at_once(world: World) -> None:
    world.fake.fail("POST", "/pulls$", status=403, headers={"retry-after": "301"}, body=SECONDARY)
    with pytest.raises(Limited) as error:
        world.create()
    assert str(error.value) == (
        "POST /repos/octo/cards/pulls: rate limit (403: You have exceeded a secondary rate limit. Please wait a few "
        "minutes.) for 301 s more; expected at most 300 s in all; run the same command again after that"
    )
    assert (error.value.status, error.value.wait, world.slept, world.fake.calls) == (403, 301.0, [], [POST])


def test_waits_add_up_over_all_requests_of_a_run(world: World) -> None:
    world.fake.fail("GET", "", status=429, headers={"retry-after": "100"}, times=4)
    with pytest.raises(Limited) as error:
        world.forge.pulls(BRANCH, "main")
    assert (world.slept, error.value.wait) == ([100.0] * 3, 100.0)
    assert world.client().repository().full_name == "octo/cards"


def test_a_server_that_always_says_zero_seconds_does_not_hold_it_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github, "PATIENCE", 5.0)
    world.fake.fail("GET", "cards$", status=429, headers={"retry-after": "0"}, times=10_000)
    with pytest.raises(Limited):
        world.forge.repository()
    assert (world.slept, len(world.fake.requests)) == ([1.0] * 5, 6)


# Refusals


def test_a_token_that_is_not_accepted(world: World) -> None:
    with pytest.raises(Denied) as error:
        world.client("ghp_other").repository()
    assert str(error.value) == (
        "GET /repos/octo/cards: the token is not accepted (401: Bad credentials); expected a valid one; renew it and run again"
    )
    assert error.value.status == 401


def test_a_token_without_the_permission_is_told_which_one(world: World) -> None:
    world.fake.permissions["pull_requests"] = "read"
    with pytest.raises(Denied) as error:
        world.create()
    assert str(error.value) == (
        "POST /repos/octo/cards/pulls: refused (403: Resource not accessible by integration); expected a token with "
        "`pull_requests: write`; grant it (`permissions:` in a workflow, else the token's own settings) and run again"
    )
    assert (error.value.status, world.fake.calls, world.slept) == (403, [POST], [])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"x-accepted-github-permissions": "issues=write; pull_requests=write"},
            "`issues: write` or `pull_requests: write`",
        ),
        (
            {"x-accepted-github-permissions": "contents=read,issues=write;metadata=read"},
            "`contents: read` and `issues: write` or `metadata: read`",
        ),
        ({"x-accepted-oauth-scopes": "public_repo, repo"}, "the scope `public_repo` or `repo`"),
        ({}, "`pull_requests: write`"),
    ],
)
def test_permissions_are_read_from_whichever_header_there_is(world: World, headers, expected) -> None:
    world.fake.fail("POST", "/pulls$", status=403, headers=headers, body=refused("Forbidden", 403))
    with pytest.raises(Denied) as error:
        world.create()
    assert f"expected a token with {expected}; grant it" in str(error.value)


def test_the_setting_that_forbids_workflows_to_create_pull_requests_is_named(world: World) -> None:
    words = "GitHub Actions is not permitted to create or approve pull requests."
    world.fake.fail("POST", "/pulls$", status=403, body=refused(words, 403))
    with pytest.raises(Denied) as error:
        world.create()
    assert str(error.value) == (
        f"POST /repos/octo/cards/pulls: refused (403: {words}); expected that workflows may; allow it in Settings → "
        "Actions → General → Allow GitHub Actions to create and approve pull requests, and run again"
    )


def test_a_repository_that_the_token_cannot_see(world: World) -> None:
    world.fake.visible = False
    with pytest.raises(Denied) as error:
        world.forge.repository()
    assert str(error.value) == (
        "GET /repos/octo/cards: nothing here that the token may see (404: Not Found); expected an existing repository and "
        "a token with `pull_requests: read`; mend the remote or the token and run again"
    )
    assert error.value.status == 404


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else(world: World, tmp_path: Path, status: int) -> None:
    with FakeGitHub(tmp_path / "bare.git") as elsewhere:
        moved = {"location": f"{elsewhere.api}/repositories/1"}
        world.fake.fail("GET", "cards$", status=status, headers=moved, body=refused("Moved Permanently", status))
        with pytest.raises(ForgeError) as error:
            world.forge.repository()
        assert elsewhere.requests == []
    assert str(error.value) == (
        f"GET /repos/octo/cards: the repository was renamed or moved ({status}: Moved Permanently); expected its present "
        "name; mend the remote with `git remote set-url` and run again"
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>sign in</html>", "the answer is no JSON"),
        (b"null", "the answer is no JSON"),
        (b"[]", "the answer: Input should be"),
        (b"{}", "full_name: Field required"),
        (b'{"full_name": 3}', "full_name: Input should be a valid string"),
    ],
)
def test_an_answer_of_another_form_is_named(world: World, body: bytes, said: str) -> None:
    world.fake.fail("GET", "cards$", status=200, body=body)
    with pytest.raises(Unreachable, match=rf"^GET /repos/octo/cards: {said}"):
        world.forge.repository()


def test_a_list_that_is_none_is_named(world: World) -> None:
    world.fake.fail("GET", "/pulls$", status=200, body={})
    with pytest.raises(Unreachable) as error:
        world.forge.pulls(BRANCH, "main")
    assert str(error.value) == "GET /repos/octo/cards/pulls: expected a list, got dict; run again"


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"message": 3}', b""])
def test_an_error_without_words_has_its_status(world: World, body: bytes) -> None:
    world.fake.fail("GET", "cards$", status=410, body=body)
    with pytest.raises(ForgeError, match=r"not accepted \(410\); expected"):
        world.forge.repository()


def test_hostile_words_become_one_short_printable_line(world: World) -> None:
    hostile = "a\x1b[31m\u202eb\n::error::c\u200b" + "x" * 5_000
    world.fake.fail("GET", "cards$", status=400, body={"message": hostile, "errors": ["d\r", {"code": 3}]})
    with pytest.raises(ForgeError) as error:
        world.forge.repository()
    said = str(error.value)
    assert "(400: a[31mb ::error::cxxx" in said
    assert (said.isprintable(), len(said) < 500) == (True, True)


# The token


def test_the_token_is_in_no_message_log_or_form(world: World, caplog: pytest.LogCaptureFixture) -> None:
    token = world.fake.token
    caplog.set_level(logging.DEBUG)
    world.fake.fail("GET", "cards$", status=400, body=refused(f"Bad header Bearer {token}", 400))
    world.fake.fail(
        "GET", "/pulls$", status=403, headers={"retry-after": "999"}, body=refused(f"rate limit {token}", 403)
    )
    world.fake.fail("GET", "/comments$", status=200, body={token: 1})
    said = []
    for ask in (world.forge.repository, lambda: world.forge.pulls(BRANCH, "main"), lambda: world.forge.comments(1)):
        with pytest.raises(ForgeError) as error:
            ask()
        said.append(str(error.value))
    world.create()
    assert sum("***" in each for each in said) == 2
    assert all(token not in text for text in [*said, caplog.text, repr(world.forge), str(world.forge)])
    assert caplog.text


@pytest.mark.parametrize(
    ("token", "what"),
    [
        ("", "it is empty"),
        ("a\nb", "it holds spaces or other signs that no token has"),
        (" ", "it holds spaces"),
        ("é", "it holds"),
    ],
)
def test_a_missing_or_mangled_token_is_refused_before_any_request(token: str, what: str) -> None:
    with pytest.raises(Denied, match=f"^no usable token: {what}") as error:
        GitHub("octo/cards", token)
    assert str(error.value).endswith("; expected one with `pull_requests: write`; set GITHUB_TOKEN and run again")
    assert not token.strip() or token not in str(error.value)
    assert error.value.status == 0


@pytest.mark.parametrize(
    "api", ["http://api.github.com", "ftp://x", "https://", "api.github.com", "http://127.0.0.1.example.org"]
)
def test_the_token_is_never_sent_in_the_clear(api: str) -> None:
    with pytest.raises(CardgenError) as error:
        GitHub("octo/cards", "ghs_zzz", api=api)
    assert str(error.value) == (
        f"{api}: expected an https address for GitHub's API, as https://api.github.com; mend it"
    )


@pytest.mark.parametrize(
    "name", ["", "cards", "octo/", "/cards", "octo/cards/x", "octo/..", "octo/ca rds", "octo/x?y", "-o/x"]
)
def test_a_name_that_is_no_repositorys_is_refused(name: str) -> None:
    with pytest.raises(CardgenError) as error:
        GitHub(name, "ghs_zzz")
    assert str(error.value) == f"{name!r}: not a repository's name; expected OWNER/NAME; mend it"
