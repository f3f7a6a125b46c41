"""Changed weights: re-initialised layers and negligible jitter, put in for the length of a `with` and taken out again."""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor, nn

from cardgen.draws import generator, seed_of
from cardgen.forward import prepared

Tensors = Mapping[str, Tensor]


@contextmanager
def changed(model: nn.Module, tensors: Tensors) -> Iterator[None]:
    """Put other values into parameters and buffers named as in `state_dict`; the very same tensors are back afterwards."""
    current = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    before = {name: current[name].data for name in tensors}
    try:
        for name, value in tensors.items():
            current[name].data = value.to(device=current[name].device, dtype=current[name].dtype)
        yield
    finally:
        for name, value in before.items():
            current[name].data = value


def layers_from_top(model: nn.Module, example: Tensor) -> list[str]:
    """Names of the modules that hold parameters or running statistics of their own, the last executed first.

    The order is that of one forward pass, not that of definition. A module that is never called itself (an attention's output
    projection, say) takes the place of its nearest ancestor that is.
    """
    names = {module: name for name, module in model.named_modules()}
    called: dict[str, int] = {}
    clock = count()

    def note(module: nn.Module, *_: object) -> None:
        called[names[module]] = next(clock)

    handles = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad(), prepared(model):
            model.forward(example)  # not model(example): hooks that count forward passes are not to see this one
    finally:
        for handle in handles:
            handle.remove()
    owners = [name for module, name in names.items() if _is_layer(module)]
    return sorted(owners, key=lambda name: (_position(name, called), owners.index(name)), reverse=True)


def _is_layer(module: nn.Module) -> bool:
    """Whether training left something in the module itself; a norm may keep statistics without having parameters."""
    has_parameters = any(True for _ in module.parameters(recurse=False))
    return has_parameters or getattr(module, "running_mean", None) is not None


def _position(name: str, called: Mapping[str, int]) -> int:
    while name and name not in called:
        name = name.rpartition(".")[0]
    return called.get(name, -1)


def reset(model: nn.Module, layer: str, seed: int, draw: int) -> dict[str, Tensor]:
    """Fresh values for a layer's own parameters and buffers, as its constructor would draw them, from the layer's own seed.

    A copy on the CPU is reset, so that values do not depend on the device; torch's global generator is put back. Parameters that
    `reset_parameters` does not reach (class tokens, layer scales) are drawn anew with the mean and spread they have; those
    of one value only stay.
    """
    module = copy.deepcopy(model.get_submodule(layer)).cpu()
    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    before = {name: value.clone() for name, value in own.items()}
    draws = generator(seed, "reset", layer, draw)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed_of(seed, "reset", layer, draw))
        initialise = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(initialise):
            initialise()
        own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        for name, parameter in module.named_parameters(recurse=False):
            spread = before[name].std(correction=0)
            if torch.equal(parameter, before[name]) and spread > 0:
                fresh = torch.randn(parameter.shape, generator=draws)
                parameter.copy_(fresh * spread + before[name].mean())
    prefix = f"{layer}." if layer else ""
    return {f"{prefix}{name}": value.detach() for name, value in own.items()}


def jitter(model: nn.Module, scale: float, seed: int) -> dict[str, Tensor]:
    """Every parameter times 1 + scale·ε, ε standard normal: a change too small to matter to the predictions."""
    return {
        name: value.detach().cpu() * (1 + scale * torch.randn(value.shape, generator=generator(seed, "jitter", name)))
        for name, value in model.named_parameters()
        if value.is_floating_point()
    }


PLAIN = (bool, int, float, str, type(None))


def weights_digest(model: nn.Module) -> str:
    """sha256 over names, types and plain attributes of all modules, and names, shapes and values of all parameters and buffers.

    Plain attributes are public numbers, words, and tuples or lists of them: a stride, a temperature.
    """
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        plain = {
            key: value for key, value in vars(module).items() if key[0] != "_" and key != "training" and _plain(value)
        }
        digest.update(f"{name} {type(module).__qualname__} {sorted(plain.items())}".encode())
    for name, value in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        array = value.detach().cpu().contiguous().view(-1)
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(array.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(value: object) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, tuple | list) and all(map(_plain, value)))
