"""`cardgen publish` from the command line: flags, environment, output and exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from contract import assert_contract
from fake_github import FakeGitHub
from repository_life import BRANCH, READS, Life, at_home, git, read_once

from cardgen.cli import main
from cardgen.errors import CardgenError
from cardgen.publisher.branches import branch_of, checked
from cardgen.publisher.command import _git_host, automatic, token_in
from cardgen.publisher.outcome import SENTENCES, Outcome, exit_status

ROOT = Path(__file__).parents[2]


@pytest.fixture
def life(tmp_path, monkeypatch):
    at_home(monkeypatch)
    read_once(monkeypatch)
    life = Life(tmp_path / "life")
    monkeypatch.chdir(life.clone)
    return life


@pytest.fixture
def fake(life, monkeypatch):
    with FakeGitHub(life.bare) as opened:
        monkeypatch.setenv("GITHUB_TOKEN", opened.token)
        monkeypatch.setenv("GITHUB_API_URL", opened.api)
        monkeypatch.setenv("GITHUB_REPOSITORY", opened.full_name)
        yield opened
        assert_contract(opened)


def cardgen(life, *arguments):
    return CliRunner().invoke(main, ["publish", "--evaluations", str(life.evaluations), *arguments])


def lines(found):
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_outside_ci_it_is_a_dry_run(life, fake):
    found = cardgen(life)
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.startswith(f"Dry run, nothing was written. Would be: Opened {BRANCH} with 8 files.\n")
    assert "\n+++ b/cards/grad_cam/README.md\n" in found.stdout
    assert (life.pushes, fake.pulls, fake.calls) == ([], [], READS)


def test_without_a_token_a_dry_run_says_that_it_looked_at_no_pull_request(life, fake, monkeypatch):
    monkeypatch.delenv("GITHUB_TOKEN")
    found = cardgen(life, "--json")
    assert lines(found)[0]["warnings"] == ["no token in GH_TOKEN or GITHUB_TOKEN, so no pull request was looked at"]
    assert (lines(found)[0]["outcome"], fake.calls) == ("created", [])


def test_in_ci_it_writes(life, fake, monkeypatch):
    monkeypatch.setenv("CI", "true")
    found = cardgen(life, "--json", "--label", "cards", "--label", "bot", "--reviewer", "reviewer")
    assert (found.exit_code, found.stderr, len(found.stdout.splitlines())) == (0, "", 1)
    (line,) = lines(found)
    assert line == {
        "outcome": "created", "branch": BRANCH, "base": "main", "dry_run": False, "head": life.head(), "digest": line["digest"],
        "pull": 1, "url": "https://github.com/octo/cards/pull/1", "files": 8, "skipped": [], "held": [], "warnings": [],
        "message": "",
    }  # fmt: skip
    assert (fake.pulls[0].labels, fake.pulls[0].reviewers) == (["cards", "bot"], ["reviewer"])
    assert lines(cardgen(life, "--json"))[0]["outcome"] == "unchanged"
    assert lines(cardgen(life, "--json", "--dry-run"))[0]["dry_run"] is True


def test_yes_writes_outside_ci(life, fake):
    found = cardgen(life, "--yes")
    assert found.stdout == "Opened pull request #1 https://github.com/octo/cards/pull/1 with 8 files.\n"


def test_flags_reach_the_publisher(life, fake):
    life.human("develop", {"a": "a"})
    assert lines(cardgen(life, "--yes", "--json", "--base", "develop"))[0]["base"] == "develop"
    fake.close(1)
    assert lines(cardgen(life, "--yes", "--json", "--base", "develop"))[0]["outcome"] == "declined"
    assert lines(cardgen(life, "--yes", "--json", "--base", "develop", "--reopen"))[0]["outcome"] == "adopted"
    assert [line["branch"] for line in lines(cardgen(life, "--yes", "--json", "--per-method"))] == [
        branch_of("grad_cam")
    ]
    git(life.clone, "remote", "rename", "origin", "upstream")
    assert (
        lines(cardgen(life, "--yes", "--json", "--remote", "upstream", "--base", "develop"))[0]["outcome"]
        == "unchanged"
    )


def test_no_pr_needs_no_token(life, fake, monkeypatch):
    monkeypatch.delenv("GITHUB_TOKEN")
    assert cardgen(life, "--yes", "--no-pr").stdout == f"Pushed 8 files to {BRANCH}.\n"
    assert (life.pushes, fake.calls) == ([f"refs/heads/{BRANCH}"], [])


def test_a_missing_token_is_refused_early(life, fake, monkeypatch):
    monkeypatch.delenv("GITHUB_TOKEN")
    found = cardgen(life, "--yes", "--json")
    message = (
        "no token; expected one with `contents: write` and `pull-requests: write` in GH_TOKEN or GITHUB_TOKEN; set it, or "
        "push the branch alone with --no-pr"
    )
    assert (found.exit_code, found.stderr) == (2, f"error: {message}\n")
    assert lines(found) == [{"outcome": "error", "base": "", "dry_run": False, "message": message}]
    assert life.pushes == []


def test_a_remote_that_is_not_githubs_needs_a_name(life, fake, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY")
    found = cardgen(life, "--yes")
    assert found.exit_code == 2
    assert str(life.bare) in found.stderr
    assert cardgen(life, "--yes", "--repository", "octo/cards").exit_code == 0


def test_below_the_root_cards_stand_in_that_folder(life, fake, monkeypatch):
    folder = life.clone / "ml"
    folder.mkdir()
    monkeypatch.chdir(folder)
    cardgen(life, "--yes")
    assert "ml/cards/grad_cam/README.md" in life.files()


def test_limits_and_moved_branches_exit_75(life, fake):
    fake.fail("POST", "/pulls$", status=429, headers={"retry-after": "3600"})
    found = cardgen(life, "--yes")
    assert found.exit_code == 75
    assert found.stdout.startswith(
        "The forge's rate limit lasts longer than a run may wait. Run the same command again later.\n"
    )


def test_a_scope_that_is_missing_exits_2_and_names_it(life, fake):
    fake.permissions["pull_requests"] = "read"
    found = cardgen(life, "--yes", "--json")
    assert found.exit_code == 2
    assert "expected a token with `pull_requests: write`" in lines(found)[0]["message"]
    assert fake.token not in found.output


def test_what_is_left_alone_is_said(life, fake):
    fake.comment(1, "x")
    cardgen(life, "--yes")
    life.human(BRANCH, {"by-hand.txt": "x"})
    life.retrained()
    assert cardgen(life, "--yes").stdout == (f"{BRANCH} holds commits that cardgen did not make; left alone.\n")


def test_it_runs_where_torch_is_not(life, fake):
    """In a process in which importing the measuring half's packages raises."""
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "captum", "jaxtyping", "scipy", "skimage", "sklearn", "PIL"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {str(ROOT)!r})
from cardgen.cli import main
main(["publish", "--yes", "--json", "--evaluations", {str(life.evaluations)!r}])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=life.clone)
    assert (found.returncode, found.stderr, json.loads(found.stdout)["outcome"]) == (0, "", "created")


def test_every_outcome_has_a_sentence_and_fits_one_line():
    for name in SENTENCES:
        outcome = Outcome(name, BRANCH, "main", message="two\nlines \u2028 \x1b[31m")
        assert "{" not in outcome.sentence
        assert outcome.line.isprintable()
        assert json.loads(outcome.line)["message"] == "two\nlines \u2028 \x1b[31m"
        assert exit_status([outcome]) == (75 if name in ("remote-moved", "limited", "unreachable") else 0)


@pytest.mark.parametrize(
    ("value", "is_one"), [("true", True), ("1", True), ("", False), ("false", False), ("0", False)]
)
def test_ci_is_asked_of_the_environment(value, is_one):
    assert automatic({"CI": value}) is is_one
    assert automatic({}) is False


def test_the_token_is_taken_from_the_environment():
    assert token_in({"GH_TOKEN": " a\n", "GITHUB_TOKEN": "b"}) == "a"
    assert token_in({"GH_TOKEN": "", "GITHUB_TOKEN": "b"}) == "b"
    assert token_in({}) == ""


@pytest.mark.parametrize(
    ("api", "host"),
    [
        ("https://api.github.com", "github.com"),
        ("https://ghe.example.org/api/v3", "ghe.example.org"),
        ("https://api.octo.ghe.com", "octo.ghe.com"),
    ],
)
def test_git_speaks_to_the_forge_s_own_host(api, host):
    assert _git_host(api) == host


@pytest.mark.parametrize(
    ("method", "slug"),
    [
        ("grad_cam", "grad-cam"),
        ("../../main", "main"),
        ("--force", "force"),
        ("…", "card"),
        ("x" * 300, "x" * 40),
    ],
)
def test_a_methods_branch_is_a_plain_slug_with_a_digest(method, slug):
    assert re.fullmatch(rf"cardgen/{slug}-[0-9a-f]{{8}}", branch_of(method))
    checked(branch_of(method))


def test_methods_of_one_slug_have_branches_of_their_own():
    names = ["grad_cam", "grad-cam", "Grad CAM", "grad cam"]
    assert len({branch_of(name) for name in names}) == 4
    assert {branch_of(name)[:-9] for name in names} == {"cardgen/grad-cam"}


@pytest.mark.parametrize("name", ["", "-x", "a b", "a..b", "a~1", "a^", "a:b", "a*", "a?", "a[", "a\\b", "a@{1}", "/a", "a/", "a//b",
                                  "a/.b", ".a", "a.lock", "a.lock/b", "a.", "@", "a\nb", "a\u202eb"])  # fmt: skip
def test_bases_that_git_would_refuse_are_refused(name):
    with pytest.raises(CardgenError, match=r"no name of a branch; expected one such as main; mend --base$"):
        checked(name)


@pytest.mark.parametrize("name", ["main", "release/1.2", "fix#3", "größe", "a@b", "x-y_z"])
def test_bases_that_git_takes_are_taken(name):
    assert checked(name) == name
    subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=True)


def test_the_page_names_every_option_and_outcome():
    text = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")
    options = [name for option in main.commands["publish"].params for name in (*option.opts, *option.secondary_opts)]
    assert len(options) > 10
    for name in [*options, *SENTENCES]:
        assert re.search(rf"`{name}[` ]", text), name
