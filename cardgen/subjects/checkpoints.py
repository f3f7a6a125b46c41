"""Weights from files: tensors only, nothing in them is ever run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cardgen.errors import CardgenError

State = Mapping[str, Tensor]

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.", "model.")
SAVE = "save the tensors alone: torch.save(model.state_dict(), 'weights.pt'), or safetensors"
SHOWN = 4


def load_weights(module: nn.Module, file: Path) -> str:
    """Put a checkpoint's tensors into a module, every one of them in its place.

    The state dict may lie under the key `state_dict`, `model` or `model_state_dict`, and all its names may begin with what
    DataParallel, torch.compile or Lightning put before them; what was taken off is said in the answer. Names of older versions are
    renamed where the module itself knows how; counts of batches seen may be missing. Values are converted to the module's types.

    Returns:
        The file's name and what was taken out of it, for people.

    Raises:
        CardgenError: an unreadable or unsafe file, or one whose names or shapes are not the module's.
    """
    found, note = read_checkpoint(file)
    state, prefix = _unprefixed(found, module.state_dict())
    _check_shapes(file, state, module.state_dict())
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CardgenError(
            f"{file} does not fit the model: {_line(error)}; expected this architecture's weights; check --model and --weights"
        ) from None
    _check_names(file, [name for name in missing if not name.endswith("num_batches_tracked")], unexpected)
    notes = [*note, *([f"names without {prefix!r}"] if prefix else [])]
    return f"{file.name} ({', '.join(notes)})" if notes else file.name


def read_checkpoint(file: Path) -> tuple[State, tuple[str, ...]]:
    """The state dict in a file, and a word on where in it, if it was wrapped.

    Raises:
        CardgenError: no such file; a damaged one; a pickle that needs more than tensors, a TorchScript archive, or no state dict.
    """
    if not file.is_file():
        raise CardgenError(f"{file}: no such file; expected weights in .safetensors, .pt or .pth; mend the path")
    if file.suffix == ".safetensors":
        try:
            return load_file(file), ()
        except SafetensorError as error:
            raise CardgenError(
                f"{file}: damaged: {_line(error)}; expected safetensors; copy or save it again"
            ) from None
    if file.suffix not in PICKLED:
        raise CardgenError(f"{file}: unknown kind of weights; expected .safetensors, .pt or .pth; {SAVE}")
    return _unwrapped(file, _unpickled(file))


def _unpickled(file: Path) -> object:
    try:
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise whatever their bytes lead to
        raise CardgenError(_refusal(file, str(error))) from None
    return content


def _refusal(file: Path, reason: str) -> str:
    """Why a file was not loaded; a pickle's reason is the first class or function that loading it would run."""
    if "TorchScript" in reason:
        return f"{file}: a TorchScript archive; expected weights only, since its graph cannot be looked into; {SAVE}"
    needed = re.search(r"GLOBAL (\S+)", reason)
    if needed:
        return (
            f"{file}: not loaded, since the pickle needs {needed[1]}, and unpickling that can run anything: a whole model or other "
            f"objects were saved; expected tensors; if you trust the file, load it where it was made and {SAVE}"
        )
    return (
        f"{file}: damaged, or no checkpoint: {_line(reason) or 'empty'}; expected a state dict; copy or save it again"
    )


def _unwrapped(file: Path, content: object) -> tuple[State, tuple[str, ...]]:
    if _is_state(content):
        return content, ()
    entries = content if isinstance(content, Mapping) else {}
    wrapped = [key for key in WRAPPERS if _is_state(entries.get(key))]
    if len(wrapped) != 1:
        keys = f"a dict of {_few([str(key) for key in entries])}" if entries else f"{type(content).__name__}"
        raise CardgenError(
            f"{file} holds {keys}; expected a state dict, or exactly one under {', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]}; {SAVE}"
        )
    return entries[wrapped[0]], (f"its {wrapped[0]!r}",)


def _is_state(value: object) -> TypeGuard[State]:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(entry, Tensor) for entry in value.values())


def _unprefixed(state: State, own: State) -> tuple[State, str]:
    """Names without what wrappers put before all of them, and what that was; names that the module knows are left alone."""
    taken = ""
    while not state.keys() & own.keys():
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            break
        state, taken = {name.removeprefix(prefix): value for name, value in state.items()}, taken + prefix
    return state, taken


def _check_shapes(file: Path, state: State, own: State) -> None:
    """Refuse tensors of other shapes; if only the number of classes can be the reason, say which to pass."""
    odd = [name for name in state if name in own and state[name].shape != own[name].shape]
    if not odd:
        return
    shapes = [f"{name} {list(state[name].shape)}, in the model {list(own[name].shape)}" for name in odd]
    heads = {(state[name].shape[:1], own[name].shape[:1]) for name in odd}
    same = all(state[name].shape[1:] == own[name].shape[1:] for name in odd)
    classes = state[odd[0]].shape[:1]
    advice = (
        f"pass --num-classes {classes[0]}" if same and len(heads) == 1 and classes else "check --model and --weights"
    )
    raise CardgenError(f"{file} does not fit the model: {_few(shapes)}; expected the same shapes; {advice}")


def _check_names(file: Path, missing: list[str], unexpected: list[str]) -> None:
    parts = [f"missing {_few(missing)}"] * bool(missing) + [f"not in the model {_few(unexpected)}"] * bool(unexpected)
    if parts:
        raise CardgenError(
            f"{file} does not fit the model: {'; '.join(parts)}; expected this architecture's names; check --model and --weights"
        )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
