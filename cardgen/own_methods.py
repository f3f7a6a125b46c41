"""Saliency methods in files of the user's own: `--method path/to/file.py`."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cardgen.config import SLUG, RunConfig
from cardgen.digests import SHORT
from cardgen.errors import CardgenError
from cardgen.facts import load_facts
from cardgen.methods import METHODS, Method
from cardgen.records import CALIBRATION, CONTROLS
from cardgen.subjects.user_code import imported

TAKEN = (CONTROLS, CALIBRATION, "core", "all")
"""Folders beside those of methods, and groups of methods."""
EXPECTED = "a Python file with a function under @cardgen.methods.method(...)"


@contextmanager
def own_methods(config: RunConfig) -> Iterator[RunConfig]:
    """The run with the methods in its files registered and named: beside its `methods` if it names some, or else alone.

    Each is known by the digest of its file, so that what is edited is measured again; code that the file takes from elsewhere is not
    seen. Its facts, if there are some, lie beside it in KEY.yaml. On the way out the registry is as it was.

    Raises:
        CardgenError: no such file, code that cannot be imported, no method or a control in it, a key that is taken or names no folder,
            or facts that are not in order.
    """
    with METHODS.borrowed() as items:
        own = [key for file in config.method or () for key in _registered(file, items)]
        named = config.methods if not own or "methods" in config.model_fields_set else ()
        yield config.model_copy(update={"methods": (*named, *own)})


def _registered(file: Path, items: dict[str, Method]) -> list[str]:
    """Keys of the methods that a file registers."""
    if file.suffix != ".py":
        raise CardgenError(f"{file}: not a Python file; expected {EXPECTED}; mend the path")
    before = set(items)
    try:
        imported(str(file), EXPECTED)
    except CardgenError as error:
        raise CardgenError(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from error
    own = [key for key in items if key not in before]
    if not own:
        raise CardgenError(f"{file} registers no method; expected {EXPECTED}; put the decorator on your function")
    for key in own:
        if items[key].entry.control:
            raise CardgenError(f"{file}: {key!r} is a control; expected a method that explains; leave control= out")
        if not re.fullmatch(SLUG, key) or key in TAKEN:
            raise CardgenError(
                f"{file}: a method is called {key!r}; expected letters, digits, '.', '_' and '-', a letter or a digit first, and none "
                f"of {', '.join(TAKEN)}; give it another key"
            )
        code = hashlib.sha256(file.read_bytes()).hexdigest()[:SHORT]
        items[key] = replace(items[key], code=code, facts=load_facts(key, file.parent))
    return own
