"""The command line: one clear line for what is not as it should be, and exit statuses that scripts can trust."""

import io
import json
import os
from pathlib import Path

import pytest
import small_runs
from click.testing import CliRunner
from publishing_fixtures import calibration
from rich.console import Console
from small_runs import broken, files, made_metric, mean_of_map, only

from cardgen import cli, display, session
from cardgen.records import Record, dumps, save

ROOT = Path(__file__).parent.parent
FEW = ("vanilla_gradients", "noise")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(monkeypatch):
    """`cardgen run` explains a tiny subject."""
    only(monkeypatch, FEW, [made_metric("told"), made_metric("other")])
    monkeypatch.setattr(session, "load_subject", lambda config: small_runs.loaded(seed=config.seed, cut=config.n))


def cardgen(*arguments):
    return CliRunner().invoke(cli.main, list(map(str, arguments)), prog_name="cardgen")


def refused(*arguments):
    """The one line that a command is refused with, at exit status 2."""
    result = cardgen(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    if lines[0].startswith("Usage:"):  # click's own: usage, hint, and the line that matters
        lines = lines[-1:]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.usefixtures("tiny")
def test_a_run_says_what_it_does_in_plain_lines_without_a_terminal(here):
    result = cardgen("run", "--methods", "vanilla_gradients", "--out", "out")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "tiny-images: 24 samples; quick budget; cpu, batches of 16"
    assert lines[1] == "2 steps, about 96 samples to forward"
    assert lines[2:4] == [
        "⚪ vanilla_gradients · other: Mean of the map: described, not judged.",
        "⚪ vanilla_gradients · told: Mean of the map: described, not judged.",
    ]
    assert lines[4] == "2 evaluations measured, 0 up to date."
    assert lines[-1] == f"Cards: {Path('out/cards/README.md')}"
    assert Path("out/cards/vanilla_gradients/README.md").is_file()
    assert cardgen("run", "--methods", "vanilla_gradients", "--out", "out").stdout.splitlines()[1] == (
        "0 evaluations measured, 2 up to date."
    )


@pytest.mark.usefixtures("tiny")
def test_settings_come_from_cardgen_yaml_and_flags_go_before_it(here):
    Path("cardgen.yaml").write_text("methods: vanilla_gradients\nmetrics: other\nn: 5\nseed: 2\nout: there\n")
    assert cardgen("run", "--seed", 3).exit_code == 0
    found = json.loads(Path("there/evaluations/tiny-images/vanilla_gradients/other.json").read_text())
    assert (found["n"], found["key_parts"]["seed"]) == (5, 3)
    assert not Path("there/evaluations/tiny-images/vanilla_gradients/told.json").exists()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("how", ["flag", "file"])
def test_a_dry_run_writes_nothing(here, how):
    Path("cardgen.yaml").write_text("dry_run: true\n" if how == "file" else "")
    result = cardgen("run", "--methods", "vanilla_gradients", *(["--dry-run"] if how == "flag" else []))
    assert result.exit_code == 0
    assert "vanilla_gradients: 2 evaluations, about 48 samples to forward" in result.stdout
    assert "Nothing was written." in result.stdout
    assert [path.name for path in here.iterdir()] == ["cardgen.yaml"]


def test_a_failed_evaluation_ends_in_status_1(here, monkeypatch):
    only(monkeypatch, FEW, [made_metric("broken", broken)])
    monkeypatch.setattr(session, "load_subject", lambda config: small_runs.loaded())
    result = cardgen("run", "--methods", "vanilla_gradients")
    assert result.exit_code == 1
    assert (
        result.stdout.count("ValueError in broken: maps [n, h, w] do not fit [/bold]") == 2
    )  # at once, and at the end


def test_ctrl_c_ends_in_status_130_and_says_how_to_go_on(here, monkeypatch):
    def interrupted(study):
        raise KeyboardInterrupt

    only(monkeypatch, FEW, [made_metric("a"), made_metric("b", interrupted)])
    monkeypatch.setattr(session, "load_subject", lambda config: small_runs.loaded())
    result = cardgen("run", "--methods", "vanilla_gradients")
    assert result.exit_code == 130
    assert result.stderr.strip() == (
        "Stopped. Every finished evaluation is stored; the same command goes on from there."
    )
    assert Path("evaluations/tiny-images/vanilla_gradients/a.json").is_file()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--methods", "vanilla_gradient"],
            "error: no method is called 'vanilla_gradient'; did you mean vanilla_gradients?",
        ),
        (["--metrics", "tod"], "error: no metric is called 'tod'; did you mean told?"),
        (["--n", "1"], "error: n: Input should be greater than or equal to 2; got 1"),
        (["--n", "25"], "error: n is 25; expected at most 24, the samples of tiny-images; choose fewer"),
        (["--n", "few"], "Error: Invalid value for '--n': 'few' is not a valid integer."),
        (
            ["--budget", "huge"],
            "Error: Invalid value for '--budget': 'huge' is not one of 'quick', 'standard', 'full'.",
        ),
        (["--metods", "x"], "Error: No such option: '--metods'"),
        (["--out", "file"], "Error: Invalid value for '--out': Directory 'file' is a file."),
        (["--out", "file/below"], "error: file/below/evaluations/tiny-images/"),
        (["--config", "missing.yaml"], "error: missing.yaml: no such file; expected a YAML file of run settings"),
        (["--config", "bad.yaml"], "error: bad.yaml: not readable: "),
        (["--config", "typo.yaml"], "error: typo.yaml: no setting is called 'metods'; did you mean methods"),
        (["--config", "folder"], "Error: Invalid value for '--config': File 'folder' is a directory."),
    ],
)
def test_what_does_not_fit_is_one_clear_line_and_status_2(here, arguments, message):
    Path("file").write_text("")
    Path("folder").mkdir()
    Path("bad.yaml").write_text("seed: [1\nn: {")
    Path("typo.yaml").write_text("metods: rise")
    before = files(here)
    assert refused("run", *arguments).replace("No such option '", "No such option: '").startswith(message)
    assert files(here) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "digit-cn"], "error: no model is called 'digit-cn'; did you mean digit-cnn"),
        (["--data", "digits"], "error: no data set is called 'digits'; did you mean digits-on-scenes?"),
        (["--device", "gpu"], "error: device 'gpu' cannot be used: "),
        (["--device", "cuda:99"], "error: device 'cuda:99' cannot be used: "),
    ],
)
@pytest.mark.usefixtures("here")
def test_an_unknown_subject_or_device_is_one_clear_line(arguments, message):
    assert refused("run", *arguments).startswith(message)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.usefixtures("tiny")
def test_a_folder_without_permission_is_one_clear_line(here):
    Path("out").mkdir(mode=0o500)
    assert "cannot be written: Permission denied" in refused("run", "--methods", "vanilla_gradients", "--out", "out")


def test_a_folder_that_refuses_writes_is_one_clear_line_for_root_too(here):
    assert "cannot be written: " in refused("build", "--evaluations", ROOT / "evaluations", "--cards", "/proc/cards")


@pytest.mark.usefixtures("here")
def test_building_from_nothing_is_one_clear_line():
    assert (
        refused("build") == "error: evaluations: no such folder; expected a folder of records; run `cardgen run` first"
    )


@pytest.mark.usefixtures("tiny")
def test_check_fails_until_the_cards_are_built_and_writes_nothing(here):
    cardgen("run", "--methods", "vanilla_gradients")
    assert cardgen("build", "--check").exit_code == 0
    Path("cards/README.md").unlink()
    before = files(here)
    result = cardgen("build", "--check")
    assert (result.exit_code, result.stdout) == (1, "would change: README.md\n")
    assert files(here) == before
    assert cardgen("build").exit_code == 0
    assert cardgen("build", "--check").exit_code == 0


@pytest.mark.usefixtures("tiny")
def test_compare_names_the_verdicts_that_differ(here):
    for out in ("a", "b"):
        cardgen("run", "--methods", "vanilla_gradients", "--out", out)
    said = cardgen("compare", "a/evaluations", "b/evaluations").stdout
    assert said == "2 records on both sides; 0 verdicts differ.\n"
    path = Path("b/evaluations/tiny-images/vanilla_gradients/told.json")
    record = Record.model_validate_json(path.read_text())
    save(record.model_copy(update={"verdict": "skipped", "reason": "no time"}), path)
    Path("a/evaluations/tiny-images/vanilla_gradients/other.json").unlink()
    assert cardgen("compare", "a/evaluations", "b/evaluations").stdout.splitlines() == [
        "tiny-images/vanilla_gradients/other: none → descriptive",
        "tiny-images/vanilla_gradients/told: descriptive → skipped",
        "1 records on both sides; 2 verdicts differ.",
    ]


@pytest.mark.usefixtures("here")
def test_comparing_with_a_folder_that_is_not_there_is_refused():
    assert refused("compare", "no", "where") == "Error: Invalid value for 'BEFORE': Directory 'no' does not exist."


@pytest.mark.parametrize("what", ["record", "calibration"])
def test_the_schema_in_the_documentation_is_what_the_command_prints(what):
    name = f"docs/{what}.schema.json"
    assert (ROOT / name).read_text(encoding="utf-8") == cardgen("schema", what).stdout, (
        f"{name} is stale; run `cardgen schema {what} > {name}`"
    )


def test_a_calibration_is_valid_by_its_schema():
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(cardgen("schema", "calibration").stdout))
    found = json.loads(dumps(calibration("deletion")))
    validator.validate(found)
    assert not validator.is_valid({**found, "noise": {"noise": 0.004}})


@pytest.mark.usefixtures("here", "tiny")
def test_records_are_valid_by_the_schema(monkeypatch):
    from jsonschema import Draft202012Validator

    schema = json.loads((ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    only(monkeypatch, FEW, [made_metric("a_broken", broken), made_metric("judged", rule="vs_noise"), "deletion"])
    cardgen("run", "--methods", "vanilla_gradients")
    found = [json.loads(path.read_text()) for path in Path("evaluations/tiny-images/vanilla_gradients").glob("*.json")]
    records = {record["metric"]: record for record in found if "metric" in record}
    assert sorted(records) == ["a_broken", "deletion", "judged"]
    assert records["judged"]["controls"]
    assert records["deletion"]["curve"]
    for record in records.values():
        Draft202012Validator(schema).validate(record)
    assert not Draft202012Validator(schema).is_valid({**records["judged"], "verdict": "fine"})


def test_the_shipped_catalogue_is_what_the_decorators_say():
    assert cardgen("catalogue", "--check").exit_code == 0, "cardgen/catalogue.json is stale; run `cardgen catalogue`"


def test_a_stale_catalogue_is_refused_and_rewritten(tmp_path, monkeypatch):
    from cardgen import catalogue

    monkeypatch.setattr(catalogue, "FILE", tmp_path / "catalogue.json")
    catalogue.FILE.write_text("{}")
    assert refused("catalogue", "--check") == (
        "error: catalogue.json is stale; expected what the decorators say; run `cardgen catalogue`"
    )
    assert catalogue.FILE.read_text() == "{}"
    assert cardgen("catalogue").exit_code == 0
    assert cardgen("catalogue", "--check").exit_code == 0
    assert catalogue.read()["methods"]["rise"]["title"] == "RISE"


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("methods", "rise "),
        ("metrics", "pointing_game "),
        (
            "subjects",
            "digit-cnn on digits-on-scenes: 10 classes; a small convolutional network that reads the handwritten digit",
        ),
        (
            "subjects",
            "marker-cnn on markers-on-textures: 5 classes; a small convolutional network, set by hand, that names the marker",
        ),
    ],
)
def test_lists_name_all_there_is(what, line):
    result = cardgen("list", what)
    assert result.exit_code == 0
    assert [found for found in result.stdout.splitlines() if found.startswith(line)]


@pytest.mark.usefixtures("here", "tiny")
def test_an_encoding_without_signs_does_not_stop_a_run():
    result = CliRunner(charset="ascii").invoke(cli.main, ["run", "--methods", "vanilla_gradients"])
    assert result.exit_code == 0, result.output
    assert "? vanilla_gradients ? told: " in result.stdout


class Terminal(io.StringIO):
    """A file that is a terminal."""

    def isatty(self):
        return True


def watched(file, tmp_path, **console):
    of = small_runs.loaded()
    with display.watching(Console(file=file, width=120, **console)) as progress:
        small_runs.run(of, tmp_path, progress)
    return file.getvalue()


def test_on_a_terminal_there_are_bars_for_the_run_and_the_job_with_the_time_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    only(monkeypatch, FEW, [made_metric("a_broken", broken), made_metric("told")])
    said = watched(Terminal(), tmp_path, force_terminal=True, color_system=None)
    assert "❌ vanilla_gradients · a_broken: ValueError in broken: maps [n, h, w] do not fit [/bold]" in said
    assert "2 steps" in said
    assert "vanilla_gradients · told" in said
    assert "100%" in said
    assert "-:--:--" in said or "0:00:00" in said


def test_colours_forced_upon_a_file_make_no_terminal_of_it(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("told")])
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = watched(io.StringIO(), tmp_path)
    assert said == (
        "1 step, about 48 samples to forward\n⚪ vanilla_gradients · told: Mean of the map: described, not judged.\n"
    )


def test_a_long_run_says_now_and_then_how_much_is_left(tmp_path, monkeypatch):
    clock = [0.0]

    def slow(study):
        clock[0] += 20
        return mean_of_map(study)

    only(monkeypatch, FEW, [made_metric(key, slow) for key in "abc"])
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    lines = watched(io.StringIO(), tmp_path).splitlines()
    assert [line for line in lines if line.startswith("…")] == [
        "… 33% done, about 40 s left",
        "… 67% done, about 20 s left",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(0.0, "0 s"), (89.0, "89 s"), (90.0, "2 min"), (3600.0, "60 min")])
def test_durations_are_said_in_seconds_or_minutes(seconds, words):
    assert display.duration(seconds) == words
