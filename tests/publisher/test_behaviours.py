"""Every row of the table of behaviours: a real bare repository, the stateful fake, the real client."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from contract import assert_contract
from fake_github import FakeGitHub
from repository_life import BRANCH, READS, Life, at_home, git, measured, plain_cards, read_once

from cardgen.errors import CardgenError
from cardgen.publisher.body import TITLE, read_marker
from cardgen.publisher.forge import Denied
from cardgen.publisher.git import Repository
from cardgen.publisher.gitwords import EMAIL
from cardgen.publisher.publish import Options, publish

CARD = "cards/grad_cam/README.md"
OURS = f"refs/heads/{BRANCH}"
NOTHING = ("nothing", [], READS)
UNCHANGED = ("unchanged", [], READS)


@pytest.fixture
def life(tmp_path, monkeypatch):
    at_home(monkeypatch)
    read_once(monkeypatch)
    plain_cards(monkeypatch)
    return Life(tmp_path / "life")


@pytest.fixture
def fake(life):
    with FakeGitHub(life.bare) as opened:
        yield opened
        assert_contract(opened)


@pytest.fixture
def opened(life, fake):
    """A first pull request is open."""
    assert life.published(fake) == ("created", [OURS], [*READS, "POST /pulls"])
    return fake.pulls[0]


@pytest.fixture
def merged(life, fake, opened):
    """The first cards are in the base, and the branch is gone."""
    fake.merge(1, squash=True, delete_branch=True)
    assert life.published(fake) == NOTHING


def bodies(fake):
    return [pull.body for pull in fake.pulls]


def test_first_cards(life, fake, opened):
    assert (opened.title, opened.head_ref, opened.base_ref) == (TITLE, BRANCH, "main")
    assert opened.body.startswith(
        "<!-- cardgen:begin -->\nMeasured again, and rendered from the records: 2 evaluations added."
    )
    assert read_marker(opened.body)[1] == life.head()
    assert git(life.bare, "log", "-1", "--format=%an %ae %cn %ce %P %aI %cI", BRANCH) == (
        f"cardgen {EMAIL} cardgen {EMAIL} {life.head('main')} 2026-03-02T09:00:00+00:00 2026-03-02T09:00:00+00:00"
    )
    assert {CARD, "cards/README.md", "cards/grad_cam/example.png", "evaluations/digits-cnn/subject.json"} <= set(
        life.files()
    )
    assert life.show("README.md") == "A model of ours."


def test_same_verdicts_again_write_nothing(life, fake, opened):
    assert life.published(fake) == UNCHANGED


def test_same_verdicts_from_another_machine_write_nothing(life, fake, opened):
    """Seconds, device, and the last digits differ; the key does not."""
    body = opened.body
    how = {"provenance": life.elsewhere(), "estimate": 0.2131, "p": 0.00012}
    life.measure(
        measured("deletion", **how), measured("insertion", **how), measured("deletion", "vanilla_gradients", **how)
    )
    assert life.published(fake) == UNCHANGED
    assert fake.pulls[0].body == body
    fake.merge(1)
    life.published(fake)
    assert life.published(fake) == NOTHING


def test_same_verdicts_again_while_the_base_moves_elsewhere_write_nothing(life, fake, opened):
    life.human("main", {"README.md": "Other words.\n"}, date="2026-03-20T09:00:00Z")
    assert life.published(fake) == UNCHANGED


def test_no_change_and_no_pull_request(life, fake, merged):
    assert life.published(fake) == NOTHING


def test_an_unnecessary_pull_request_is_closed_and_its_branch_removed(life, fake, merged):
    life.retrained()
    life.publish(fake)
    life.measure()
    assert life.published(fake) == ("closed", [f"-{OURS}"], [*READS, "PATCH /pulls/2"])
    assert (fake.pull(2).state, fake.pull(2).merged, life.head()) == ("closed", False, None)
    assert life.published(fake) == NOTHING


def test_what_cardgen_closed_itself_was_not_declined(life, fake, merged):
    for _ in range(2):
        life.retrained()
        assert life.published(fake)[0] == "created"
        life.measure()
        assert life.published(fake)[0] == "closed"


def test_an_unnecessary_pull_request_with_commits_of_people_gets_one_comment(life, fake, merged):
    life.retrained()
    life.publish(fake)
    theirs = life.human(BRANCH, {"by-hand.txt": "by hand\n"})
    life.measure()
    reads = [*READS, "GET /issues/2/comments"]
    assert life.published(fake) == ("blocked", [], [*reads, "POST /issues/2/comments"])
    assert life.published(fake) == ("blocked", [], reads)
    assert (fake.pull(2).state, life.head()) == ("open", theirs)
    assert [comment.body.split(",")[0] for comment in fake.comments] == [
        "The base branch now says what the records say"
    ]


def test_an_open_pull_request_is_updated_in_place(life, fake, merged):
    life.retrained()
    life.publish(fake)
    life.retrained("c")
    assert life.published(fake) == ("updated", [OURS], [*READS, "PATCH /pulls/2"])
    assert read_marker(fake.pull(2).body)[1] == life.head()
    assert git(life.bare, "rev-list", "--count", f"main..{BRANCH}") == "1"
    assert life.published(fake) == UNCHANGED


def test_only_our_own_block_of_the_body_is_written(life, fake, opened):
    block = opened.body
    opened.body = f"Please look by Friday.\r\n\r\n{block.replace(chr(10), chr(13) + chr(10))}\r\n"
    opened.title = "A title of ours"
    assert life.published(fake) == UNCHANGED
    life.retrained()
    assert life.published(fake)[0] == "updated"
    assert opened.body.startswith("Please look by Friday.\n\n<!-- cardgen:begin -->\n")
    assert opened.body.count("cardgen:begin") == opened.body.count("cardgen:v1") == 1
    assert (opened.title, read_marker(opened.body)[1]) == ("A title of ours", life.head())


def test_words_of_people_below_the_marker_are_kept(life, fake, opened):
    opened.body += "\n\nSee the report."
    assert life.published(fake) == ("updated", [], [*READS, "PATCH /pulls/1"])
    assert opened.body.startswith("See the report.\n\n<!-- cardgen:begin -->")
    assert life.published(fake) == UNCHANGED


def test_other_pull_requests_are_never_touched(life, fake):
    life.human("feature", {"a": "a"})
    fake.open_pull("feature")
    fake.open_pull(BRANCH, head_repo="fork/cards")
    before = [vars(pull).copy() for pull in fake.pulls]
    life.publish(fake)
    life.retrained()
    life.publish(fake)
    assert [vars(pull) for pull in fake.pulls[:2]] == before
    assert fake.pulls[2].head_ref == BRANCH
    assert life.head("feature")


def test_a_declined_pull_request_is_respected_while_the_content_is_the_same(life, fake, opened):
    fake.close(1)
    assert life.published(fake) == ("declined", [], READS)
    life.human("main", {"README.md": "Other words.\n"})
    git(life.bare, "update-ref", "-d", OURS)
    assert life.published(fake) == ("declined", [], READS)


def test_new_content_after_a_decline_opens_a_new_one(life, fake, opened):
    fake.close(1)
    life.retrained()
    assert life.published(fake) == ("created", [OURS], [*READS, "POST /pulls"])
    assert [pull.state for pull in fake.pulls] == ["closed", "open"]


def test_reopen_overrides_a_decline(life, fake, opened):
    fake.close(1)
    assert life.published(fake, reopen=True) == ("adopted", [], [*READS, "POST /pulls"])
    assert life.published(fake) == UNCHANGED


@pytest.mark.parametrize("squash", [True, False])
def test_a_merged_branch_is_removed(life, fake, opened, squash):
    fake.merge(1, squash=squash)
    assert life.published(fake) == ("merged", [f"-{OURS}"], READS)
    assert life.published(fake) == NOTHING


@pytest.mark.parametrize("squash", [True, False])
def test_new_content_after_a_merge_that_left_the_branch(life, fake, opened, squash):
    fake.merge(1, squash=squash)
    life.retrained()
    assert life.published(fake) == ("created", [OURS], [*READS, "POST /pulls"])
    assert git(life.bare, "rev-list", "--count", f"main..{BRANCH}") == "1"


def by_a_person(life):
    life.human(BRANCH, {CARD: "By hand.\n"})


def by_a_person_in_our_name(life):
    """The author is a person; who committed is not."""
    work = life.folder / "work"
    git(life.folder, "clone", "--quiet", "--branch", BRANCH, str(life.bare), str(work))
    git(work, "commit", "--quiet", "--allow-empty", "--author=Ada <ada@example.org>", "-m", "x", who=("cardgen", EMAIL))
    git(work, "push", "--quiet", "origin", f"HEAD:{BRANCH}")


def amended(life):
    """The author stays cardgen; the committer is a person."""
    work = life.folder / "work"
    git(life.folder, "clone", "--quiet", "--branch", BRANCH, str(life.bare), str(work))
    git(work, "commit", "--quiet", "--amend", "-m", "Better words")
    git(work, "push", "--quiet", "--force", "origin", f"HEAD:{BRANCH}")


def reset(life):
    """Nobody else's commit, but not the head that was pushed."""
    life.retrained()
    with Repository(life.clone) as repository:
        repository.fetch("origin", life.head("main"))
        sha = repository.commit(life.head("main"), {"other": b"other"}, "Other\n")
        repository.push("origin", sha, BRANCH, life.head())


@pytest.mark.parametrize("how", [by_a_person, by_a_person_in_our_name, amended, reset])
def test_commits_of_people_on_the_branch_are_left_alone(life, fake, opened, how):
    how(life)
    theirs, body = life.head(), opened.body
    life.retrained()
    reads = [*READS, "GET /issues/1/comments"]
    pushed = len(life.pushes)
    assert life.published(fake) == ("blocked", [], [*reads, "POST /issues/1/comments"])
    assert life.published(fake) == ("blocked", [], reads)
    assert (life.head(), opened.body, len(life.pushes), len(fake.comments)) == (theirs, body, pushed, 1)
    assert "label `cardgen:rebuild`" in fake.comments[0].body


def test_the_label_rebuild_overrides(life, fake, opened):
    by_a_person(life)
    fake.label(1, "cardgen:rebuild")
    assert life.published(fake) == ("updated", [OURS], [*READS, "PATCH /pulls/1"])
    assert "By hand." not in life.show(CARD)


def test_words_in_kept_regions_are_carried_over(life, fake, merged):
    text = life.show(CARD, "main").replace(
        "<!-- cardgen:keep notes -->\n", "<!-- cardgen:keep notes -->\nTrust it at dusk.\n"
    )
    assert "Trust it at dusk." in text
    life.human("main", {CARD: f"{text}\n"})
    assert life.published(fake) == NOTHING
    life.retrained()
    assert life.published(fake)[0] == "created"
    assert "Trust it at dusk." in life.show(CARD)
    assert "🟥" in life.show(CARD)


def test_a_card_edited_outside_kept_regions_is_skipped_and_listed(life, fake, merged):
    text = life.show(CARD, "main").replace("Grad-CAM", "Grad-CAM (ours)", 1)
    life.human("main", {CARD: f"{text}\n"})
    life.retrained()
    outcome = life.publish(fake)
    assert (outcome.outcome, outcome.skipped) == ("created", ("grad_cam/README.md",))
    assert life.show(CARD) == text
    assert "changed by hand outside kept regions:\n\n- grad_cam/README.md\n" in fake.pulls[1].body
    assert '"verdict": "fail"' in life.show("evaluations/digits-cnn/grad_cam/deletion.json")


def test_the_base_changed_a_file_of_the_pull_request(life, fake, merged):
    """Left as it is, the branch would conflict."""
    life.retrained()
    life.publish(fake)
    text = life.show(CARD, "main").replace("<!-- cardgen:keep notes -->\n", "<!-- cardgen:keep notes -->\nDusk.\n")
    now = life.human("main", {CARD: f"{text}\n"})
    assert life.published(fake) == ("updated", [OURS], [*READS, "PATCH /pulls/2"])
    assert git(life.bare, "rev-parse", f"{BRANCH}^") == now
    assert "Dusk." in life.show(CARD)
    assert life.published(fake) == UNCHANGED


@pytest.mark.parametrize("state", ["dirty", "detached", "shallow"])
def test_the_state_of_the_clone_makes_no_difference(life, fake, tmp_path, state):
    clone = life.clone
    git(clone, "pull", "--quiet", "origin", "main")
    if state == "dirty":
        (clone / "cards").mkdir()
        (clone / "cards" / "README.md").write_text("not committed\n")
        (clone / "README.md").write_text("changed\n")
        git(clone, "add", "--all")
    elif state == "detached":
        git(clone, "checkout", "--quiet", "--detach")
    else:
        life.human("main", {"more.txt": "more\n"})
        clone = tmp_path / "shallow"
        git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{life.bare}", str(clone))
    before = (git(clone, "status", "--porcelain"), (clone / ".git" / "HEAD").read_text(), git(clone, "for-each-ref"))
    assert life.publish(fake, clone=clone).outcome == "created"
    life.retrained()
    assert life.publish(fake, clone=clone).outcome == "updated"
    assert (
        git(clone, "status", "--porcelain"),
        (clone / ".git" / "HEAD").read_text(),
        git(clone, "for-each-ref"),
    ) == before
    assert "not committed" not in life.show("cards/README.md")


def refused(life, fake, **options):
    """The message of a run that stops before any write."""
    with pytest.raises(CardgenError) as told:
        life.publish(fake, **options)
    assert life.pushes == []
    assert [call for call in fake.calls if not call.startswith("GET")] == []
    return str(told.value)


def test_an_unknown_base_is_refused_before_any_write(life, fake):
    assert refused(life, fake, base="develop") == (
        "no branch 'develop' at remote 'origin'; expected the one to propose changes to; mend --base"
    )
    assert refused(life, fake, base="--all").startswith("base '--all': no name of a branch; expected one such as main;")
    assert refused(life, fake, remote="upstream").startswith("no remote 'upstream'; expected one of ['origin'];")


def test_a_branch_that_moves_meanwhile_stops_the_run(life, fake, opened, monkeypatch):
    push = Repository.push

    def late(self, *arguments):
        life.theirs = life.human(BRANCH, {"by-hand.txt": "by hand\n"})
        push(self, *arguments)

    monkeypatch.setattr(Repository, "push", late)
    life.retrained()
    outcome = life.publish(fake)
    assert outcome.outcome == "remote-moved"
    assert "(stale info)" in outcome.message
    assert life.head() == life.theirs
    assert fake.calls[-2:] == READS


def test_a_refused_push_gives_gits_own_reason(life, fake):
    hook = life.bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'branch is protected'; exit 1\n")
    hook.chmod(0o755)
    message = refused(life, fake)
    assert "[remote rejected] (pre-receive hook declined) remote: branch is protected" in message


def test_a_crash_between_push_and_pull_request_is_taken_up(life, fake):
    fake.fail("POST", "/pulls$", status=500, times=3)
    assert life.publish(fake).outcome == "unreachable"
    assert (life.head() is None, fake.pulls) == (False, [])
    assert life.published(fake) == ("adopted", [], [*READS, "POST /pulls"])
    assert life.published(fake) == UNCHANGED


def test_a_crash_between_push_and_update_is_taken_up(life, fake, opened):
    fake.fail("PATCH", "/pulls/1", status=500, times=3)
    life.retrained()
    assert life.publish(fake).outcome == "unreachable"
    assert read_marker(opened.body)[1] != life.head()
    assert life.published(fake) == ("updated", [], [*READS, "PATCH /pulls/1"])
    assert life.published(fake) == UNCHANGED


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_lost_answer_to_create_makes_one_pull_request(life, fake, drop):
    fake.fail("POST", "/pulls$", drop=drop)
    outcomes = [life.publish(fake).outcome for _ in range(2)]
    assert outcomes[1] == "unchanged"
    assert len(fake.pulls) == 1


def test_two_runners_at_once_make_one_pull_request(life, fake, tmp_path):
    clones = [tmp_path / "one", tmp_path / "two"]
    for clone in clones:
        shutil.copytree(life.clone, clone)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda clone: life.publish(fake, clone=clone).outcome, clones))
    assert len(fake.pulls) == 1
    assert set(outcomes) <= {"created", "adopted", "unchanged", "updated"}
    assert len(set(life.pushes)) == 1
    assert life.published(fake) == UNCHANGED


def test_two_runners_with_other_results_lose_nothing(life, fake, monkeypatch):
    """The second one saw the branch before the first one pushed."""
    push = Repository.push

    def late(self, remote, sha, branch, expected):
        if not life.pushes:
            with Repository(life.clone) as other:
                other.fetch(remote, life.head("main"))
                push(other, remote, other.commit(life.head("main"), {"first": b"first"}, "First\n"), branch, None)
        push(self, remote, sha, branch, expected)

    monkeypatch.setattr(Repository, "push", late)
    assert life.publish(fake).outcome == "remote-moved"
    assert life.show("first") == "first"


DENIED = {
    "401": ({"status": 401}, "token"),
    "403 scope": (
        {"status": 403, "headers": {"x-accepted-github-permissions": "pull_requests=write"}},
        "expected a token with `pull_requests: write`",
    ),
    "404 private": ({"status": 404}, "404"),
}


@pytest.mark.parametrize(("answer", "named"), DENIED.values(), ids=DENIED)
def test_a_token_that_may_not_is_refused_before_any_write(life, fake, answer, named):
    fake.fail("GET", "/repos/octo/cards$", **answer)
    message = refused(life, fake)
    assert named in message
    assert fake.token not in message
    assert "rate limit" not in message


def test_a_token_without_the_right_to_open_names_it_and_the_next_run_goes_on(life, fake):
    fake.permissions["pull_requests"] = "read"
    with pytest.raises(Denied, match="expected a token with `pull_requests: write`"):
        life.publish(fake)
    fake.permissions["pull_requests"] = "write"
    assert life.published(fake) == ("adopted", [], [*READS, "POST /pulls"])


def test_a_short_limit_is_waited_for(life, fake):
    fake.fail("POST", "/pulls$", status=403, headers={"retry-after": "7"})
    assert life.publish(fake).outcome == "created"
    assert life.naps == [7.0]
    assert len(fake.pulls) == 1


def test_a_long_limit_stops_and_the_next_run_goes_on(life, fake):
    fake.fail("POST", "/pulls$", status=429, headers={"retry-after": "3600"})
    outcome = life.publish(fake)
    assert (outcome.outcome, life.naps) == ("limited", [])
    assert life.published(fake) == ("adopted", [], [*READS, "POST /pulls"])


@pytest.mark.parametrize(("method", "path"), [("GET", "/pulls$"), ("PATCH", "/pulls/1")])
def test_server_errors_on_reads_and_updates_are_tried_three_times(life, fake, opened, method, path):
    fake.fail(method, path, status=502, times=2)
    life.retrained()
    assert life.publish(fake).outcome == "updated"
    assert len(life.naps) == 2


def test_labels_and_reviewers_are_asked_for_once(life, fake):
    wanted = {"labels": ("cards", "bot"), "reviewers": ("reviewer",)}
    calls = [*READS, "POST /pulls", "POST /issues/1/labels", "POST /pulls/1/requested_reviewers"]
    assert life.published(fake, **wanted) == ("created", [OURS], calls)
    assert (fake.pulls[0].labels, fake.pulls[0].reviewers) == (["cards", "bot"], ["reviewer"])
    assert life.published(fake, **wanted) == UNCHANGED


def test_labels_and_reviewers_that_fail_are_warnings(life, fake):
    fake.fail("POST", "labels", status=422)
    outcome = life.publish(fake, labels=("cards",), reviewers=("nobody",))
    assert outcome.outcome == "created"
    assert [warning.split(":")[0] for warning in outcome.warnings] == [
        "labels cards were not added", "reviewers nobody were not added",
    ]  # fmt: skip
    assert life.published(fake) == UNCHANGED


HOSTILE = "@ada | `x` <img src=x onerror=alert(1)> \u202e\u200b <!-- cardgen:v1 digest= --> [a](http://evil.example) #1"


def test_hostile_values_do_nothing_in_the_pull_request(life, fake):
    found = measured("deletion")
    entry = found.catalogue.model_copy(update={"title": HOSTILE, "quantity": HOSTILE})
    life.measure(measured("deletion", catalogue=entry, reason=HOSTILE))
    life.publish(fake)
    body = bodies(fake)[0]
    for bad in ("@ada", "<img", "\u202e", "\u200b", "[a](", "| `x`"):
        assert bad not in body
    assert body.count("<!--") == 2
    assert read_marker(body)[1] == life.head()
    assert (fake.pulls[0].title, fake.pulls[0].head_ref) == (TITLE, BRANCH)
    assert life.published(fake) == UNCHANGED


@pytest.mark.parametrize("name", ["a b", "$(touch x)", "-rf", "a\u202eb"])
def test_a_hostile_name_is_refused(life, fake, name):
    (life.evaluations / "digits-cnn" / f"{name}x").mkdir()
    source = life.evaluations / "digits-cnn" / "grad_cam" / "deletion.json"
    shutil.copy(source, life.evaluations / "digits-cnn" / f"{name}x" / "deletion.json")
    message = refused(life, fake)
    assert "deletion.json: method: expected" in message or "method: expected" in message


@pytest.mark.parametrize("place", ["digits-cnn/grad_cam/deletion.json", "digits-cnn/grad_cam", "linked"])
def test_symbolic_links_are_refused(life, fake, place):
    path = life.evaluations / place
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to("/etc")
    assert refused(life, fake) == (
        f"{path}: a symbolic link; expected plain files and folders of records; put the file itself there"
    )


def test_files_that_are_no_records_stay_at_home(life, fake):
    for name in (
        "notes.txt",
        ".scores/x.npz",
        "digits-cnn/.scores/y.npz",
        "digits-cnn/grad_cam/history.jsonl",
        "run.sh",
    ):
        (life.evaluations / name).parent.mkdir(exist_ok=True, parents=True)
        moved = '{"date":"2026-03-02","metric":"private","old":"pass","new":"fail","parts":[]}\n'
        (life.evaluations / name).write_text(moved)
    life.publish(fake)
    assert not [path for path in life.files() if path.endswith((".txt", ".npz", ".jsonl", ".sh"))]


def test_deleting_more_than_a_fifth_of_the_cards_is_refused(life, fake):
    life.measure_two()
    life.publish(fake)
    fake.merge(1, delete_branch=True)
    life.human(
        "main", {f"evaluations/digits-cnn/vanilla_gradients/{name}": None for name in ("deletion.json", "method.json")}
    )
    life.measure()
    with pytest.raises(CardgenError) as told:
        life.publish(fake)
    assert str(told.value) == (
        "1 of 2 cards would be deleted (vanilla_gradients); expected at most 20% of them at once; bring their records back, "
        "or give --allow-mass-delete"
    )
    assert life.head() is None
    assert life.publish(fake, allow_mass_delete=True).outcome == "created"
    assert not [path for path in life.files() if path.startswith("cards/vanilla_gradients")]


def test_a_dry_run_writes_nothing_and_shows_plan_and_diff(life, fake, opened):
    life.retrained()
    before = (life.pushes, bodies(fake), git(life.bare, "for-each-ref"))
    calls = len(fake.calls)
    outcome = life.publish(fake, dry_run=True)
    assert (outcome.outcome, outcome.dry_run, outcome.pull) == ("updated", True, 1)
    assert '+"verdict": "fail"' in outcome.plan
    assert (life.pushes, bodies(fake), git(life.bare, "for-each-ref"), fake.calls[calls:]) == (*before, READS)


def test_a_malformed_record_stops_everything_and_is_named(life, fake):
    path = life.evaluations / "digits-cnn" / "grad_cam" / "deletion.json"
    path.write_text(path.read_text().replace('"pass"', '"passed"', 1))
    message = refused(life, fake)
    assert message.startswith(f"{path}: verdict: Input should be 'pass', 'fail'")
    assert fake.calls == []


def test_a_malformed_record_in_the_base_stops_everything_and_is_named(life, fake, merged):
    life.human("main", {"evaluations/digits-cnn/grad_cam/insertion.json": "{}\n"})
    with pytest.raises(CardgenError, match=r"^evaluations/digits-cnn/grad_cam/insertion.json: subject: Field required"):
        life.publish(fake)


def test_an_evaluation_that_stopped_with_an_error_is_not_published(life, fake):
    life.measure(measured("deletion", verdict="error", reason="RuntimeError: no memory"))
    assert refused(life, fake).endswith(
        "deletion.json: the evaluation stopped with an error (RuntimeError: no memory); expected records without errors to "
        "publish; mend what it says and run `cardgen run` again, or leave its metric out"
    )


def test_the_token_is_in_no_output(life, fake, capfd, caplog):
    outcome = life.publish(fake)
    refs = "".join(git(life.bare, "cat-file", "-p", ref) for ref in (BRANCH, "main"))
    config = (life.clone / ".git" / "config").read_text()
    told = "".join([*capfd.readouterr(), caplog.text, outcome.line, outcome.plan, refs, config, *bodies(fake)])
    assert fake.token not in told


def flip(life, seconds):
    """A forced run: the same key, another verdict."""
    fails = {"verdict": "fail", "p": 0.9, "reason": "Does not beat noise.", "provenance": life.elsewhere(seconds)}
    life.measure(measured("deletion", **fails), measured("insertion"))


def test_a_flip_with_the_same_key_waits_for_a_second_run(life, fake, merged):
    flip(life, 1.0)
    outcome, pushed, calls = life.published(fake)
    assert (outcome, pushed, calls) == ("nothing", ["refs/cardgen/pending"], READS)
    assert life.publish(fake).held == ("digits-cnn/grad_cam/deletion.json",)
    assert life.published(fake) == NOTHING  # the same run published again is one run
    flip(life, 2.0)
    assert life.published(fake) == ("created", [OURS, "refs/cardgen/pending"], [*READS, "POST /pulls"])
    assert "| noise |" in fake.pulls[1].body
    assert life.published(fake) == UNCHANGED
    fake.merge(2, squash=True)
    assert life.published(fake) == ("merged", [f"-{OURS}", "-refs/cardgen/pending"], READS)


def test_a_flip_that_the_second_run_takes_back_is_never_published(life, fake, merged):
    flip(life, 1.0)
    life.publish(fake)
    life.measure()
    assert life.published(fake) == ("nothing", ["-refs/cardgen/pending"], READS)


def test_noise_is_published_at_once_where_that_is_asked_for(life, fake, merged):
    flip(life, 1.0)
    assert life.published(fake, noise=True) == ("created", [OURS], [*READS, "POST /pulls"])


def test_history_is_appended_where_a_verdict_moved_dated_as_the_base(life, fake, merged):
    life.human("main", {"README.md": "Later.\n"}, date="2026-03-09T23:30:00Z")
    life.retrained()
    life.publish(fake)
    assert life.show("evaluations/digits-cnn/grad_cam/history.jsonl") == (
        '{"date":"2026-03-09","metric":"deletion","old":"pass","new":"fail","parts":["weights"]}'
    )
    assert [path for path in life.files() if path.endswith("history.jsonl")] == [
        "evaluations/digits-cnn/grad_cam/history.jsonl"
    ]


def test_one_pull_request_a_method(life, fake):
    life.measure_two()
    outcomes = life.publish_all(fake, per_method=True)
    branches = [outcome.branch for outcome in outcomes]
    assert [branch.rpartition("-")[0] for branch in branches] == ["cardgen/grad-cam", "cardgen/vanilla-gradients"]
    assert {outcome.outcome for outcome in outcomes} == {"created"}
    mine = set(life.files(branches[0]))
    assert CARD in mine
    assert not [path for path in mine if "vanilla_gradients" in path]
    assert [outcome.outcome for outcome in life.publish_all(fake, per_method=True)] == ["unchanged", "unchanged"]
    fake.merge(1, squash=True)
    assert [outcome.outcome for outcome in life.publish_all(fake, per_method=True)] == ["merged", "updated"]
    fake.merge(2, squash=True)
    assert [outcome.outcome for outcome in life.publish_all(fake, per_method=True)] == ["merged"]
    assert {path for path in life.files("main") if path.startswith("cards/")} == {
        "cards/README.md", CARD, "cards/grad_cam/example.png",
        "cards/vanilla_gradients/README.md", "cards/vanilla_gradients/example.png",
    }  # fmt: skip
    assert life.published(fake) == NOTHING


def test_cards_in_a_folder_of_a_larger_repository(life, fake):
    life.human("main", {"cards/README.md": "Of another kind.\n"})
    assert life.published(fake, folder="ml/saliency")[0] == "created"
    assert "ml/saliency/cards/grad_cam/README.md" in life.files()
    assert life.show("cards/README.md") == "Of another kind."
    assert life.published(fake, folder="ml/saliency") == UNCHANGED


def test_without_pull_requests_only_the_branch_is_pushed(life, fake):
    assert life.publish(None).outcome == "pushed"
    assert life.publish(None).outcome == "unchanged"
    life.retrained()
    assert life.publish(None).outcome == "pushed"
    by_a_person(life)
    life.retrained("c")
    assert life.publish(None).outcome == "blocked"
    assert fake.calls == []


def test_a_folder_without_records_is_refused(life, fake):
    with (
        Repository(life.clone) as repository,
        pytest.raises(CardgenError, match="no such folder; expected a folder of records"),
    ):
        publish(Options(dry_run=False), None, repository, Path("nowhere"))
