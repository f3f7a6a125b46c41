"""`cardgen init`: what it writes fits, what is there stays."""

import json
import re
import subprocess
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cardgen import init as module
from cardgen.cli import main
from cardgen.config import RunConfig, load_config
from cardgen.errors import CardgenError
from cardgen.init import Answers, init

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ANSWERS = Answers("octo/cards", f"octo/cardgen@{COMMIT}", "resnet50", "mydata/")
FILES = ("cardgen.yaml", ".github/workflows/update-cards.yml", ".gitignore")


@pytest.fixture
def root(tmp_path):
    """A repository of a user's."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def texts(root):
    return {name: (root / name).read_bytes() for name in FILES}


def answers(**changes):
    return Answers(**{**vars(ANSWERS), **changes})


def test_three_files_are_written_and_said(root):
    said = init(root, ANSWERS)
    assert said[:3] == [f"wrote  {name}" for name in FILES]
    assert "Allow GitHub Actions to create and approve pull requests" in said[3]
    assert "commit and push" in said[4]
    assert len(said) == 5
    assert not re.search(rb"@[A-Z]+@", b"".join(texts(root).values()))


def test_the_settings_are_what_a_run_reads(root):
    init(root, ANSWERS)
    found = load_config(root / "cardgen.yaml", {})
    assert found == RunConfig(model="resnet50", data="mydata/")


@pytest.mark.parametrize(
    "name", ["a'b\"c", "x: y # z", "new\nline", "@DATA@", "ünï/∂", "\U0001f600", "\x7f\x85", "- a", "null", "a" * 500]
)
def test_any_name_of_a_model_survives(root, name):
    init(root, answers(model=name, data=name))
    found = yaml.safe_load((root / "cardgen.yaml").read_text(encoding="utf-8"))
    assert (found["model"], found["data"]) == (name, name)


def test_what_the_workflow_may_and_does_is_explained_right_above(root):
    init(root, ANSWERS)
    lines = [line.strip() for line in (root / FILES[1]).read_text(encoding="utf-8").splitlines()]
    told = {line.partition(":")[0] for above, line in pairwise(lines) if above.startswith("# ")}
    assert told >= {"name", "schedule", "workflow_dispatch", "permissions", "concurrency", "measure", "publish", "if"}
    assert told >= {"runs-on", "timeout-minutes", "contents", "pull-requests", "persist-credentials", "packages"}


def test_every_line_of_the_settings_has_its_comment_right_above(root):
    init(root, ANSWERS)
    lines = (root / "cardgen.yaml").read_text(encoding="utf-8").splitlines()
    settings = [place for place, line in enumerate(lines) if line and not line.startswith("#")]
    assert [lines[place].partition(":")[0] for place in settings] == [
        "model",
        "data",
        "methods",
        "metrics",
        "budget",
        "seed",
    ]
    assert all(lines[place - 1].startswith("# ") for place in settings)


def test_a_second_time_changes_nothing(root):
    init(root, ANSWERS)
    before = texts(root)
    said = init(root, answers(model="vgg16"))
    assert said[:3] == [
        "kept   cardgen.yaml: it is there already",
        "kept   .github/workflows/update-cards.yml: it is there already",
        "kept   .gitignore: it says so already",
    ]
    assert texts(root) == before


@pytest.mark.parametrize(
    ("old", "between"), [(b"*.pyc\n", b"\n"), (b"*.pyc", b"\n\n"), (b"\xff\r\n", b"\n"), (b"\n", b"\n")]
)
def test_gitignore_only_grows(root, old, between):
    (root / ".gitignore").write_bytes(old)
    assert init(root, ANSWERS)[2] == "wrote  .gitignore"
    whole = (root / ".gitignore").read_bytes()
    assert whole.startswith(old + between + b"# cardgen")


def test_git_ignores_scores_and_nothing_else(root):
    init(root, ANSWERS)
    for place in ("evaluations/a-b/.scores/x.npz", "evaluations/a-b/rise/deletion.json", "cards/rise/README.md"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text("x")
    shown = subprocess.run(
        ["git", "-C", str(root), "status", "--short", "-uall"], capture_output=True, text=True, check=True
    )
    assert [line[3:] for line in shown.stdout.splitlines()] == sorted(
        [*FILES, "cards/rise/README.md", "evaluations/a-b/rise/deletion.json"]
    )


def test_outside_a_repository_nothing_is_written(tmp_path):
    with pytest.raises(CardgenError) as raised:
        init(tmp_path, ANSWERS)
    assert str(raised.value) == (
        f"{tmp_path}: not the root of a git repository; expected a .git there, since workflows are read from the root "
        f"only; change to the root, or run `git init`"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["cards", "octo/cards' || true || '", "octo/cards\n", "-x/y", "octo/a/b", "", "octo/", "öcto/cards"]
)
def test_a_repository_that_is_none(name):
    with pytest.raises(CardgenError) as raised:
        answers(repository=name)
    assert str(raised.value) == (f"repository: got {name!r}; expected OWNER/NAME; give it as --repository OWNER/NAME")


@pytest.mark.parametrize(
    "name", ["octo/cardgen", "octo/cardgen@", "octo/cardgen@v1\n  evil: 1", "./", "@v1", "a/b@ v1"]
)
def test_an_action_that_is_none(name):
    with pytest.raises(CardgenError) as raised:
        answers(action=name)
    assert str(raised.value) == (f"action: got {name!r}; expected OWNER/NAME@REF; give it as --action OWNER/NAME@REF")


class Installed:
    """What pip noted of an installation."""

    def __init__(self, noted):
        self.noted = noted

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.noted and json.dumps(self.noted)


def test_the_action_is_where_pip_took_cardgen_from(monkeypatch):
    noted = {"url": "https://github.com/octo/cardgen.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
    monkeypatch.setattr(module, "distribution", lambda name: Installed(noted))
    assert module.installed_action() == f"octo/cardgen@{COMMIT}"


def gone(name):
    raise metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    "found", [lambda name: Installed(None), lambda name: Installed({"url": "file:///x", "dir_info": {}}), gone]
)
def test_an_installation_that_does_not_say(monkeypatch, found):
    monkeypatch.setattr(module, "distribution", found)
    with pytest.raises(CardgenError) as raised:
        module.installed_action()
    assert str(raised.value) == (
        "which repository holds cardgen's action is not known, since cardgen was not installed from one; expected "
        "--action OWNER/NAME@REF; give the repository of cardgen and a commit or tag of it"
    )


def test_the_command_takes_the_repository_from_the_remote(root, monkeypatch):
    subprocess.run(["git", "-C", str(root), "remote", "add", "origin", "git@github.com:octo/cards.git"], check=True)
    monkeypatch.chdir(root)
    found = CliRunner().invoke(main, ["init", "--model", "resnet50", "--data", "mydata/", "--action", ANSWERS.action])
    assert (found.exit_code, found.output.splitlines()[0]) == (0, "wrote  cardgen.yaml"), found.output
    written = texts(root)
    other = root / "other"
    (other / ".git").mkdir(parents=True)
    init(other, ANSWERS)
    assert texts(other) == written


def test_the_command_without_a_remote_says_what_to_do(root, monkeypatch):
    monkeypatch.chdir(root)
    found = CliRunner().invoke(main, ["init", "--action", ANSWERS.action])
    assert found.exit_code == 2
    assert found.output.startswith("error: no remote 'origin'")
    assert [path.name for path in root.iterdir()] == [".git"]


def test_files_ship_below_templates():
    assert sorted(path.name for path in Path(module.shipped("templates"), "init").iterdir()) == [
        "cardgen.yaml",
        "gitignore",
        "update-cards.yml",
    ]
