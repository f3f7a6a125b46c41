"""RunConfig: what a run is asked to do, from cardgen.yaml and flags. Unknown keys are refused with the nearest name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cardgen.budgets import BudgetName
from cardgen.errors import CardgenError
from cardgen.recipes import sibling
from cardgen.registry import unknown
from cardgen.thresholds import Thresholds

FILE = "cardgen.yaml"
SLUG = r"[A-Za-z0-9][A-Za-z0-9._-]*"
TAKEN = "literature"


class SiblingModel(BaseModel):
    """A sibling of the user's: a file of weights for the model's own architecture, or a model named as by --model.

    With `weights: none` only the architecture is named, and trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str
    weights: str | None = None
    num_classes: int | None = Field(default=None, ge=2)

    @property
    def untrained(self) -> bool:
        """Whether it names an architecture only."""
        return self.weights == "none"


class RunConfig(BaseModel):
    """One run: subject, methods, metrics, and how much of each."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)
    model: str = "digit-cnn"
    weights: str | None = None
    num_classes: int | None = Field(default=None, ge=2)
    preprocess: str | None = None
    data: str = "digits-on-scenes"
    classes: Path | None = None
    ratings: Path | None = None
    siblings: dict[str, SiblingModel] | None = None
    train: str | None = None
    train_data: str | None = None
    train_budget: float | None = Field(default=None, gt=0)
    name: str | None = None
    methods: tuple[str, ...] = Field(default=("core",), min_length=1)
    method: tuple[Path, ...] | None = None
    metrics: tuple[str, ...] = Field(default=("all",), min_length=1)
    budget: BudgetName = "quick"
    target: str = "predicted"
    n: int | None = Field(default=None, ge=2)
    device: str = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    batch: int | None = Field(default=None, ge=1)
    layer: str | None = None
    seed: int = Field(default=0, ge=0)
    out: Path = Path()
    force: bool = False
    force_unhealthy: bool = False
    missing: bool = False
    dry_run: bool = False
    thresholds: Thresholds = Thresholds()

    @field_validator("siblings", mode="before")
    @classmethod
    def _siblings(cls, siblings: Any) -> Any:
        """Names of kinds only; what is but a name stands for a model of that name, or for a file of weights."""
        if not isinstance(siblings, dict):
            return siblings
        for name in siblings:
            try:
                sibling(str(name))
            except CardgenError as error:
                raise ValueError(str(error)) from None
        return {name: {"model": given} if isinstance(given, str) else given for name, given in siblings.items()}

    @field_validator("name")
    @classmethod
    def _folder(cls, name: str | None) -> str | None:
        if name is not None and (not re.fullmatch(SLUG, name) or name == TAKEN):
            raise ValueError(
                f"expected letters, digits, '.', '_' and '-', a letter or a digit first, and not {TAKEN!r}, where published verdicts lie"
            )
        return name


def load_config(path: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """The file's keys (cardgen.yaml in the working folder, if there is one), with flags in their place.

    Raises:
        CardgenError: an unknown key or an unfit value; names the key, what was expected and what came.
    """
    file = path or Path(FILE)
    if path and not path.is_file():
        raise CardgenError(
            f"{path}: no such file; expected a YAML file of run settings; leave --config out to use defaults"
        )
    values = _read(file) if file.is_file() else {}
    given = {key: value for key, value in flags.items() if value is not None and value != ()}
    try:
        return RunConfig.model_validate({**_listed(values), **given})
    except ValidationError as error:
        raise CardgenError(_message(file if file.is_file() else None, error)) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise CardgenError(
            f"{file}: not readable: {' '.join(str(error).split())}; expected YAML in UTF-8; mend the place named"
        ) from None
    if not isinstance(values, dict):
        raise CardgenError(
            f"{file}: expected `key: value` lines, got {type(values).__name__}; see docs/configuration.md"
        )
    return {str(key): value for key, value in values.items()}


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Methods and metrics may be one name or several, with commas or as a list; so may files of methods."""
    return {
        key: tuple(name.strip() for name in value.split(",") if name.strip())
        if key in ("methods", "method", "metrics") and isinstance(value, str)
        else value
        for key, value in values.items()
    }


def _known_in(parents: list[str]) -> Mapping[str, Any]:
    nested: dict[str, type[BaseModel]] = {"thresholds": Thresholds, "siblings": SiblingModel}
    return (nested.get(parents[0], RunConfig) if parents else RunConfig).model_fields


def _message(file: Path | None, error: ValidationError) -> str:
    first = error.errors()[0]
    place = f"{file}: " if file else ""
    *parents, name = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = _known_in(parents)
        return f"{place}{unknown('setting', name, dict.fromkeys(known))}"
    return (
        f"{place}{'.'.join([*parents, name])}: {first['msg'].removeprefix('Value error, ')}; got {first['input']!r:.80}"
    )
