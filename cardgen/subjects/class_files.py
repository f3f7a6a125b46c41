"""The file of `--classes`: which class of the data is which output of the model."""

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cardgen.errors import CardgenError


@dataclass(frozen=True)
class ClassFile:
    """What the file says, by one of two ways; the other is empty.

    Attributes:
        outputs: output of each name. Several names may share one.
        names: name of each output.
    """

    outputs: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)


def read_class_file(file: Path, outputs: int) -> ClassFile:
    """Read lines `name,output` or `name<TAB>output`, or one name a line in output order, or JSON or YAML.

    JSON and YAML (told by the file's ending) hold {name: output}, {output: name} or a list of names in output order.

    Args:
        outputs: how many the model has.

    Raises:
        CardgenError: no such file, not text, a line or entry of no known form, an output that the model does not have, a name
            given two of them, or names in output order that are not as many as the outputs.
    """
    text = _text(file)
    if file.suffix.lower() in (".json", ".yaml", ".yml"):
        return _structured(file, text, outputs)
    lines = text.rstrip().split("\n")
    pairs = [_pair(line) for line in lines]
    if not any(pairs):
        return _in_order(file, [line.strip() for line in lines], outputs)
    for k, (line, pair) in enumerate(zip(lines, pairs, strict=True), 1):
        if line.strip() and not pair:
            raise CardgenError(
                f"{file}: line {k}: {line!r} is no `name,output`; expected that on every line, or on none (then one name a line "
                f"in output order); mend that line"
            )
    return _paired(file, [(f"line {k}", *pair) for k, pair in enumerate(pairs, 1) if pair], outputs)


def composed(name: str) -> str:
    """Accented letters as one character each, since file systems differ in how they store them."""
    return unicodedata.normalize("NFC", name)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise CardgenError(
            f"{file}: {reason}; expected lines `name,output`, one for each class of the data; mend the path or the file"
        ) from None


def _pair(line: str) -> tuple[str, int] | None:
    head, _, tail = line.rpartition("\t" if "\t" in line else ",")
    name, output = head.strip().strip('"').strip(), _number(tail.strip())
    return None if output is None or not name else (name, output)


def _number(text: object) -> int | None:
    """A number of an output, from a number or its digits; other numbers, and signs, are none."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _structured(file: Path, text: str, outputs: int) -> ClassFile:
    try:
        value: Any = json.loads(text) if file.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise CardgenError(
            f"{file}: {' '.join(str(error).split())}; expected {{name: output}}; mend the place named"
        ) from None
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return _in_order(file, value, outputs)
    if isinstance(value, dict) and value:
        entries = list(value.items())
        if all(
            isinstance(key, str) and isinstance(index, int) and not isinstance(index, bool) for key, index in entries
        ):
            return _paired(file, [(repr(key), key, index) for key, index in entries], outputs)
        numbered = [(_number(key), name) for key, name in entries]
        if all(isinstance(name, str) for _, name in numbered) and all(key is not None for key, _ in numbered):
            return _named(file, {key: name for key, name in numbered if key is not None}, outputs)
    raise CardgenError(
        f"{file}: got {json.dumps(value, default=str):.80}; expected {{name: output}}, {{output: name}} or a list of names, with "
        f"names in quotes; mend the file"
    )


def _paired(file: Path, entries: Iterable[tuple[str, str, int]], outputs: int) -> ClassFile:
    found: dict[str, int] = {}
    for place, name, output in entries:
        _check_range(file, place, output, outputs)
        if found.setdefault(composed(name), output) != output:
            raise CardgenError(
                f"{file}: {place}: {name!r} is output {output}, and {found[composed(name)]} before; expected one; remove one of them"
            )
    return ClassFile(outputs=found)


def _in_order(file: Path, names: list[str], outputs: int) -> ClassFile:
    if len(names) != outputs or not all(names):
        empty = f", of them {names.count('')} empty" if not all(names) else ""
        raise CardgenError(
            f"{file}: {len(names)} names in output order{empty}; expected {outputs}, one for each output of the model; add what is "
            f"missing, or write lines `name,output`"
        )
    return _named(file, dict(enumerate(names)), outputs)


def _named(file: Path, names: Mapping[int, str], outputs: int) -> ClassFile:
    for output, name in names.items():
        _check_range(file, repr(name), output, outputs)
    return ClassFile(names=names)


def _check_range(file: Path, place: str, output: int, outputs: int) -> None:
    if not 0 <= output < outputs:
        raise CardgenError(
            f"{file}: {place}: output {output}; expected 0 to {outputs - 1}, the model's outputs; mend it"
        )
