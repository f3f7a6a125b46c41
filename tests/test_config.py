"""Settings: cardgen.yaml, flags in their place, and one clear line for what does not fit."""

import re
from pathlib import Path

import pytest

from cardgen.config import RunConfig, load_config
from cardgen.errors import CardgenError
from cardgen.thresholds import Thresholds

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(text, here, **flags):
    """The message that a cardgen.yaml is refused with: always a single line."""
    (here / "cardgen.yaml").write_text(text)
    with pytest.raises(CardgenError) as caught:
        load_config(None, flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_file_and_flags_the_defaults_stand(here):
    assert load_config(None, {}) == RunConfig()


def test_the_file_in_the_working_folder_is_read_and_flags_go_before_it(here):
    (here / "cardgen.yaml").write_text(
        "seed: 3\nbudget: full\nmethods: rise, grad_cam\nmetrics: [deletion]\nforce: true\n"
    )
    found = load_config(None, {"seed": 4, "budget": None, "force": None, "methods": None})
    assert (found.seed, found.budget, found.force) == (4, "full", True)
    assert (found.methods, found.metrics) == (("rise", "grad_cam"), ("deletion",))


def test_a_file_named_is_read_instead_and_must_be_there(here):
    (here / "cardgen.yaml").write_text("seed: 3\n")
    (here / "other.yaml").write_text("seed: 5\n")
    assert load_config(Path("other.yaml"), {}).seed == 5
    with pytest.raises(CardgenError) as caught:
        load_config(Path("missing.yaml"), {})
    assert str(caught.value) == (
        "missing.yaml: no such file; expected a YAML file of run settings; leave --config out to use defaults"
    )


def test_an_empty_file_says_nothing(here):
    (here / "cardgen.yaml").write_text("# nothing yet\n")
    assert load_config(None, {}) == RunConfig()


NAMES = "expected letters, digits, '.', '_' and '-', a letter or a digit first, and not 'literature', where published verdicts lie"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metods: rise", "cardgen.yaml: no setting is called 'metods'; did you mean methods"),
        ("force-unhealthy: true", "cardgen.yaml: no setting is called 'force-unhealthy'; did you mean force_unhealthy"),
        ("thresholds: {effct: 0.3}", "cardgen.yaml: no setting is called 'effct'; did you mean effect?"),
        ("n: 1", "cardgen.yaml: n: Input should be greater than or equal to 2; got 1"),
        ("seed: -1", "cardgen.yaml: seed: Input should be greater than or equal to 0; got -1"),
        ("batch: many", "cardgen.yaml: batch: Input should be a valid integer"),
        ("budget: huge", "cardgen.yaml: budget: Input should be 'quick', 'standard' or 'full'; got 'huge'"),
        ("thresholds: {flat: 2}", "cardgen.yaml: thresholds.flat: Input should be less than or equal to 1; got 2"),
        ("thresholds: {effect: .nan}", "cardgen.yaml: thresholds.effect: Input should be a finite number; got nan"),
        ("thresholds: {effect: .inf}", "cardgen.yaml: thresholds.effect: Input should be a finite number; got inf"),
        ("name: my subject", f"cardgen.yaml: name: {NAMES}; got 'my subject'"),
        ("name: literature", f"cardgen.yaml: name: {NAMES}; got 'literature'"),
        ("methods: []", "cardgen.yaml: methods: Tuple should have at least 1 item"),
        ("methods: ','", "cardgen.yaml: methods: Tuple should have at least 1 item"),
        ("methods:", "cardgen.yaml: methods: Input should be a valid tuple; got None"),
        ("- rise", "cardgen.yaml: expected `key: value` lines, got list; see docs/configuration.md"),
        ("just words", "cardgen.yaml: expected `key: value` lines, got str; see docs/configuration.md"),
        ("seed: [1\nn: 2", "cardgen.yaml: not readable: "),
        ("siblings: {twin: x.pt}", "cardgen.yaml: siblings: sibling 'twin'; expected seed-1 or another number"),
        ("siblings: [seed-1]", "cardgen.yaml: siblings: Input should be a valid dictionary; got ['seed-1']"),
        ("siblings: {scene: {model: y, modl: x}}", "cardgen.yaml: no setting is called 'modl'; did you mean model?"),
        ("train_budget: 0", "cardgen.yaml: train_budget: Input should be greater than 0; got 0"),
        ("3: x", "cardgen.yaml: no setting is called '3'; known: "),
    ],
)
def test_what_does_not_fit_is_refused_by_name(here, text, message):
    assert refused(text, here).startswith(message)


def test_bytes_that_are_no_text_are_refused(here):
    (here / "cardgen.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(CardgenError, match=r"cardgen\.yaml: not readable: .*utf-8.*expected YAML in UTF-8"):
        load_config(None, {})


def test_a_flag_that_does_not_fit_names_no_file(here):
    with pytest.raises(CardgenError) as caught:
        load_config(None, {"n": 0})
    assert str(caught.value) == "n: Input should be greater than or equal to 2; got 0"


def test_a_class_number_may_be_written_as_a_number(here):
    (here / "cardgen.yaml").write_text("target: 3\nlayer: 12\n")
    found = load_config(None, {})
    assert (found.target, found.layer) == ("3", "12")


def rows(heading):
    """Settings and defaults in one of the tables of docs/configuration.md."""
    section = DOCS.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, flags=re.MULTILINE))


def shown(value):
    if isinstance(value, tuple):
        return f"`{', '.join(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Path):
        return f"`{value}`"
    return "–" if value is None else f"`{value}`"


def test_the_documentation_names_every_setting_with_its_default():
    defaults = {name: field.default for name, field in RunConfig.model_fields.items() if name != "thresholds"}
    assert rows("Settings") == {name: shown(value) for name, value in defaults.items()}


def test_the_documentation_names_every_threshold_with_its_default():
    assert rows("Thresholds") == {name: shown(field.default) for name, field in Thresholds.model_fields.items()}


def test_the_documentation_s_example_is_valid(here):
    example = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len(example) == 1
    (here / "cardgen.yaml").write_text(example[0])
    assert load_config(None, {}) != RunConfig()
