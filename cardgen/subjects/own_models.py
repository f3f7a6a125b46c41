"""Models that the user's own code builds."""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.checkpoints import load_weights
from cardgen.subjects.loaded_model import LoadedModel, Request, folder_name, seeded, unknown_preprocess
from cardgen.subjects.preprocess import parse_preprocess
from cardgen.subjects.user_code import code_file, on_path, user_error, user_function

RETURNS = (
    "expected an nn.Module, a function from inputs to scores, or a pair of one of them and the text of --preprocess"
)

CODE = "cardgen_code"
"""A plain attribute of the module, so that it counts in the digest of the weights."""


def own_model(request: Request) -> LoadedModel:
    """What a function of the user's returns, with weights from a file if one is given.

    The function takes nothing, or `num_classes`, and returns an nn.Module, or a function from inputs to scores (a BlackBox then), or a
    pair of one of these and its preprocessing as `--preprocess` would say it. Random weights come from a generator seeded by its name.
    Beside its weights the model is known by the digest of the code's file, since what its forward does shows in no weight; code and
    data that the file takes from elsewhere are not seen.

    Raises:
        CardgenError: no such file or function, one that needs arguments, raises, or returns something else; no preprocessing.
    """
    request.check_weights()
    function, made = seeded(lambda: _made(request), request.name)
    built, text = made if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], str) else (made, None)
    module = _module(built, request.name, function)
    loaded = f", with weights from {_loaded(module, request, request.file)}" if request.file else ""
    if request.preprocess is None and text is None:
        raise unknown_preprocess(request.name)
    place, _, name = request.name.rpartition(":")
    where = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
    return LoadedModel(
        module.cpu().eval(),
        folder_name(f"{where}-{name}"),
        f"the model that {name} of {Path(place).name} returns{loaded}",
        request.preprocessing(lambda: parse_preprocess(str(text))),
        (),
    )


def _made(request: Request) -> tuple[Callable[..., Any], object]:
    """The function, and what it returns, given the number of classes if it takes that."""
    function = user_function(request.name)
    given = {} if request.num_classes is None else {"num_classes": request.num_classes}
    _check_arguments(function, request.name, given)
    try:
        with on_path(request.name):
            return function, function(**given)
    except CardgenError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise CardgenError(
            f"{request.name} raised {user_error(error, code_file(function))}; expected it to return the model; mend the function"
        ) from error


def _check_arguments(function: Callable[..., Any], name: str, given: dict[str, int]) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise CardgenError(f"{name} is built in; expected a function written in Python; write one") from None
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if given and not any(p.name == "num_classes" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise CardgenError(
            f"{name} takes no num_classes; expected it to, as --num-classes is given; add it, or leave that out"
        )
    if set(needed) - set(given):
        advice = "pass --num-classes" if needed == ["num_classes"] else "give the others defaults"
        raise CardgenError(f"{name} needs {', '.join(needed)}; expected no arguments, or num_classes; {advice}")


def _module(built: object, name: str, function: Callable[..., Any]) -> nn.Module:
    """Functions become black boxes."""
    built, code = unwrapped(built), code_digest(function)
    if isinstance(built, nn.Module) and not isinstance(built, torch.jit.ScriptModule):
        setattr(built, CODE, code)
        return built
    if not callable(built) or isinstance(built, type | torch.jit.ScriptModule):
        raise CardgenError(f"{name} returned {described(built)}; {RETURNS}; return one of these")
    return BlackBox(built, identity=code)


def _loaded(module: nn.Module, request: Request, file: Path) -> str:
    if isinstance(module, BlackBox):
        raise CardgenError(
            f"{request.name} returned a function, which takes no weights; expected a module for {file}; load them in the function"
        )
    return load_weights(module, file)


def unwrapped(built: object) -> object:
    """What is inside where torch.compile or DataParallel are around it."""
    while isinstance(built, nn.DataParallel) or hasattr(built, "_orig_mod"):
        built = built.module if isinstance(built, nn.DataParallel) else built._orig_mod
    return built


def code_digest(function: Callable[..., Any]) -> str:
    """sha256 of the file that a function is written in; empty where there is none. What the file takes from elsewhere is not seen."""
    file = code_file(function)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else ""


def described(built: object) -> str:
    """What something is that is no model."""
    if isinstance(built, torch.jit.ScriptModule):
        return "a TorchScript module, which cannot be looked into"
    if isinstance(built, tuple):
        return f"a tuple of {', '.join(type(part).__name__ for part in built)}"
    return f"the class {built.__name__}" if isinstance(built, type) else type(built).__name__
