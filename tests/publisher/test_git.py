"""Git: real repositories, and nothing of the user's touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from repository_life import BRANCH, Life, at_home, git

from cardgen.errors import CardgenError
from cardgen.publisher.credentials import header_settings, scrub
from cardgen.publisher.git import RemoteMoved, Repository
from cardgen.publisher.gitwords import EMAIL, safe

TOKEN = "ghs_aSecretOfTheTests"
FILES = {"cards/a/README.md": b"A\n", "evaluations/s/a/deletion.json": b"{}\n"}


@pytest.fixture
def life(tmp_path, monkeypatch):
    at_home(monkeypatch)
    return Life(tmp_path / "life")


@pytest.fixture
def repository(life):
    with Repository(life.clone) as opened:
        yield opened


def main(life, repository):
    sha = life.head("main")
    repository.fetch("origin", sha)
    return sha


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a clone, those below .git included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_commit_holds_the_base_and_the_files_and_nothing_else(life, repository):
    base = main(life, repository)
    sha = repository.commit(base, FILES, "Cards\n")
    assert repository.files(sha) == {"README.md": b"A model of ours.\n", **FILES}
    assert repository.files(sha, "cards", "nothing") == {"cards/a/README.md": b"A\n"}
    assert repository.read(sha, "cards/a/README.md") == b"A\n"
    assert repository.read(sha, "cards/a") is None
    assert repository.read(sha, "cards/b") is None
    without = repository.commit(sha, {"cards/a/README.md": None, "README.md": b"\xff\x00\n\nraw"}, "Fewer\n")
    assert repository.files(without) == {
        "README.md": b"\xff\x00\n\nraw", "evaluations/s/a/deletion.json": b"{}\n"
    }  # fmt: skip
    shown = repository.show(without)
    assert (shown.author, shown.committer, shown.parents, shown.message) == (EMAIL, EMAIL, (sha,), "Fewer\n")
    assert shown.ours


def test_the_same_input_gives_the_same_sha_in_another_clone_on_another_day(life, tmp_path, monkeypatch):
    shas = []
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        clone = tmp_path / f"clone{number}"
        git(tmp_path, "clone", "--quiet", str(life.bare), str(clone))
        git(clone, "config", "user.email", f"somebody{number}@example.org")
        git(clone, "config", "core.autocrlf", str(bool(number)).lower())
        git(clone, "config", "i18n.commitEncoding", ("utf-8", "latin1")[number])
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("GIT_AUTHOR_NAME", f"Somebody {number}")
        with Repository(clone) as repository:
            shas.append(repository.commit(life.head("main"), {"a.md": b"a\nb\r\n"}, "The same – words\n"))
            assert repository.date(shas[-1]) == "2026-03-02"
    assert shas[0] == shas[1]


def dirty(life):
    (life.clone / "README.md").write_text("changed\n")
    (life.clone / "staged.txt").write_text("staged\n")
    git(life.clone, "add", "staged.txt")
    (life.clone / "untracked.txt").write_text("untracked\n")


@pytest.mark.parametrize("state", ["empty", "dirty", "detached", "shallow", "bare", "worktree", "below"])
def test_nothing_of_the_users_is_touched(life, tmp_path, state):
    clone = place = life.clone
    if state != "empty":
        git(clone, "pull", "--quiet", "origin", "main")
    if state == "dirty":
        dirty(life)
    elif state == "detached":
        git(clone, "checkout", "--quiet", "--detach")
    elif state == "shallow":
        life.human("main", {"more.txt": "more\n"})
        clone = place = tmp_path / "shallow"
        git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{life.bare}", str(clone))
        life.human("main", {"more.txt": "yet more\n"})
    elif state == "bare":
        clone = place = tmp_path / "bare"
        git(tmp_path, "clone", "--quiet", "--bare", str(life.bare), str(clone))
    elif state == "worktree":
        place = tmp_path / "worktree"
        git(clone, "worktree", "add", "--quiet", str(place))
    elif state == "below":
        place = clone / "deep" / "down"
        place.mkdir(parents=True)
    before = snapshot(clone)
    with Repository(place) as repository:
        base = main(life, repository)
        sha = repository.commit(base, FILES, "Cards\n")
        repository.push("origin", sha, BRANCH, None)
        assert snapshot(clone) == before  # no remote-tracking branch either
        life.human(BRANCH, {"by-hand.txt": "by hand\n"})
        repository.fetch("origin", life.head())
        assert [commit.ours for commit in repository.commits_between(base, life.head())] == [False, True]
        repository.delete("origin", BRANCH, life.head())
    assert life.head() is None
    assert snapshot(clone) == before
    git(clone, "fsck", "--strict")


def test_environment_of_a_hook_leads_nowhere_else(life, repository, tmp_path, monkeypatch):
    """A hook runs with GIT_DIR and GIT_INDEX_FILE set."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    base = main(life, repository)
    assert repository.files(repository.commit(base, FILES, "Cards\n"), "cards") == {"cards/a/README.md": b"A\n"}
    assert not (tmp_path / "index").exists()


def test_hooks_and_push_settings_of_the_clone_do_nothing(life, tmp_path):
    hook = life.clone / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no; exit 1\n")
    hook.chmod(0o755)
    git(life.clone, "pull", "--quiet", "origin", "main")
    git(life.clone, "tag", "-a", "v1", "-m", "v1")
    for name, value in {"push.followTags": "true", "push.gpgSign": "true", "fetch.prune": "true"}.items():
        git(life.clone, "config", name, value)
    with Repository(life.clone) as repository:
        repository.push("origin", repository.commit(main(life, repository), FILES, "Cards\n"), BRANCH, None)
    assert life.pushes[-1:] == [f"refs/heads/{BRANCH}"]
    assert git(life.bare, "tag") == ""


def test_a_lease_loses_nobodys_commits(life, repository):
    base = main(life, repository)
    first, second = (repository.commit(base, {"a": text}, "Cards\n") for text in (b"1", b"2"))
    repository.push("origin", first, BRANCH, None)
    theirs = life.human(BRANCH, {"by-hand.txt": "by hand\n"})
    for expected in (None, first):
        with pytest.raises(RemoteMoved) as told:
            repository.push("origin", second, BRANCH, expected)
    with pytest.raises(RemoteMoved):
        repository.delete("origin", BRANCH, first)
    assert life.head() == theirs
    assert str(told.value) == (
        f"remote-moved: 'origin' is no longer as it was seen a moment ago: {second}:refs/heads/{BRANCH} [rejected] "
        f"(stale info) error: failed to push some refs to '{life.bare}'; nothing was overwritten; run the same command again"
    )
    repository.push("origin", second, BRANCH, theirs)
    assert life.head() == second


def test_a_commit_that_the_remote_lost_means_that_it_moved(repository):
    with pytest.raises(RemoteMoved, match=r"^remote-moved: .* not our ref 1{40}; nothing was overwritten"):
        repository.fetch("origin", "1" * 40)


def test_a_refused_push_gives_gits_own_reason(life, repository):
    hook = life.bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'GH013: Repository rule violations found'; exit 1\n")
    hook.chmod(0o755)
    sha = repository.commit(main(life, repository), FILES, "Cards\n")
    with pytest.raises(CardgenError) as told:
        repository.push("origin", sha, BRANCH, None)
    assert not isinstance(told.value, RemoteMoved)
    assert str(told.value) == (
        f"git push with remote 'origin' failed: {sha}:refs/heads/{BRANCH} [remote rejected] (pre-receive hook declined) "
        f"remote: GH013: Repository rule violations found error: failed to push some refs to '{life.bare}'; "
        f"mend that, and run it again"
    )


def test_heads_and_default_branch(life, repository):
    sha = life.human("cardgen/a", {"a": "a"})
    life.human("other/refs/heads/main", {"a": "a"})
    assert repository.heads("origin", "main", "none") == {"main": life.head("main")}
    assert repository.heads("origin", "cardgen/*") == {"cardgen/a": sha}
    assert repository.default_branch("origin") == "main"


def test_a_remote_that_is_empty_has_no_default_branch(tmp_path, monkeypatch):
    at_home(monkeypatch)
    git(tmp_path, "init", "--quiet", "--bare", "empty.git")
    git(tmp_path, "clone", "--quiet", "empty.git", "clone")
    with Repository(tmp_path / "clone") as repository, pytest.raises(CardgenError) as told:
        repository.default_branch("origin")
    assert str(told.value) == "remote 'origin' names no default branch; expected one; give it with --base"


def test_not_a_repository(tmp_path):
    with pytest.raises(CardgenError) as told:
        Repository(tmp_path)
    assert str(told.value) == (
        f"{tmp_path}: not in a git repository; expected a clone of the repository that holds the cards; "
        f"clone it, and run this inside it"
    )


def test_a_remote_that_is_not_there(repository):
    with pytest.raises(CardgenError) as told:
        repository.remote_url("--upload-pack=touch x")
    assert str(told.value) == (
        "no remote '--upload-pack=touch x'; expected one of ['origin']; add it by `git remote add`, or choose another "
        "with --remote"
    )


def test_a_remote_with_two_addresses_is_refused_without_its_password(life, repository):
    git(life.clone, "remote", "set-url", "--push", "origin", "https://ada:secret@example.org/x.git")
    with pytest.raises(CardgenError) as told:
        repository.remote_url("origin")
    assert str(told.value) == (
        f"remote 'origin' is read from {life.bare} and written to https://example.org/x.git; expected one address for both; "
        f"choose a remote that has one with --remote"
    )


def test_commands_in_place_of_an_address_are_not_run(life, repository, tmp_path):
    git(life.clone, "remote", "set-url", "origin", f"ext::sh -c touch% {tmp_path}/ran")
    with pytest.raises(CardgenError, match="transport 'ext' not allowed"):
        repository.heads("origin", "main")
    assert not (tmp_path / "ran").exists()


def link(life, path):
    work = life.folder / "linked"
    git(life.folder, "clone", "--quiet", str(life.bare), str(work))
    (work / path).parent.mkdir(parents=True, exist_ok=True)
    (work / path).symlink_to("/etc/passwd")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "-m", "Link")
    git(work, "push", "--quiet", "--no-verify", "origin", "HEAD:main")


def test_links_and_submodules_in_the_base_are_refused_where_cards_are(life, repository):
    link(life, "cards/a/example.png")
    sha = main(life, repository)
    with pytest.raises(CardgenError) as told:
        repository.files(sha, "cards")
    assert str(told.value) == (
        f"'cards/a/example.png' in commit {sha[:12]}: mode 120000; expected a plain file, no link, no submodule, no `..`; "
        f"remove it from the base branch"
    )
    assert set(repository.files(sha, "README.md")) == {"README.md"}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a/.",
        ".git/hooks/x",
        "a/.GIT/config",
        "a\\b",
        "a\nb",
        "a\u202eb",
    ],
)
def test_paths_that_lead_elsewhere_are_never_committed(repository, life, path):
    assert not safe(path)
    with pytest.raises(CardgenError) as told:
        repository.commit(main(life, repository), {path: b""}, "Cards\n")
    assert str(told.value) == f"{path!r}: not a name to commit; expected a plain path; rename the file"


def test_who_made_a_commit_is_asked_of_author_and_committer(life, repository):
    base = main(life, repository)
    ours = repository.commit(base, FILES, "Cards\n")
    repository.push("origin", ours, BRANCH, None)
    assert repository.commits_between(base, ours) == [repository.show(ours)]
    assert repository.commits_between(ours, ours) == repository.commits_between(ours, base) == []
    work = life.folder / "amended"
    git(life.folder, "clone", "--quiet", "--branch", BRANCH, str(life.bare), str(work))
    git(work, "commit", "--quiet", "--amend", "--no-edit")  # keeps the author
    git(work, "push", "--quiet", "--force", "origin", f"HEAD:{BRANCH}")
    repository.fetch("origin", life.head())
    (amended,) = repository.commits_between(base, life.head())
    assert (amended.author, amended.committer, amended.ours) == (EMAIL, "ada@example.org", False)


def test_a_merge_of_the_base_into_the_branch_is_somebodys_commit(life, repository):
    base = main(life, repository)
    repository.push("origin", repository.commit(base, FILES, "Cards\n"), BRANCH, None)
    now = life.human("main", {"more.txt": "more\n"})
    work = life.folder / "merging"
    git(life.folder, "clone", "--quiet", "--branch", BRANCH, str(life.bare), str(work))
    git(work, "merge", "--quiet", "--no-edit", "origin/main")
    git(work, "push", "--quiet", "origin", f"HEAD:{BRANCH}")
    repository.fetch("origin", now, life.head())
    assert [commit.ours for commit in repository.commits_between(now, life.head())] == [False, True]


def test_a_shallow_clone_takes_the_bases_history_for_nobodys_commits(life, tmp_path):
    """Beyond its boundary a shallow clone does not know that the branch's parent belongs to the base."""
    with Repository(life.clone) as repository:
        base = main(life, repository)
        repository.push("origin", repository.commit(base, FILES, "Cards\n"), BRANCH, None)
    now = life.human("main", {"more.txt": "more\n"})
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{life.bare}", str(tmp_path / "shallow"))
    with Repository(tmp_path / "shallow") as repository:
        repository.fetch("origin", now, life.head())
        assert [commit.ours for commit in repository.commits_between(now, life.head())] == [True]


def test_a_root_commit_stands_alone(life, repository):
    base = main(life, repository)
    sha = repository.root_commit({"pending.json": b"{}\n"}, "Waiting\n", base)
    assert (repository.show(sha).parents, repository.files(sha)) == ((), {"pending.json": b"{}\n"})
    repository.push_ref("origin", sha, "refs/cardgen/pending", None)
    assert repository.refs("origin", "refs/cardgen/pending") == {"refs/cardgen/pending": sha}
    repository.push_ref("origin", "", "refs/cardgen/pending", sha)
    assert repository.refs("origin", "refs/cardgen/pending") == {}


def test_the_diff_is_text(life, repository):
    base = main(life, repository)
    text = repository.diff(base, repository.commit(base, {"cards/a.md": b"new\n"}, "Cards\n"))
    assert re.search(
        r"cards/a.md \| 1 \+\n.*1 insertion.*\+\+\+ b/cards/a.md\n@@ -0,0 \+1 @@\n\+new\n$", text, re.DOTALL
    )


def test_the_token_is_in_gits_environment_and_nowhere_else(life, tmp_path, monkeypatch):
    git(life.clone, "remote", "set-url", "origin", "https://github.com/octo/cards.git")
    real, bin, log = shutil.which("git"), tmp_path / "bin", tmp_path / "log"
    bin.mkdir()
    (bin / "git").write_text(
        f'#!/bin/sh\necho "$@" >> {log}.arguments\nenv >> {log}.environment\n'
        f'case "$*" in *" ls-remote "*) echo "fatal: https://x:{TOKEN}@github.com said $GIT_CONFIG_VALUE_1" >&2; exit 1;; esac\n'
        f'exec {real} "$@"\n'
    )
    (bin / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    before = snapshot(life.clone)
    with Repository(life.clone, token=TOKEN) as repository, pytest.raises(CardgenError) as told:
        repository.heads("origin", "main")
    environment, arguments = Path(f"{log}.environment").read_text(), Path(f"{log}.arguments").read_text()
    header = header_settings("https://github.com/octo/cards.git", TOKEN, "github.com")["GIT_CONFIG_VALUE_1"]
    assert f"GIT_CONFIG_VALUE_1={header}" in environment
    assert TOKEN not in arguments
    assert header.split()[-1] not in arguments
    assert str(told.value) == (
        "git ls-remote with remote 'origin' failed: fatal: https://github.com said AUTHORIZATION: basic ***; "
        "mend that, and run it again"
    )
    assert snapshot(life.clone) == before


def test_git_takes_the_header_for_the_forges_host_alone_and_drops_an_older_one(life):
    git(life.clone, "config", "http.https://github.com/.extraheader", "AUTHORIZATION: basic older")
    settings = header_settings("https://github.com/octo/cards.git", TOKEN, "github.com")

    def header(url):
        found = subprocess.run(
            ["git", "-C", str(life.clone), "config", "--get-urlmatch", "http.extraheader", url],
            capture_output=True, text=True, env=os.environ | settings,
        )  # fmt: skip
        return found.stdout.strip()

    assert header("https://github.com/octo/cards.git") == settings["GIT_CONFIG_VALUE_1"]
    assert header("https://example.org/octo/cards.git") == header("http://github.com/octo/cards.git") == ""
    assert settings["GIT_CONFIG_VALUE_0"] == ""


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.org/octo/cards.git", "github.com"),
        ("https://github.com.example.org/octo/cards.git", "github.com"),
        ("https://github.com@example.org/octo/cards.git", "github.com"),
        ("http://github.com/octo/cards.git", "github.com"),
        ("git@github.com:octo/cards.git", "github.com"),
        ("ssh://git@github.com/octo/cards.git", "github.com"),
        ("/srv/github.com/cards.git", "github.com"),
    ],
)
def test_no_other_address_gets_the_token(url, host):
    assert header_settings(url, TOKEN, host) == {}
    assert header_settings("https://github.com/octo/cards.git", "", "github.com") == {}


def test_settings_of_the_caller_are_kept(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    found = header_settings("https://ghe.example.org:8443/octo/cards.git", TOKEN, "ghe.example.org")
    assert found["GIT_CONFIG_COUNT"] == "4"
    assert found["GIT_CONFIG_KEY_2"] == found["GIT_CONFIG_KEY_3"] == "http.https://ghe.example.org:8443/.extraheader"


def test_scrub():
    text = f"https://ada:pw@example.org/x {TOKEN} git@github.com:octo/cards.git a@b"
    assert scrub(text, TOKEN) == "https://example.org/x *** git@github.com:octo/cards.git a@b"
    assert scrub("nothing", "") == "nothing"
