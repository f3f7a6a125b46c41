"""Weeks of a user's repository: what `cardgen init` wrote and `action.yml`, played with bash, a bare repository and a fake GitHub."""

import json
import os
import subprocess
import sys
import venv

import pytest
import yaml
from runner import BASH, ROOT, Runner

from cardgen.init import WORKFLOW, Answers, init

sys.path.append(str(ROOT / "tests" / "publisher"))
from contract import assert_contract
from fake_github import FakeGitHub

ACTION = "octo/cardgen@0123456789abcdef0123456789abcdef01234567"
TOKEN = "ghs_secret_of_the_publishing_job"
MEASURED = "tiny-images/vanilla_gradients/sparsity.json"
SAYS = "printf '%s\\n' \"$@\""


def git(*arguments, cwd):
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main")
    found = subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A user's repository after `cardgen init`, with a small budget, pushed."""
    folder = tmp_path_factory.mktemp("repository")
    git("init", "--quiet", "--bare", "cards.git", cwd=folder)
    git("init", "--quiet", "work", cwd=folder)
    init(folder / "work", Answers("octo/cards", ACTION, "digit-cnn", "digits-on-scenes"))
    settings = folder / "work" / "cardgen.yaml"
    text = settings.read_text().replace("methods: core", "methods: vanilla_gradients").replace("all", "sparsity")
    settings.write_text(text + "n: 8\n")
    git("add", ".", cwd=folder / "work")
    git("commit", "--quiet", "-m", "Measure weekly", cwd=folder / "work")
    git("push", "--quiet", str(folder / "cards.git"), "HEAD:main", cwd=folder / "work")
    return folder / "cards.git"


@pytest.fixture(scope="module")
def fake(bare):
    with FakeGitHub(bare, full_name="octo/cards", default_branch="main", token=TOKEN) as server:
        yield server


class Weeks:
    """One repository, week after week."""

    def __init__(self, folder, bare, fake):
        environ = {
            "GITHUB_REPOSITORY": "octo/cards",
            "GITHUB_API_URL": fake.api,
            "GITHUB_SERVER_URL": "https://github.com",
        }
        github = {"repository": "octo/cards", "event_name": "schedule", "workflow": "update-cards", "token": TOKEN}
        contexts = {"github": github, "inputs": {}, "vars": {}}
        self.runner = Runner(folder, bare, ACTION, environ, contexts)
        self.fake, self.bare, self.number = fake, bare, 0

    def week(self, **changes):
        """Play the workflow once; results, what was published, and what GitHub was asked to change."""
        self.number += 1
        self.runner.contexts["github"].update({"run_id": str(self.number), "run_attempt": "1", **changes})
        before, self.runner.ran, self.runner.outputs = len(self.fake.requests), [], {}
        flow = self.runner.folder / "workflow.yml"
        flow.write_text(git("show", f"main:{WORKFLOW}", cwd=self.bare))
        self.results = self.runner.workflow(flow)
        self.asked = [f"{one.method} {one.path}" for one in self.fake.requests[before:] if one.method != "GET"]
        return json.loads(self.runner.outputs.get("outcome") or "null")

    def step(self, name):
        (found,) = [one for one in self.runner.ran if one.name == name]
        return found

    def files(self, ref):
        return git("ls-tree", "-r", "--name-only", ref, cwd=self.bare).splitlines()


@pytest.fixture(scope="module")
def weeks(tmp_path_factory, bare, fake):
    return Weeks(tmp_path_factory.mktemp("weeks"), bare, fake)


@pytest.fixture(scope="module")
def first(weeks):
    """The first week: both jobs."""
    outcome = weeks.week()
    said = "\n".join(f"{one.job}/{one.name} ({one.status}): {one.said}" for one in weeks.runner.ran)
    assert weeks.results == {"measure": "success", "publish": "success"}, said
    return outcome, weeks.runner.ran, weeks.asked


def test_the_first_week_opens_a_pull_request_with_cards(first, weeks):
    outcome, _, asked = first
    assert outcome["outcome"] == "created"
    assert asked[0] == "POST /repos/octo/cards/pulls"
    files = weeks.files("cardgen/update")
    assert {f"evaluations/{MEASURED}", "cards/README.md", "cards/vanilla_gradients/README.md"} <= set(files)
    assert [name for name in files if ".scores" in name] == []
    assert set(weeks.files("main")) == {"cardgen.yaml", WORKFLOW, ".gitignore"}
    assert_contract(weeks.fake)


def test_the_publishing_half_is_installed_without_torch(first):
    _, ran, _ = first
    (publishing,) = [one for one in ran if one.name == "Install cardgen's publishing half, which has no torch"]
    assert publishing.status == 0
    (step,) = [one for one in ran if one.name == "Publish"]
    assert step.status == 0


def test_without_torch_means_that_importing_it_fails(first, weeks):
    machine = next(weeks.runner.folder.glob("*-publish"))
    assert (machine / "tools" / "pip").read_text().splitlines() == [
        "install --quiet --upgrade pip>=25.1",
        f"install --quiet --group {ROOT}/pyproject.toml:publish",
        f"install --quiet --no-deps {ROOT}",
    ]
    blocked = {"PYTHONPATH": str(machine / "tools" / "without_torch")}
    found = subprocess.run(
        [sys.executable, "-c", "import torch"], env=blocked, capture_output=True, text=True, check=False
    )
    assert found.stderr.endswith("ModuleNotFoundError: No module named 'torch'\n")


def test_the_measuring_job_never_sees_the_token_and_nothing_says_it(first):
    _, ran, _ = first
    holding = [(one.job, one.name) for one in ran if TOKEN in str(one.env)]
    assert holding == [("publish", "Publish")]
    assert [one.name for one in ran if TOKEN in one.said + one.text] == []


def test_the_measuring_job_changes_nothing_at_github(first, weeks):
    assert not [
        path for path in weeks.runner.folder.glob("*-measure/workspace/.git/config") if TOKEN in path.read_text()
    ]
    assert [one for one in weeks.fake.requests if "authorization" not in {name.lower() for name in one.headers}] == []


@pytest.fixture(scope="module")
def second(first, weeks):
    """The second week, before anybody merged."""
    tip = git("rev-parse", "cardgen/update", cwd=weeks.bare)
    outcome = weeks.week()
    return outcome, weeks.asked, tip, weeks.step("Measure").said


def test_the_second_week_pushes_nothing_and_asks_for_no_change(second, weeks):
    outcome, asked, tip, _ = second
    assert (outcome["outcome"], asked) == ("unchanged", [])
    assert git("rev-parse", "cardgen/update", cwd=weeks.bare) == tip


def test_scores_of_the_week_before_are_taken_from_the_cache(second, weeks):
    names = sorted(path.name for path in (weeks.runner.folder / "cache").iterdir())
    assert names == ["cardgen-scores-update-cards-1-1", "cardgen-scores-update-cards-2-1"]
    old, new = ({path.name for path in (weeks.runner.folder / "cache" / name).rglob("*.npz")} for name in names)
    assert old
    assert old == new


@pytest.fixture(scope="module")
def merged(second, weeks):
    """The third week, after the pull request was merged."""
    weeks.fake.merge(1)
    outcome = weeks.week()
    return outcome, weeks.asked, weeks.step("Measure").said


def test_after_the_merge_nothing_is_measured_and_nothing_proposed(merged, weeks):
    outcome, asked, said = merged
    assert "0 evaluations measured, 1 up to date." in said
    assert (outcome["outcome"], asked) == ("merged", [])
    assert git("branch", "--list", cwd=weeks.bare) == "* main"
    assert_contract(weeks.fake)


QUICK = """
from pathlib import Path
for name in ("tiny/subject.json", "tiny/.scores/half.npz"):
    path = Path("evaluations", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
raise SystemExit({status})
"""


@pytest.fixture
def user(tmp_path, bare, fake):
    """The same repository, whose measuring takes no time and ends as `status` says."""

    def measuring(status):
        (tmp_path / "quick.py").write_text(QUICK.format(status=status))
        found = Weeks(tmp_path, bare, fake)
        found.runner.environ["MEASURING"] = str(tmp_path / "quick.py")
        return found

    return measuring


def test_another_branch_started_by_hand_measures_and_proposes_nothing(user):
    weeks = user(0)
    repository = {"default_branch": "main"}
    outcome = weeks.week(event_name="workflow_dispatch", ref_name="try", event={"repository": repository})
    assert (weeks.results, outcome) == ({"measure": "success", "publish": "skipped"}, None)


def test_a_fork_does_not_measure_by_schedule(user):
    weeks = user(0)
    outcome = weeks.week(event_name="schedule", repository="someone/cards")
    assert (weeks.results, outcome, weeks.runner.ran) == ({"measure": "skipped", "publish": "skipped"}, None, [])


def test_a_run_that_fails_hands_nothing_on_and_keeps_its_scores(user):
    weeks = user(1)
    assert weeks.week() is None
    assert weeks.results == {"measure": "failure", "publish": "skipped"}
    assert not (weeks.runner.folder / "artefacts").exists()
    (kept,) = (weeks.runner.folder / "cache").rglob("*.npz")
    assert kept.name == "half.npz"


def test_a_part_that_there_is_not(tmp_path):
    ran = alone("Check the inputs", tmp_path, SAYS, {"PART": "both"})
    assert (ran.returncode, ran.stderr) == (
        2,
        "error: part is 'both'; expected measure or publish, each in a job of its own; see docs/automate.md\n",
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, []),
        ({"MODEL": "a b; $(touch x) 'q'", "BUDGET": "full"}, ["--model", "a b; $(touch x) 'q'", "--budget", "full"]),
        ({"DATA": "*", "METHODS": "rise,lime"}, ["--data", "*", "--methods", "rise,lime"]),
        ({"METRICS": "--force"}, ["--metrics", "--force"]),
    ],
)
def test_inputs_become_flags_whatever_is_in_them(tmp_path, given, told):
    found = alone("Measure", tmp_path, SAYS, given)
    assert found.stdout.splitlines() == ["run", "--out", ".", *told]


def test_the_base_is_handed_to_publish(tmp_path):
    at = ["publish", "--json", "--evaluations", f"{tmp_path}/cardgen-evaluations"]
    assert alone("Publish", tmp_path, SAYS).stdout.splitlines() == at
    assert alone("Publish", tmp_path, SAYS, {"BASE": "release 1"}).stdout.splitlines() == [*at, "--base", "release 1"]


def test_an_unfinished_publication_fails_the_step_with_its_own_status_and_still_says_what_it_did(tmp_path):
    found = alone("Publish", tmp_path, 'echo \'{"outcome":"limited"}\'; exit 75')
    assert (found.returncode, found.stdout) == (75, '{"outcome":"limited"}\n')
    assert (tmp_path / "output").read_text() == 'outcome={"outcome":"limited"}\n'


def test_packages_are_words_and_no_commands(tmp_path):
    tools(tmp_path, python=SAYS)
    given = {"PACKAGES": "timm -r requirements.txt $(touch x)", "GITHUB_ACTION_PATH": "/action"}
    found = alone("Install cardgen", tmp_path, SAYS, given).stdout
    packages = ["timm", "-r", "requirements.txt", "$(touch", "x)"]
    assert found.splitlines() == ["-m", "pip", "install", "--quiet", "/action", *packages]
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_publishing_half_really_installs_and_has_no_torch(tmp_path):
    """The action's own step in a fresh environment, with pip's own answer."""
    venv.create(tmp_path / "env", with_pip=True)
    env = {**os.environ, "PATH": f"{tmp_path}/env/bin:/usr/bin:/bin", "GITHUB_ACTION_PATH": str(ROOT), "PYTHONPATH": ""}
    text = step("Install cardgen's publishing half, which has no torch")["run"]
    subprocess.run([*BASH, "-c", text], env=env, cwd=tmp_path, check=True)
    found = subprocess.run(["python", "-c", "import torch"], env=env, capture_output=True, text=True, check=False)
    assert found.stderr.endswith("No module named 'torch'\n")
    for command in ("publish", "build", "verify", "export"):
        subprocess.run(["cardgen", command, "--help"], env=env, cwd=tmp_path, check=True, capture_output=True)


def step(name):
    """A step of the action by its name."""
    steps = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
    (found,) = [one for one in steps if one.get("name") == name]
    return found


def tools(folder, **texts):
    """Commands that stand in for real ones."""
    for name, text in texts.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)


def alone(name, folder, cardgen, given=None):
    """One step of the action with a stand-in for cardgen; inputs are empty where nothing is given."""
    tools(folder, cardgen=cardgen)
    empty = dict.fromkeys(step(name)["env"], "")
    env = {"PATH": f"{folder}:/usr/bin:/bin", "RUNNER_TEMP": str(folder), "GITHUB_OUTPUT": f"{folder}/output"}
    command = [*BASH, "-c", step(name)["run"]]
    return subprocess.run(
        command, env=env | empty | (given or {}), cwd=folder, capture_output=True, text=True, check=False
    )
