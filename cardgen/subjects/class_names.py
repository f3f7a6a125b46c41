"""Which class of the data is which output of the model. Never by guess: what fits no rule is refused."""

import difflib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cardgen.errors import CardgenError
from cardgen.subjects.class_files import composed, read_class_file
from cardgen.subjects.samples import shortened

_SHOWN = 5
_PLACEHOLDER = re.compile(r"(LABEL|class)[ _]\d+")


@dataclass(frozen=True)
class Matching:
    """How classes of the data fit the model.

    Attributes:
        outputs: the output of each class of the data.
        classes: names by output, () where they are not known.
        note: a sentence that says how they were matched; empty where the data has no classes.
    """

    outputs: Mapping[str, int]
    classes: tuple[str, ...]
    note: str


def match_classes(names: Sequence[str], *, outputs: int, classes: tuple[str, ...], class_file: Path | None) -> Matching:
    """Match the data's class names by the first of these that fits all of them.

    1. A file that says it (`read_class_file`). 2. The model's own class names; upper and lower case, spaces and underscores do not
    matter, and of synonyms ("tench, Tinca tinca") any will do. 3. WordNet ids ("n01440764") where the model has ImageNet's 1 000
    outputs. 4. Numbers of outputs. 5. Where the model names no classes and has as many outputs: the order given, unless it is of
    numbers (1 to 10, say), which may be meant otherwise.

    Args:
        names: the data's classes, each once, in their order: sorted, or the data set's own.
        outputs: how many the model has.
        classes: the model's class names by output, or (). Placeholders ("LABEL_0") count as none.

    Raises:
        CardgenError: some names fit no output, one fits several, or two fit the same; the message has the nearest names.
    """
    known = () if all(_PLACEHOLDER.fullmatch(name) for name in classes) else classes
    if class_file:
        return _by_file(names, outputs, known, class_file)
    if not names:
        return Matching({}, known, "")
    own = dict(enumerate(known[:outputs]))
    if found := _by_name(names, own):
        return Matching(found, known, "the data's classes were matched to the model's by name")
    if outputs == len(wordnet_ids()) and set(names) <= set(wordnet_ids()):
        found = {name: wordnet_ids().index(name) for name in names}
        return Matching(found, known or wordnet_ids(), "the data's classes were matched to outputs by WordNet id")
    if found := _by_number(names, outputs):
        return Matching(found, known, f"the data's classes were taken as numbers of outputs{_trap(names, outputs)}")
    if not known and len(names) == outputs and not any(name.isdecimal() for name in names):
        note = f"the model names no classes, so the data's ({shortened(names)}) were taken as outputs 0 to {outputs - 1} in this order"
        return Matching({name: i for i, name in enumerate(names)}, tuple(names), note)
    raise CardgenError(_unmatched(names, outputs, own))


@lru_cache
def wordnet_ids() -> tuple[str, ...]:
    """WordNet ids of ImageNet's 1 000 classes (ILSVRC 2012), sorted, which is the order of the outputs."""
    return tuple((Path(__file__).parent / "imagenet_wnids.txt").read_text(encoding="ascii").split())


def _by_file(names: Sequence[str], outputs: int, known: tuple[str, ...], file: Path) -> Matching:
    said = read_class_file(file, outputs)
    table = _table(said.names) if said.names else {}
    left = [name for name in names if not _candidates(name, table) and composed(name) not in said.outputs]
    if left:
        raise CardgenError(
            f"{file} does not say which output {shortened([repr(name) for name in left])} {'is' if len(left) == 1 else 'are'}; "
            f"expected every class of the data in it; add {'it' if len(left) == 1 else 'them'}"
        )
    found = (
        (_by_name(names, said.names) or {}) if said.names else {name: said.outputs[composed(name)] for name in names}
    )
    spoken = said.names or {output: name for name, output in reversed(list(said.outputs.items()))}
    return Matching(
        found, known or _filled(spoken, outputs), f"the data's classes were matched to outputs by {file.name}"
    )


def _filled(names: Mapping[int, str], outputs: int) -> tuple[str, ...]:
    return tuple(names.get(i, f"class {i}") for i in range(outputs))


def _by_name(names: Sequence[str], own: Mapping[int, str]) -> dict[str, int] | None:
    """Outputs of names of which each fits one; None where some fit none."""
    table = _table(own)
    fits = {name: _candidates(name, table) for name in names}
    if not all(fits.values()):
        return None
    for name, found in fits.items():
        if len(found) > 1:
            raise CardgenError(
                f"class {name!r} of the data fits outputs {shortened([str(i) for i in sorted(found)])} of the model; expected one; say "
                f"which by --classes FILE with lines `name,output`"
            )
    return _distinct({name: min(found) for name, found in fits.items()})


def _distinct(outputs: dict[str, int]) -> dict[str, int]:
    taken: dict[int, str] = {}
    for name, output in outputs.items():
        if output in taken:
            raise CardgenError(
                f"classes {taken[output]!r} and {name!r} of the data both fit output {output} of the model; expected one; say which "
                f"by --classes FILE with lines `name,output`"
            )
        taken[output] = name
    return outputs


def _table(own: Mapping[int, str]) -> Mapping[str, set[int]]:
    """Outputs by plain name, in full and by each synonym."""
    table: defaultdict[str, set[int]] = defaultdict(set)
    for output, name in own.items():
        for part in (name, *name.split(",")):
            table[_plain(part)].add(output)
    return {plain: found for plain, found in table.items() if plain}


def _candidates(name: str, table: Mapping[str, set[int]]) -> set[int]:
    """Outputs that a name fits in full, else those that any of its synonyms fits."""
    if found := table.get(_plain(name)):
        return found
    return set().union(*(table.get(_plain(part), set()) for part in name.split(",")))


def _plain(name: str) -> str:
    return re.sub(r"[\s_,]+", "", composed(name).casefold())


def _by_number(names: Sequence[str], outputs: int) -> dict[str, int] | None:
    if not all(_is_number(name, outputs) for name in names):
        return None
    return _distinct({name: int(name) for name in names})


def _trap(names: Sequence[str], outputs: int) -> str:
    """A warning where folders called 0 to 10 and more may have been outputs in the order 0, 1, 10, 2 when the model was trained."""
    if len(names) < outputs or sorted(names) == sorted(names, key=int):
        return ""
    return (
        f"; if the model was trained by torchvision's ImageFolder, its outputs are in text order ({shortened(sorted(names))}): then "
        f"say so by --classes FILE"
    )


def _is_number(name: str, outputs: int) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < outputs


def _unmatched(names: Sequence[str], outputs: int, own: Mapping[int, str]) -> str:
    table = _table(own)
    left = [name for name in names if not _candidates(name, table) and not _is_number(name, outputs)] or list(names)
    expected = ["names of the model's classes"] if own else [f"{outputs} classes"]
    expected += ["ImageNet's WordNet ids"] if outputs == len(wordnet_ids()) else []
    listed = shortened([_with_nearest(name, own) if k < _SHOWN else name for k, name in enumerate(left)])
    return (
        f"{len(left)} of the data's {len(names)} classes fit no output of the model: {listed}; expected {', '.join(expected)} or "
        f"numbers 0 to {outputs - 1}; rename them, or say which is which by --classes FILE with lines `name,output`"
    )


def _with_nearest(name: str, own: Mapping[int, str]) -> str:
    parts = {_plain(part): part.strip() for full in own.values() for part in full.split(",")}
    near = difflib.get_close_matches(_plain(name), list(parts), n=1, cutoff=0.6)
    return f"{name!r} (nearest: {parts[near[0]]})" if near else repr(name)
