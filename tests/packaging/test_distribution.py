"""Wheel and sdist, installed away from the checkout: they measure and build cards, and the torch-free half stands alone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "dist", "build", "out")
HOME = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
pytestmark = pytest.mark.slow


def run(*command, cwd, status=0):
    found = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**HOME, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
    )
    assert found.returncode == status, found.stdout + found.stderr
    return found


def pip(environment, *arguments):
    """Install into an environment that has no pip of its own."""
    python = environment / "bin" / "python"
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    run(sys.executable, "-m", "pip", "--python", python, "install", *quiet, *arguments, cwd=environment)


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The sdist of a copy of the checkout, and the wheel that is built from the sdist alone."""
    folder = tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, folder / "checkout", ignore=LEFT_BEHIND)
    shutil.copy(ROOT / ".gitignore", folder / "checkout")
    run(sys.executable, "-m", "build", "--outdir", folder, folder / "checkout", cwd=folder)
    shutil.rmtree(folder / "checkout")
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def whole(wheel, tmp_path_factory):
    """An environment with the wheel and, borrowed from this one, everything that it depends on."""
    folder = tmp_path_factory.mktemp("whole")
    venv.create(folder, with_pip=False)
    pip(folder, "--no-deps", wheel)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.fixture(scope="module")
def publishing(wheel, tmp_path_factory):
    """An environment with the wheel and the dependency group `publish`, and nothing else."""
    folder = tmp_path_factory.mktemp("publishing")
    venv.create(folder, with_pip=False)
    pip(folder, "--no-deps", wheel)
    pip(folder, *SETTINGS["dependency-groups"]["publish"])
    return folder


@pytest.fixture(scope="module")
def measured(whole, tmp_path_factory):
    """What the installed `cardgen run` leaves of the embedded subject and one cheap metric."""
    folder = tmp_path_factory.mktemp("measured")
    command = ("run", "--methods", "vanilla_gradients", "--metrics", "sparsity", "--n", "8", "--batch", "32")
    said = run(whole / "bin" / "cardgen", *command, cwd=folder).stdout
    assert "1 evaluation measured, 0 up to date." in said
    return folder


def cards(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_wheel_holds_all_that_cards_and_the_embedded_subjects_need(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    for folder, pattern, inside in (
        ("templates", "*", "cardgen/_shipped/templates"),
        ("templates/init", "*", "cardgen/_shipped/templates/init"),
        ("evaluations/literature", "*", "cardgen/_shipped/evaluations/literature"),
        ("cardgen/facts", "*.yaml", "cardgen/facts"),
        ("cardgen/subjects/weights", "*", "cardgen/subjects/weights"),
    ):
        wanted = {f"{inside}/{path.name}" for path in (ROOT / folder).glob(pattern) if path.is_file()}
        assert wanted
        assert wanted <= names
    assert {"cardgen/catalogue.json", "cardgen/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "evaluations/", "templates/"))]
    assert not [name for name in names if ".scores" in name or name.endswith(".pyc")]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < 11_000_000


def test_the_sdist_holds_sources_tests_and_documentation(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "cardgen/cli.py", "templates/card.md.j2", "tests/conftest.py"}
    assert wanted | {"tests/packaging/test_distribution.py", "docs/record.schema.json"} <= names
    assert not [name for name in names if name.startswith((".venv", "out/", "cards/")) or "__pycache__" in name]


def test_the_installed_cardgen_is_the_wheel_s_and_not_the_checkout(whole, tmp_path):
    code = "import cardgen, cardgen.paths; print(cardgen.__file__); print(cardgen.paths.shipped('templates'))"
    for line in run(whole / "bin" / "python", "-c", code, cwd=tmp_path).stdout.splitlines():
        assert Path(line).is_relative_to(whole)


def test_the_installed_cardgen_measures_the_embedded_subject_and_builds_its_card(measured):
    record = measured / "evaluations" / "digit-cnn-digits-on-scenes" / "vanilla_gradients" / "sparsity.json"
    assert '"verdict": "descriptive"' in record.read_text(encoding="utf-8")
    card = (measured / "cards" / "vanilla_gradients" / "README.md").read_text(encoding="utf-8")
    assert "Sparsity" in card
    assert (measured / "cards" / "vanilla_gradients" / "example.png").is_file()


def test_a_second_run_of_the_installed_cardgen_changes_nothing(whole, measured):
    before = cards(measured)
    command = ("run", "--methods", "vanilla_gradients", "--metrics", "sparsity", "--n", "8", "--batch", "32")
    assert "0 evaluations measured, 1 up to date." in run(whole / "bin" / "cardgen", *command, cwd=measured).stdout
    assert cards(measured) == before


def test_the_group_publish_builds_the_same_cards_without_torch(publishing, measured, tmp_path):
    python, cardgen = publishing / "bin" / "python", publishing / "bin" / "cardgen"
    assert "No module named 'torch'" in run(python, "-c", "import torch", cwd=tmp_path, status=1).stderr
    run(cardgen, "build", "--evaluations", measured / "evaluations", "--cards", tmp_path / "cards", cwd=tmp_path)
    assert cards(tmp_path / "cards") == cards(measured / "cards")
    checked = ("build", "--check", "--evaluations", measured / "evaluations", "--cards", measured / "cards")
    run(cardgen, *checked, cwd=tmp_path)
    run(cardgen, "compare", measured / "evaluations", measured / "evaluations", cwd=tmp_path)
    assert "torch is not installed" in run(cardgen, "run", cwd=tmp_path, status=2).stderr
