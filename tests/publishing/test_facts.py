"""Facts: complete, or a message that names file and field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cardgen.errors import CardgenError
from cardgen.facts import FOLDER, Facts, load_facts

KEYS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_the_first_methods_have_facts() -> None:
    assert {"vanilla_gradients", "integrated_gradients", "grad_cam", "rise"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_facts_are_complete(key: str) -> None:
    facts = load_facts(key)
    assert facts is not None
    assert facts.citation.lstrip().startswith("@")
    assert facts.citation.count("{") == facts.citation.count("}")
    sentences = [facts.summary, facts.intended_use, facts.determinism, facts.model_agnosticism, *facts.pitfalls]
    assert not [text for text in sentences if not text.rstrip().endswith(".")]


def test_a_method_that_nobody_wrote_about_has_none(tmp_path: Path) -> None:
    assert load_facts("nobody", tmp_path) is None


@pytest.mark.parametrize("field", sorted(Facts.model_fields))
def test_a_missing_part_is_named(field: str, tmp_path: Path) -> None:
    fields = yaml.safe_load((FOLDER / "rise.yaml").read_text())
    del fields[field]
    path = tmp_path / "rise.yaml"
    path.write_text(yaml.safe_dump(fields))
    with pytest.raises(CardgenError) as caught:
        load_facts("rise", tmp_path)
    assert str(caught.value) == (
        f"{path}: {field}: Field required; expected what the schema Facts asks for, got nothing; mend that field"
    )


def test_a_nested_and_an_unknown_part_are_named(tmp_path: Path) -> None:
    fields = yaml.safe_load((FOLDER / "rise.yaml").read_text())
    path = tmp_path / "rise.yaml"
    path.write_text(yaml.safe_dump(fields | {"hyperparameters": [{"name": "x", "default": "y", "meaning": "z"}]}))
    with pytest.raises(CardgenError, match=r"rise\.yaml: hyperparameters\.0\.advice: Field required"):
        load_facts("rise", tmp_path)
    path.write_text(yaml.safe_dump(fields | {"sumary": "x"}))
    with pytest.raises(CardgenError, match=r"rise\.yaml: sumary: Extra inputs are not permitted"):
        load_facts("rise", tmp_path)


def test_facts_of_another_method_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lime.yaml"
    path.write_text((FOLDER / "rise.yaml").read_text())
    with pytest.raises(CardgenError) as caught:
        load_facts("lime", tmp_path)
    assert str(caught.value) == (
        f"{path}: method: expected 'lime' as in the file's name, got 'rise'; rename one of the two"
    )


def test_no_yaml_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rise.yaml").write_text("a: [")
    with pytest.raises(CardgenError, match=r"rise\.yaml: not a readable file: while parsing a flow node"):
        load_facts("rise", tmp_path)
