"""The records: all that crosses from the measuring half to the publishing half. No torch here.

`evaluations/<subject>/subject.json` holds a `SubjectRecord`, `<subject>/<method>/method.json` a `MethodRecord`, and
`<subject>/<method>/<metric>.json` a `Record` (controls: `<subject>/controls/<key>/<metric>.json`), and
`<subject>/calibration/<metric>.json` a `Calibration`. Files are strict JSON, numbers carry four significant digits, NaN and
infinities are refused, and a file is replaced whole or not at all.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_serializer, model_validator

from cardgen.errors import CardgenError
from cardgen.shares import wilson

SCHEMA = 1
DIGITS = 4
FEWER_DIGITS = 3
CONTROLS = "controls"
CALIBRATION = "calibration"

VerdictName = Literal["pass", "fail", "inconclusive", "descriptive", "skipped", "error"]
Attribute = Literal[
    "determinism",
    "hyperparameter_dependence",
    "model_agnosticism",
    "computational_efficiency",
    "semantic_directness",
    "input_sensitivity",
    "label_sensitivity",
    "model_sensitivity",
    "minimality",
    "perceptual_correspondence",
]
Direction = Literal["higher", "lower", "none"]
Access = Literal["none", "outputs", "gradients", "features", "internals"]


def significant(value: Any, digits: int = DIGITS) -> Any:
    """Round floats, also nested ones, to significant digits, four by default; refuse NaN and infinities."""
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {value}")
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: significant(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [significant(item, digits) for item in value]
    return value


def _short(value: Any) -> Any:
    return significant(value, FEWER_DIGITS)


Number = Annotated[float, BeforeValidator(significant)]
Value = bool | int | float | str | None
Values = Annotated[dict[str, Value], BeforeValidator(significant)]
Numbers = Annotated[dict[str, float], BeforeValidator(significant)]
ShortNumber = Annotated[float, BeforeValidator(_short)]
ShortNumbers = Annotated[list[float], BeforeValidator(_short)]
Interval = Annotated[tuple[float, float], BeforeValidator(significant)]


class Model(BaseModel):
    """Base of everything stored: unknown fields are refused, objects are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Model):
    """Where a method or an evaluation was published."""

    paper: str
    url: str
    where: str = ""


class MetricEntry(Model):
    """What a metric's decorator says of it; every record repeats its own entry."""

    key: str
    title: str
    attribute: Attribute
    question: str
    quantity: str
    unit: str = ""
    direction: Direction
    source: Source
    rule: str
    needs: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    version: int = 1


class MethodEntry(Model):
    """What a method's decorator says of it."""

    key: str
    title: str
    source: Source
    access: Access
    reduction: Literal["sum", "max_abs"]
    signed: bool
    random: bool
    control: Literal["", "noise", "prior", "flat", "truth", "held_out"] = ""
    version: int = 1


class Rule(Model):
    """A decision rule by name, with the thresholds that were in force."""

    name: str
    thresholds: Values


class Comparison(Model):
    """A control beside the method: its own mean score, and by how much the method beats it (positive is better).

    Stored as a list, in the order of the fields and with three significant digits, so that a record stays small.
    """

    kind: Literal["noise", "prior"]
    estimate: ShortNumber
    difference: ShortNumber
    interval: Annotated[tuple[float, float], BeforeValidator(_short)]
    effect: ShortNumber | None = None

    @property
    def rank(self) -> float:
        """How clearly the control is beaten: by the effect; without spread the difference's sign is all there is."""
        if self.effect is not None:
            return self.effect
        return math.inf if self.difference > 0 else -math.inf

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        if not isinstance(data, list) or len(data) != 6:
            return data
        kind, estimate, difference, low, high, effect = data
        return {"kind": kind, "estimate": estimate, "difference": difference, "interval": (low, high), "effect": effect}

    @model_serializer
    def _as_list(self) -> list[str | float | None]:
        return [self.kind, self.estimate, self.difference, *self.interval, self.effect]


class Curve(Model):
    """A mean curve of at most 64 points, for the card's reader; without `x` the points lie evenly from 0 to 1."""

    x_label: str
    y_label: str
    y: ShortNumbers = Field(max_length=64)
    x: ShortNumbers | None = Field(default=None, max_length=64)


class Provenance(Model):
    """What may differ between two runs that say the same; no part of a record's identity."""

    commit: str | None = None
    dirty: bool | None = None
    packages: dict[str, str] = {}
    device: str = ""
    dtype: str = ""
    threads: int | None = None
    batch: int | None = None
    seconds: Number | None = None
    timing: Values = {}


class Record(Model):
    """One metric of one method on one subject.

    `estimate` is the headline score in the metric's own unit and direction, `interval` its 95 % interval. `effect` is the standardised
    difference to the noise control that is beaten least (randomisation: similarity to itself − similarity), `p` one-sided for the same.
    `passes` counts the samples that the evaluation forwards through the model (a backward pass counts as one more), shared or not.
    """

    schema_version: Literal[1] = 1
    subject: str
    method: str
    metric: str
    verdict: VerdictName
    reason: str
    n: int = 0
    flat: int = 0
    estimate: Number | None = None
    interval: Interval | None = None
    effect: Number | None = None
    p: Number | None = None
    advice: str = ""
    controls: dict[str, Comparison] = {}
    reported: Values = {}
    curve: Curve | None = None
    rule: Rule
    parameters: Values = {}
    budget: str = ""
    versions: dict[str, int] = {}
    passes: int = 0
    key: str
    key_parts: Values = {}
    catalogue: MetricEntry
    provenance: Provenance = Provenance()

    @property
    def requires(self) -> tuple[str, ...]:
        """The metrics that this one's pass needs a pass of, same method and subject."""
        return self.catalogue.requires


class SubjectRecord(Model):
    """What is explained: a model with data."""

    schema_version: Literal[1] = 1
    slug: str
    title: str
    description: str
    model: str
    model_sha256: str
    parameters: int
    classes: tuple[str, ...] = ()
    data: str
    data_sha256: str
    n: int
    shape: tuple[int, ...]
    target: str
    has_masks: bool
    health: Literal["healthy", "chance", "unknown"]
    accuracy: Number | None = None
    accuracy_interval: Interval | None = None
    majority_share: Number | None = None


class MethodRecord(Model):
    """One method on one subject: its own entry, its hyperparameters, and its example picture, of which `key` is the identity.

    Of a method in a file of the user's own it also holds the `facts`, as in `cardgen/facts/`.
    """

    schema_version: Literal[1] = 1
    subject: str
    catalogue: MethodEntry
    parameters: Values = {}
    key: str = ""
    picture_sha256: str | None = None
    picture_alt: str = ""
    picture_caption: str = ""
    facts: dict[str, Any] | None = None


class Share(Model):
    """How often something passed, or agreed, of how often it was asked; stored as the list of both. Asked of nothing there is no share."""

    passes: int = Field(ge=0)
    of: int = Field(ge=1)

    @property
    def estimate(self) -> float:
        return self.passes / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval: of more repetitions on the same images, not on others."""
        return wilson(self.passes, self.of)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        return (
            dict(zip(("passes", "of"), data, strict=True))
            if isinstance(data, list | tuple) and len(data) == 2
            else data
        )

    @model_validator(mode="after")
    def _no_more_than_asked(self) -> Share:
        if self.passes > self.of:
            raise ValueError(f"expected no more passes than {self.of}, got {self.passes}")
        return self

    @model_serializer
    def _as_list(self) -> list[int]:
        return [self.passes, self.of]


class Calibration(Model):
    """How far one metric's verdicts can be trusted on one subject: how often what holds nothing passes, and what must pass does.

    Each of `repetitions` draws `n` images of the `images` independent ones there are, and asks the rule for a verdict. `noise` holds
    the members of the noise family by name, `held_out` maps without information that no rule compares with, `priors` maps that know
    the data but not the model; of priors no goal is asked. `truth` says how often the positive control passes, `truth_should` what it
    should do. `agreement` is that of verdicts over disjoint samples, by their size ("50", "100", "200"); `reliability` holds
    `inter_rater` (Krippendorff's α over images), `inter_method` (Spearman) and the like. `met`: whether every goal that can be judged is
    met; None where the repetitions judge nothing. A calibration never changes a verdict.
    """

    schema_version: Literal[1] = 1
    subject: str
    metric: str
    n: int
    images: int
    repetitions: int
    noise: dict[str, Share] = {}
    held_out: dict[str, Share] = {}
    priors: dict[str, Share] = {}
    truth: Share | None = None
    truth_should: Literal["pass", ""] = ""
    agreement: dict[str, Share] = {}
    reliability: Numbers = {}
    met: bool | None = None
    key: str
    key_parts: Values = {}
    provenance: Provenance = Provenance()


T = TypeVar("T", bound=Model)


def dumps(record: Model) -> str:
    """Strict JSON, one top-level field a line, so that a diff shows what moved; fields that say nothing are left out."""
    fields = json.loads(record.model_dump_json(exclude_defaults=True))
    if "schema_version" in type(record).model_fields:
        fields = {"schema_version": SCHEMA, **fields}
    lines = [f"{json.dumps(name)}: {_compact(value)}" for name, value in fields.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write beside the target and rename: a reader sees the old file or the new one, never half of one.

    Raises:
        CardgenError: the folder cannot be written, or the disk is full.
    """
    try:
        _write_atomic(path, data)
    except OSError as error:
        raise CardgenError(
            f"{path}: cannot be written: {error.strerror or error}; expected a folder to write in, with space left; "
            f"mend that, or choose another folder"
        ) from None


def _write_atomic(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save(record: Model, path: Path) -> None:
    """Store a record at `path`, whole or not at all."""
    write_atomic(path, dumps(record))


def load(kind: type[T], path: Path) -> T:
    """Read and validate one record.

    Raises:
        CardgenError: the file is no valid record; the message names the file, the field, and what was expected.
    """
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise CardgenError(
            f"{path}: {field}: {first['msg']}; expected a {kind.__name__} of schema {SCHEMA}, got {first['input']!r:.80}; "
            f"delete the file and run `cardgen run` again, or restore it from git"
        ) from None
    except (ValueError, OSError) as error:
        raise CardgenError(
            f"{path}: not a readable {kind.__name__}: {error}; expected strict JSON; "
            f"delete the file and run `cardgen run` again, or restore it from git"
        ) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"expected a number, got {constant}")


def record_paths(evaluations: Path) -> Iterator[Path]:
    """Paths of all metric records below an evaluations folder, sorted; controls' included, calibrations not."""
    yield from sorted(
        path
        for path in evaluations.glob("*/**/*.json")
        if path.name not in ("subject.json", "method.json")
        and path.relative_to(evaluations).parts[1] != CALIBRATION
        and not _hidden(path, evaluations)
    )


def calibration_paths(evaluations: Path) -> Iterator[Path]:
    """Paths of all calibrations below an evaluations folder, sorted."""
    yield from sorted(path for path in evaluations.glob(f"*/{CALIBRATION}/*.json") if not _hidden(path, evaluations))


def _hidden(path: Path, evaluations: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(evaluations).parts)
