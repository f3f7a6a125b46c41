"""Functions in the user's own code: `path/to/file.py:function`, `package.module:function`."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from cardgen.errors import CardgenError
from cardgen.registry import unknown
from cardgen.subjects.loaded_model import first_line


def user_function(name: str) -> Callable[..., Any]:
    """The function of that name; its code is run, with its own folder (or the working folder) first on the path.

    Raises:
        CardgenError: no such file or function, code that cannot be imported, or something that is no function.
    """
    place, _, function = name.rpartition(":")
    source = imported(place, "path/to/file.py:function or package.module:function")
    own = {key: value for key, value in vars(source).items() if inspect.isfunction(value) or inspect.isclass(value)}
    public = [key for key, value in own.items() if key[0] != "_" and value.__module__ == source.__name__]
    found = getattr(source, function, None)
    if found is None:
        raise CardgenError(
            unknown(f"function of {place}", function, public) if public else f"{place} has no functions; write one"
        )
    if isinstance(found, nn.Module) or not callable(found):
        raise CardgenError(f"{name} is of type {type(found).__name__}; expected a function; write one that returns it")
    call: Callable[..., Any] = found
    return call


@contextmanager
def on_path(name: str) -> Iterator[None]:
    """The folder of the user's file, or the working folder, is where modules are looked for first."""
    place = name.rpartition(":")[0]
    folder = str(Path(place).resolve().parent if place.endswith(".py") else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def code_file(function: Callable[..., Any]) -> Path | None:
    """The file that a function is written in, if it is written in Python."""
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    return Path(file) if file else None


def user_error(error: BaseException, file: Path | None) -> str:
    """The kind of an error, what it says, and the last line of the user's file that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return first_line(error) + (f" (line {lines[-1]} of {file.name})" if file and lines else "")


def imported(place: str, expected: str) -> ModuleType:
    """The module of a Python file, or of that name; a file's code is run anew.

    Raises:
        CardgenError: no such file, or code that cannot be imported; what cardgen itself refuses keeps its words.
    """
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise CardgenError(f"{place}: no such file; expected Python code; mend the path")
    try:
        with on_path(f"{place}:"):
            return _from_file(Path(place).resolve()) if is_file else importlib.import_module(place)
    except CardgenError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises, and the exit of scripts
        raise CardgenError(
            f"{place} could not be imported: {user_error(error, Path(place).resolve())}; expected {expected}; mend the code or the name"
        ) from error


def _from_file(file: Path) -> ModuleType:
    name = f"cardgen_user_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # not by the loader, whose cached bytecode may be that of a file that was edited within the second
    exec(compile(file.read_bytes(), file, "exec"), vars(module))
    return module
