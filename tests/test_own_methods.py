"""Methods in the user's own files: measured like others, known by their file, and gone from the registry afterwards."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import small_runs
from click.testing import CliRunner
from small_runs import files, made_metric, only

from cardgen import calibrating, cli, session
from cardgen.config import load_config
from cardgen.errors import CardgenError
from cardgen.facts import load_facts
from cardgen.methods import METHODS
from cardgen.own_methods import EXPECTED, own_methods

CODE = '''
from cardgen.methods import method
from cardgen.records import Source
from helpers_beside_it import FACTOR

@method(key="mine", title="Mine", source=Source(paper="I 2026", url="https://example.org"), access="outputs")
def mine(model, inputs, targets, context, *, power=1):
    """The image itself, times a factor."""
    return FACTOR * inputs**power
'''


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The user's file, in a folder that is not the working folder, and a tiny subject for every run."""
    only(monkeypatch, ("vanilla_gradients", "input_x_gradient", "noise"), [made_metric("told"), made_metric("other")])
    monkeypatch.setattr(session, "load_subject", lambda config: small_runs.loaded(seed=config.seed, cut=config.n))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "helpers_beside_it", raising=False)
    place = tmp_path / "my code" / "methods_of_mine.py"
    place.parent.mkdir()
    place.write_text(CODE)
    (place.parent / "helpers_beside_it.py").write_text("FACTOR = 3\n")
    return place


def cardgen(*arguments):
    return CliRunner().invoke(cli.main, list(map(str, arguments)), prog_name="cardgen")


def ran(*arguments):
    """The line that says what a run measured."""
    result = cardgen("run", *arguments)
    assert result.exit_code == 0, result.output
    return next(line for line in result.stdout.splitlines() if "up to date" in line)


def record(method="mine", metric="told"):
    return json.loads(Path(f"evaluations/tiny-images/{method}/{metric}.json").read_text())


def refused(file, code=None):
    if code is not None:
        file.write_text(code)
    result = cardgen("run", "--method", file)
    assert result.exit_code == 2, result.output
    assert not Path("evaluations").exists()
    return result.stderr.strip().replace(str(file), "FILE").removeprefix("error: ")


def test_it_is_measured_like_any_other_and_a_second_run_writes_nothing(file):
    assert ran("--method", file) == "2 evaluations measured, 0 up to date."
    found = record()
    assert (found["verdict"], found["parameters"]) == ("descriptive", {"power": 1})
    assert found["estimate"] == pytest.approx(4.5, abs=0.1)  # of images in [0, 1], three channels and a factor of three
    assert Path("cards/mine/README.md").read_text().count("Mine")
    assert Path("cards/mine/example.png").is_file()
    assert not Path("evaluations/tiny-images/vanilla_gradients").exists()
    before = files(Path("evaluations")), files(Path("cards"))
    assert ran("--method", file) == "0 evaluations measured, 2 up to date."
    assert (files(Path("evaluations")), files(Path("cards"))) == before
    assert "mine" not in METHODS


def test_an_edited_file_is_measured_again(file):
    ran("--method", file)
    first = record()
    file.write_text(CODE.replace("FACTOR *", "2 * F *").replace("import FACTOR", "import FACTOR as F"))
    assert ran("--method", file) == "2 evaluations measured, 0 up to date."
    assert record()["estimate"] == pytest.approx(2 * first["estimate"], rel=1e-3)
    assert record()["key_parts"]["code"] != first["key_parts"]["code"]
    file.write_text(CODE)
    assert ran("--method", file) == "2 evaluations measured, 0 up to date."
    assert record()["key"] == first["key"]


def test_an_edited_file_counts_even_at_a_smaller_budget(file):
    ran("--method", file, "--budget", "standard", "--n", 20)
    assert ran("--method", file, "--n", 10) == "0 evaluations measured, 0 up to date."
    file.write_text(f"{CODE}# edited\n")
    assert ran("--method", file, "--n", 10) == "2 evaluations measured, 0 up to date."


def test_others_are_measured_beside_it_if_they_are_named(file):
    assert ran("--method", file, "--methods", "vanilla_gradients") == "4 evaluations measured, 0 up to date."
    assert "code" not in record("vanilla_gradients")["key_parts"]
    Path("cardgen.yaml").write_text(f"method: {file}\nmethods: input_x_gradient\n")
    assert ran() == "2 evaluations measured, 2 up to date."


def test_several_files_and_several_methods_in_one(file):
    file.write_text(CODE + CODE.replace("mine", "another"))
    second = file.with_name("second.py")
    second.write_text(CODE.replace("mine", "third"))
    assert ran("--method", file, "--method", second) == "6 evaluations measured, 0 up to date."


def test_plan_knows_it_and_writes_nothing(file):
    result = cardgen("plan", "--method", file)
    assert "mine: 2 evaluations" in result.stdout
    assert not Path("evaluations").exists()


def test_calibrate_takes_it(file, monkeypatch):
    asked = []
    monkeypatch.setattr(
        calibrating, "_calibrate", lambda config, *_: asked.append((config.methods, list(METHODS))) or 0
    )
    assert cardgen("calibrate", "--method", file).exit_code == 0
    assert asked[0][0] == (*cli.CHEAP, "mine")
    assert "mine" in asked[0][1]


def test_cards_are_built_later_without_the_file_or_torch(file):
    ran("--method", file)
    Path("cards/mine/README.md").unlink()
    file.unlink()
    code = "import sys; sys.modules['torch'] = None; from cardgen.cli import main; main(['build'])"
    root = Path(cli.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path("cards/mine/README.md").is_file()


def facts(file, **changes):
    """Facts beside the file: those of another method, under its key."""
    written = load_facts("rise").model_dump(mode="json") | {"method": "mine"} | changes
    file.with_name("mine.yaml").write_text(json.dumps(written))


def test_facts_beside_the_file_stand_on_the_card(file):
    assert ran("--method", file) == "2 evaluations measured, 0 up to date."
    facts(file, summary="It shows the image.")
    assert ran("--method", file) == "0 evaluations measured, 2 up to date."
    assert "It shows the image." in Path("cards/mine/README.md").read_text()
    assert cardgen("verify").exit_code == 0
    file.with_name("mine.yaml").unlink()
    ran("--method", file)
    assert "It shows the image." not in Path("cards/mine/README.md").read_text()


def test_facts_that_are_not_in_order(file):
    facts(file, method="yours")
    assert refused(file) == (
        f"{file.with_name('mine.yaml')}: method: expected 'mine' as in the file's name, got 'yours'; rename one of the two"
    )


def test_a_method_that_writes_into_its_inputs_does_not_change_them_for_others(file):
    second = file.with_name("second.py")
    second.write_text(CODE.replace("mine", "third"))
    ran("--method", second)
    apart = record("third")
    file.write_text(CODE.replace("return FACTOR * inputs**power", "return inputs.mul_(0)"))
    ran("--method", file, "--method", second, "--force")
    assert record()["estimate"] == 0
    assert record("third")["estimate"] == apart["estimate"]


@pytest.mark.parametrize("wrong", ["None", "inputs.numpy()", "[inputs]"])
def test_a_method_that_returns_no_tensor(file, wrong):
    file.write_text(CODE.replace("return FACTOR * inputs**power", f"return {wrong}"))
    assert cardgen("run", "--method", file).exit_code == 1
    assert re.match(r"mine returned (NoneType|ndarray|list); expected a tensor of shape \(", record()["reason"])


class TestRefusals:
    def test_no_such_file(self, file):
        file.unlink()
        assert refused(file) == "FILE: no such file; expected Python code; mend the path"

    def test_no_python_file(self, file):
        assert (
            refused(file.with_suffix(".txt"), "text") == f"FILE: not a Python file; expected {EXPECTED}; mend the path"
        )

    def test_a_file_that_raises(self, file):
        assert refused(file, f"{CODE}\n1 / 0\n") == (
            f"FILE could not be imported: ZeroDivisionError: division by zero (line 11 of methods_of_mine.py); expected {EXPECTED}; "
            "mend the code or the name"
        )
        assert "mine" not in METHODS

    def test_a_file_that_exits(self, file):
        assert refused(file, f"{CODE}\nimport sys\nsys.exit()\n") == (
            f"FILE could not be imported: SystemExit (line 12 of methods_of_mine.py); expected {EXPECTED}; mend the code or the name"
        )

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (
                "targets",
                "too many positional arguments; expected a function (model, inputs, targets, context, *, hyperp",
            ),
            ("targets, context, *, k", "k has no default; expected a number, a text, True, False or None"),
            ("targets, context, *, k=[1]", "k is [1] by default; expected a number, a text, True, False or None"),
            ("targets, context, k=1", "k can be given by place; expected keyword-only hyperparameters"),
        ],
    )
    def test_a_function_that_is_no_method(self, file, wrong, said):
        code = CODE.replace("targets, context, *, power=1", wrong)
        assert refused(file, code).startswith(f"FILE: method 'mine': {said}")

    def test_no_method(self, file):
        assert refused(file, "x = 3\n") == (
            f"FILE registers no method; expected {EXPECTED}; put the decorator on your function"
        )

    def test_a_key_that_is_taken(self, file):
        assert refused(file, CODE.replace("mine", "noise")) == (
            "FILE: cardgen.methods: two plug-ins are called 'noise'; expected unique keys; rename one of them"
        )

    @pytest.mark.parametrize("key", ["controls", "all", "two words", "../up"])
    def test_a_key_that_names_no_folder(self, file, key):
        assert refused(file, CODE.replace('"mine"', f'"{key}"')).startswith(
            f"FILE: a method is called {key!r}; expected"
        )

    def test_a_control(self, file):
        assert refused(file, CODE.replace("access=", 'control="noise", access=')) == (
            "FILE: 'mine' is a control; expected a method that explains; leave control= out"
        )

    @pytest.mark.usefixtures("as_users_run")
    def test_a_field_of_another_kind(self, file):
        assert refused(file, CODE.replace('"outputs"', '"everything"')) == (
            "FILE: method 'mine': access: Input should be 'none', 'outputs', 'gradients', 'features' or 'internals'; got 'everything'"
        )


def test_the_registry_is_as_it_was_even_after_an_error(file):
    before = dict(METHODS)

    def interrupted():
        with own_methods(load_config(None, {"method": (file,)})) as config:
            assert config.methods == ("mine",)
            assert len(METHODS["mine"].code) == 12
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        interrupted()
    assert dict(METHODS) == before
    with pytest.raises(CardgenError, match="no method is called 'mine'"):
        METHODS["mine"]
