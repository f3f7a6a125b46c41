"""The workflows and the action: linted, and held to rules that linters do not know. Also what `cardgen init` writes."""

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from cardgen.init import WORKFLOW, Answers, init

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
ACTION = "octo/cardgen@0123456789abcdef0123456789abcdef01234567"
OURS = ("./", ACTION)
WRITES = {"contents": "write", "pull-requests": "write"}


def written(folder):
    """The workflow that `cardgen init` writes."""
    (folder / ".git").mkdir(parents=True)
    init(folder, Answers("octo/cards", ACTION, "resnet50", "mydata/"))
    return folder / WORKFLOW


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = ROOT / ".github" / "workflows"
    user = written(tmp_path_factory.mktemp("user") / "cards")
    return {"check": folder / "check.yml", "update-cards": folder / "update-cards.yml", "user": user}


def load(path):
    """A workflow; YAML 1.1 reads the key `on` as true."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in found.items()}


def wrong(flow):
    """What is against the rules in a workflow."""
    found = []
    on = flow["on"] if isinstance(flow["on"], dict) else dict.fromkeys([flow["on"]])
    if flow.get("permissions") != {}:
        found.append("top-level permissions")
    if "pull_request_target" in on or "workflow_run" in on:
        found.append("runs strangers' changes with rights")
    if "schedule" in on and flow["concurrency"].get("cancel-in-progress") is not False:
        found.append("cancels")
    for name, job in flow["jobs"].items():
        found += [f"{name}: {what}" for what in wrong_job(job, on)]
    return found


def wrong_job(job, on):
    parts = [step["with"]["part"] for step in job["steps"] if step.get("uses") in OURS]
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    if "timeout-minutes" not in job:
        yield "no time limit"
    if "write" in job["permissions"].values() and (parts != ["publish"] or job["permissions"] != WRITES):
        yield "rights to write"
    if parts not in ([], ["measure"], ["publish"]):
        yield "measures and publishes"
    if parts and not set(on) <= {"schedule", "workflow_dispatch"}:
        yield "measures or publishes for pull requests"
    if parts == ["measure"] and "github.repository ==" not in job["if"]:
        yield "measures in forks"
    if parts == ["publish"] and job["runs-on"] != "ubuntu-latest":
        yield "publishes on a runner of choice"
    if "measure" not in parts and "inputs.runner" in str(job["runs-on"]):
        yield "a runner of choice"
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@") and not persists_nothing(step):
            yield "leaves credentials"
        if "${{" in step.get("run", ""):
            yield "a value in a shell"
        if "secrets." in str(step) and parts != ["publish"]:
            yield "a secret"
    if any(not re.fullmatch(r"\./|actions/[a-z/-]+@v\d+|[\w./-]+@[0-9a-f]{40}", one) for one in uses):
        yield "an unpinned action"


def persists_nothing(step):
    return step.get("with", {}).get("persist-credentials") is False


@pytest.mark.parametrize("name", ["check", "update-cards", "user"])
def test_the_rules_hold(paths, name):
    assert wrong(load(paths[name])) == []


def publish_step(flow):
    return flow["jobs"]["publish"]["steps"]


MUTATIONS = {
    "top-level permissions": lambda flow: flow.update(permissions={"contents": "read"}),
    "runs strangers' changes with rights": lambda flow: flow["on"].update(pull_request_target=None),
    "cancels": lambda flow: flow["concurrency"].update({"cancel-in-progress": True}),
    "measure: no time limit": lambda flow: flow["jobs"]["measure"].pop("timeout-minutes"),
    "measure: rights to write": lambda flow: flow["jobs"]["measure"].update(permissions=WRITES),
    "publish: rights to write": lambda flow: flow["jobs"]["publish"]["permissions"].update(actions="write"),
    "publish: measures and publishes": lambda flow: publish_step(flow).append(flow["jobs"]["measure"]["steps"][1]),
    "measure: measures or publishes for pull requests": lambda flow: flow["on"].update(pull_request=None),
    "measure: measures in forks": lambda flow: flow["jobs"]["measure"].update({"if": "always()"}),
    "publish: publishes on a runner of choice": lambda flow: flow["jobs"]["publish"].update({"runs-on": "gpu"}),
    "publish: a runner of choice": lambda flow: flow["jobs"]["publish"].update({"runs-on": "${{ inputs.runner }}"}),
    "publish: leaves credentials": lambda flow: publish_step(flow)[0].pop("with"),
    "measure: a secret": lambda flow: flow["jobs"]["measure"]["steps"].append({"env": {"T": "${{ secrets.T }}"}}),
    "publish: a value in a shell": lambda flow: publish_step(flow).append({"run": "echo ${{ github.ref }}"}),
    "publish: an unpinned action": lambda flow: publish_step(flow).append({"uses": "someone/thing@v1"}),
}


@pytest.mark.parametrize("rule", MUTATIONS)
@pytest.mark.parametrize("name", ["update-cards", "user"])
def test_every_rule_bites(paths, name, rule):
    flow = deepcopy(load(paths[name]))
    MUTATIONS[rule](flow)
    assert rule in wrong(flow)


def test_the_two_update_workflows_do_the_same(paths):
    """Apart from whose repository, what is measured, and names, users get what this repository runs."""
    own, user = load(paths["update-cards"]), load(paths["user"])
    for flow in (own, user):
        assert flow["on"]["schedule"] == [{"cron": "23 4 * * 1"}]
        flow["jobs"]["measure"]["if"] = flow["jobs"]["measure"]["if"].partition("==")[0]
        flow["on"]["workflow_dispatch"]["inputs"] = sorted(flow["on"]["workflow_dispatch"]["inputs"])[-1:]
        for job in flow["jobs"].values():
            job["steps"][1] = (job["steps"][1].pop("uses") in OURS, job["steps"][1]["with"]["part"])
    assert own == user


def action():
    return yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def test_every_step_of_the_action_belongs_to_one_part_or_to_both():
    conditions = [step.get("if") for step in action()["runs"]["steps"]]
    assert conditions[:2] == [None, None]
    ends = {str(condition).removeprefix("always() && ") for condition in conditions[2:]}
    assert ends == {"inputs.part == 'measure'", "inputs.part == 'publish'"}


def test_the_token_stands_in_one_step_of_the_action():
    steps = action()["runs"]["steps"]
    assert [step["name"] for step in steps if "token" in str(step).lower()] == ["Publish"]


def test_values_reach_the_action_s_shells_by_their_environment():
    assert [step["name"] for step in action()["runs"]["steps"] if "${{" in step.get("run", "")] == []


def test_the_action_measures_what_a_run_can_be_asked():
    """Inputs that become flags of `cardgen run` are flags of it."""
    from cardgen.cli import run

    (step,) = [step for step in action()["runs"]["steps"] if step.get("name") == "Measure"]
    flags = {option for parameter in run.params for option in parameter.opts}
    assert {f"--{name.lower()}" for name in step["env"]} == {"--model", "--data", "--methods", "--metrics", "--budget"}
    assert {f"--{name.lower()}" for name in step["env"]} | {"--out"} <= flags


def test_the_action_s_inputs_are_documented():
    page = (ROOT / "docs" / "automate.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"\| input \| part .*?\n\n", page, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)))) == set(
        action()["inputs"]
    )


def lint(*command):
    found = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True, check=False, cwd=ROOT)
    return found.returncode, found.stdout + found.stderr


def schema(kind, *files):
    return lint("check-jsonschema", "--builtin-schema", f"vendor.github-{kind}", *files)


def zizmor(*files):
    return lint("zizmor", "--offline", "--quiet", "--config", ".github/zizmor.yml", *files)


def test_linters_find_nothing(paths):
    for status, said in (schema("workflows", *paths.values()), schema("actions", "action.yml")):
        assert status == 0, said
    status, said = zizmor("action.yml", *paths.values())
    assert status == 0, said


def test_linters_bite(paths, tmp_path):
    text = paths["user"].read_text(encoding="utf-8")
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    flow = tmp_path / ".github" / "workflows" / "bad.yml"
    flow.write_text(text.replace("timeout-minutes: 20", "timeout-minuets: 20"))
    assert schema("workflows", flow)[0] == 1
    flow.write_text(text.replace("persist-credentials: false", "fetch-depth: 1"))
    assert "artipacked" in zizmor(flow)[1]
    flow.write_text(text.replace("octo/cardgen@0123456789abcdef0123456789abcdef01234567", "octo/cardgen@main"))
    assert "unpinned-uses" in zizmor(flow)[1]


def test_make_check_lints_them_all():
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for wanted in (
        "vendor.github-workflows .github/workflows/*.yml $(INIT)/.github/workflows/*.yml",
        "vendor.github-actions action.yml",
        "zizmor --offline --quiet --config .github/zizmor.yml .github action.yml $(INIT)/.github/workflows/*.yml",
        "cardgen verify",
    ):
        assert wanted in recipe
    assert {"run": "make check"} in load(ROOT / ".github" / "workflows" / "check.yml")["jobs"]["check"]["steps"]


def test_pull_requests_are_verified_against_what_they_are_merged_into():
    job = load(ROOT / ".github" / "workflows" / "check.yml")["jobs"]["verify"]
    assert job["if"] == "github.event_name == 'pull_request'"
    assert job["steps"][0]["with"]["fetch-depth"] == 2  # the merge, and its parents: HEAD^1 is the base
    assert job["steps"][-1] == {"run": "cardgen verify --base HEAD^1"}
    assert "--no-deps ." in job["steps"][-2]["run"]


@pytest.mark.parametrize(
    "file", ["action.yml", ".github/workflows/check.yml", ".github/workflows/update-cards.yml", ".github/zizmor.yml"]
)
def test_files_that_name_actions_by_tags_say_so(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "by their tags" in text
    assert not re.search(r"@[0-9a-f]{40}", text)
