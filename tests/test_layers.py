"""The publishing half works where torch is not: in a process in which importing it raises."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import small_runs
from small_runs import files, made_metric, only

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MEASURING = ("torch", "torchvision", "captum", "jaxtyping", "scipy", "skimage", "sklearn", "safetensors", "PIL")
"""What the publishing half may not import: the measuring half's packages, none of which the group `publish` installs."""
PUBLISHING = tuple(SETTINGS["tool"]["importlinter"]["contracts"][0]["source_modules"])
BLOCKED = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MEASURING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def without_torch(code, *arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )


def cardgen(*arguments, cwd=ROOT):
    return without_torch("from cardgen.cli import main\nmain(prog_name='cardgen')", *arguments, cwd=cwd)


def test_the_guard_bites():
    assert "ModuleNotFoundError: No module named 'torch'" in without_torch("import torch").stderr
    assert "No module named" in without_torch("import cardgen.study").stderr


@pytest.fixture(scope="module")
def imported():
    """What each module of the publishing half says when it is imported."""
    code = """
import importlib
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        print(name, "well")
    except Exception as error:
        print(name, f"{type(error).__name__}: {error}")
"""
    found = without_torch(code, "cardgen", "cardgen.cli", *PUBLISHING)
    assert found.returncode == 0, found.stderr
    return dict(line.split(" ", 1) for line in found.stdout.splitlines())


@pytest.mark.parametrize("module", ["cardgen", "cardgen.cli", *PUBLISHING])
def test_every_module_of_the_publishing_half_imports(imported, module):
    assert imported[module] == "well"


def test_the_package_names_its_interface_without_importing_it():
    found = without_torch("import cardgen\nprint(cardgen.__version__, dir(cardgen), 'torch' in sys.modules)")
    assert found.stdout.endswith("False\n"), found.stderr
    assert "'evaluate', 'explain', 'measure'" in found.stdout


def test_help_and_version_need_no_torch():
    for arguments in (["--help"], ["--version"], ["run", "--help"], ["build", "--help"], ["compare", "--help"]):
        found = cardgen(*arguments)
        assert (found.returncode, found.stderr) == (0, ""), found.stderr
        assert "cardgen" in found.stdout


def test_what_needs_torch_says_so_in_one_line(tmp_path):
    found = cardgen("run", "--out", tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "error: torch is not installed, and measuring needs it; run `pip install cardgen`\n"


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Records of a tiny run, and the cards that the whole of cardgen built from them."""
    from cardgen.build import build

    only(monkeypatch, ["vanilla_gradients", "noise", "edges"], [made_metric("judged", rule="vs_noise"), "sparsity"])
    small_runs.run(small_runs.loaded(), tmp_path, thresholds={"resamples": 100})
    build(tmp_path / "evaluations", tmp_path / "cards")
    return tmp_path


def test_cards_build_without_torch_to_the_same_bytes(measured):
    before = {path.relative_to(measured / "cards"): data for path, (data, _) in files(measured / "cards").items()}
    found = cardgen("build", "--cards", "again", cwd=measured)
    assert (found.returncode, found.stderr) == (0, "")
    after = {path.relative_to(measured / "again"): data for path, (data, _) in files(measured / "again").items()}
    assert len(after) == 3  # the overview, a card, its picture
    assert after == before
    assert cardgen("build", "--check", cwd=measured).returncode == 0


def test_compare_agree_and_schema_need_no_torch(measured):
    found = cardgen("compare", "evaluations", "evaluations", cwd=measured)
    assert (found.stdout, found.stderr) == ("4 records on both sides; 0 verdicts differ.\n", "")
    found = cardgen("agree", "--format", "csv", cwd=measured)
    assert (found.returncode, found.stderr, found.stdout.count("\n")) == (0, "", 1), found.stderr
    assert cardgen("schema").stdout == (ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8")


def test_the_import_contracts_hold():
    found = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert found.returncode == 0, found.stdout
