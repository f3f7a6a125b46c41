"""What a person wrote of a method from its papers, and what no measurement can say: one YAML file a method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from cardgen.errors import CardgenError
from cardgen.records import Model
from cardgen.yamlfile import load_yaml

FOLDER = Path(__file__).resolve().parent
Text = Annotated[str, Field(min_length=1)]


class Link(Model):
    """A title with its address."""

    title: Text
    url: Text = Field(pattern=r"^https?://")


class Hyperparameter(Model):
    """One setting: its usual value, what it does, and how to choose it."""

    name: Text
    default: Text
    meaning: Text
    advice: Text


class SemanticDirectness(Model):
    """What a value of the map stands for, and what one must know to read it."""

    meaning: Text
    to_know: Text


class Facts(Model):
    """The written half of a card. Every part must be there; lists may be empty where a method has none."""

    method: Text
    summary: Text
    how_it_works: Text
    intended_use: Text
    developers: tuple[Text, ...] = Field(min_length=1)
    references: tuple[Link, ...] = Field(min_length=1)
    implementations: tuple[Link, ...]
    aliases: tuple[Text, ...]
    determinism: Text
    hyperparameters: tuple[Hyperparameter, ...]
    model_agnosticism: Text
    computational_efficiency: Text
    semantic_directness: SemanticDirectness
    pitfalls: tuple[Text, ...] = Field(min_length=1)
    citation: Text


def load_facts(key: str, folder: Path = FOLDER) -> Facts | None:
    """The facts of the method `key`; None where nobody has written any.

    Raises:
        CardgenError: the file is malformed, misses a part, or speaks of another method.
    """
    path = folder / f"{key}.yaml"
    if not path.exists():
        return None
    facts = load_yaml(Facts, path)
    if facts.method != key:
        raise CardgenError(
            f"{path}: method: expected {key!r} as in the file's name, got {facts.method!r}; rename one of the two"
        )
    return facts
