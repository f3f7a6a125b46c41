"""A runner for tests: plays the jobs of a workflow step by step, with bash, as GitHub's would; foreign actions are stand-ins.

Each job gets a fresh workspace and fresh tools. `python -m pip` is noted instead of run, and what was installed decides
which `cardgen` there is: with dependencies the measuring one (on a tiny subject, or the script that MEASURING names in the
environment), without them one that has no torch.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import yaml
from expressions import evaluate, filled

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"
BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
PYTHON = """#!/usr/bin/env bash
if [ "$1 $2" = "-m pip" ]; then printf '%s\\n' "${*:3}" >> "$RUNNER_TOOLS/pip"; exit 0; fi
exec "$RUNNER_PYTHON" "$@"
"""
CARDGEN = """#!/usr/bin/env bash
[ -f "$RUNNER_TOOLS/pip" ] || { echo "cardgen: command not found" >&2; exit 127; }
if ! grep -q -e '--no-deps' "$RUNNER_TOOLS/pip"; then exec "$RUNNER_PYTHON" "${MEASURING:-$RUNNER_TESTS/small_cli.py}" "$@"; fi
export PYTHONPATH="$RUNNER_TOOLS/without_torch:$PYTHONPATH"
exec "$RUNNER_PYTHON" -c "from cardgen.cli import main; main(prog_name='cardgen')" "$@"
"""
WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "captum", "jaxtyping", "scipy", "skimage", "sklearn", "PIL"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


@dataclass(frozen=True)
class Ran:
    """One step: where it stood, what it was given, what it said."""

    job: str
    name: str
    status: int
    text: str
    said: str
    env: dict[str, str]


@dataclass
class Runner:
    """Where workflows run: a bare repository behind `origin`, our action by its name, and the environment of every step."""

    folder: Path
    bare: Path
    action: str
    environ: dict[str, str]
    contexts: dict
    ran: list = field(default_factory=list)
    outputs: dict = field(default_factory=dict)
    jobs: int = 0

    def workflow(self, path):
        """All jobs in the order of their needs; those whose condition does not hold, or whose needs failed, are left out."""
        results = {}
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items():
            wanted = all(results.get(need) == "success" for need in [job.get("needs", [])] if need)
            if wanted and evaluate(str(job.get("if", "true")), self.contexts):
                results[name] = "success" if self.job(name, job) else "failure"
            else:
                results[name] = "skipped"
        return results

    def job(self, name, job):
        """The steps of one job on a fresh machine; whether all went well."""
        self.jobs += 1
        machine = Machine(self, name, self.folder / f"{self.jobs}-{name}")
        return machine.steps(job["steps"], self.contexts)


class Machine:
    """A fresh workspace and fresh tools for one job."""

    def __init__(self, runner, job, folder):
        self.runner, self.name, self.folder = runner, job, folder
        self.tools, self.temp, self.workspace = folder / "tools", folder / "temp", folder / "workspace"
        for made in (self.tools / "without_torch", self.temp, self.workspace):
            made.mkdir(parents=True)
        for name, text in (("python", PYTHON), ("cardgen", CARDGEN)):
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        (self.tools / "without_torch" / "sitecustomize.py").write_text(WITHOUT_TORCH)

    def steps(self, steps, contexts, path=None):
        """Play steps in order; after a failure only those that say always()."""
        contexts, well = {**contexts, "runner": {"temp": str(self.temp)}, "steps": {}}, True
        for step in steps:
            condition = str(step.get("if", "true"))
            if not (well or "always()" in condition) or not evaluate(condition, contexts):
                continue
            well = self.step(step, contexts, path) and well
        self.contexts = contexts
        return well

    def step(self, step, contexts, path):
        env = {name: filled(value, contexts) for name, value in step.get("env", {}).items()}
        if "run" in step:
            return self.bash(step, contexts, env, path)
        given = {name: filled(value, contexts) for name, value in step.get("with", {}).items()}
        name = step["uses"].partition("@")[0]
        if step["uses"] in ("./", self.runner.action):
            return self.composite(given, contexts)
        FOREIGN[name](self, given)
        return True

    def composite(self, given, contexts):
        """Our action, with its own inputs and nothing of the caller's but `github`."""
        action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
        unknown = given.keys() - action["inputs"].keys()
        assert not unknown, f"no such inputs: {unknown}"
        defaults = {name: filled(one.get("default", ""), contexts) for name, one in action["inputs"].items()}
        inner = {"github": contexts["github"], "inputs": {**defaults, **given}}
        well = self.steps(action["runs"]["steps"], inner, ROOT)
        for name, output in action["outputs"].items():
            self.runner.outputs[name] = filled(output["value"], self.contexts)
        return well

    def bash(self, step, contexts, env, path):
        assert "${{" not in step["run"], "values reach a shell by its environment only"
        script, output = self.temp / "step.sh", self.temp / "output"
        script.write_text(step["run"])
        output.write_text("")
        found = subprocess.run(
            [*BASH, str(script)],
            cwd=self.workspace,
            env={**self.runner.environ, **self.environ(output, path), **env},
            capture_output=True,
            text=True,
            check=False,
        )
        said = found.stdout + found.stderr
        self.runner.ran.append(Ran(self.name, step.get("name", ""), found.returncode, step["run"], said, env))
        pairs = [line.split("=", 1) for line in output.read_text().splitlines()]
        contexts["steps"][step.get("id", "")] = {"outputs": dict(pairs)}
        return found.returncode == 0

    def environ(self, output, path):
        return {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "HOME": str(self.temp),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_ACTION_PATH": str(path or self.workspace),
            "RUNNER_TEMP": str(self.temp),
            "RUNNER_TOOLS": str(self.tools),
            "RUNNER_PYTHON": sys.executable,
            "RUNNER_TESTS": str(TESTS),
            "PYTHONPATH": f"{ROOT}:{TESTS}",
            "PYTHONUTF8": "1",
            "OMP_NUM_THREADS": "1",
        }


def checkout(machine, given):
    """A shallow clone without credentials."""
    assert given == {"persist-credentials": "false"}
    command = ["git", "clone", "--quiet", "--depth", "1", machine.runner.bare.as_uri(), str(machine.workspace)]
    subprocess.run(command, check=True, capture_output=True)


def setup_python(machine, given):
    assert given == {"python-version": "3.12"}


def cached(machine):
    return machine.runner.folder / "cache"


def restore(machine, given):
    """The exact key, or else the newest one that begins as wanted."""
    folders = sorted(cached(machine).glob("*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    found = [one for one in folders if one.name == given["key"] or one.name.startswith(given["restore-keys"])]
    if found:
        shutil.copytree(found[0], machine.workspace, dirs_exist_ok=True)


def save(machine, given):
    """A key is written once; missing files are no failure."""
    to = cached(machine) / given["key"]
    assert not to.exists(), f"{given['key']} is there already"
    for found in (path for pattern in given["path"].splitlines() for path in machine.workspace.glob(pattern)):
        shutil.copytree(found, to / found.relative_to(machine.workspace))


def upload(machine, given):
    """Everything below the path, without hidden files."""
    assert (given["include-hidden-files"], given["if-no-files-found"]) == ("false", "error")
    source, to = machine.workspace / given["path"], machine.runner.folder / "artefacts" / given["name"]
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(source, to, ignore=lambda _, names: [name for name in names if fnmatch(name, ".*")])


def download(machine, given):
    shutil.copytree(machine.runner.folder / "artefacts" / given["name"], given["path"], dirs_exist_ok=True)


FOREIGN = {
    "actions/checkout": checkout,
    "actions/setup-python": setup_python,
    "actions/cache/restore": restore,
    "actions/cache/save": save,
    "actions/upload-artifact": upload,
    "actions/download-artifact": download,
}
