"""Repair on a copy: networks rebuilt so that rules may be put on every activation, and what a network's activations are."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules import activation
from torch.utils._python_dispatch import TorchDispatchMode

from cardgen.errors import CardgenError
from cardgen.forward import logits, prepared
from cardgen.memory import ran_out

ACTIVATIONS = tuple(getattr(activation, name) for name in activation.__all__ if name != "MultiheadAttention")
FUNCTIONS = {
    "_prelu_kernel": "prelu",
    "rrelu_with_noise": "rrelu",
    "log_sigmoid_forward": "logsigmoid",
    **{name: name for name in ("relu", "leaky_relu", "elu", "celu", "gelu", "silu", "mish", "hardswish", "hardtanh")},
    **{name: name for name in ("softplus", "hardshrink", "softshrink", "glu", "sigmoid", "hardsigmoid", "tanh")},
}
"""What torch's operators call activations, and what people do."""
Note = Callable[[nn.Module], object]
TOLERANCE = 1e-4
"""Share of the largest logit by which a repaired copy may differ from its original."""


class Calls(nn.Module):
    """One activation that runs several times in a forward pass, as one module a call, each called in its turn."""

    def __init__(self, module: nn.Module, count: int) -> None:
        super().__init__()
        self.calls = nn.ModuleList([twin(module) for _ in range(count)])
        self.turn = 0

    def forward(self, inputs: Tensor) -> Tensor:
        if self.turn == len(self.calls):
            raise CardgenError(
                f"an activation ran more than {self.turn} times; expected {self.turn} calls, as for the first sample; "
                f"rewrite the model so that all samples take the same way through it"
            )
        self.turn += 1
        found: Tensor = self.calls[self.turn - 1](inputs)
        return found


def restart(model: nn.Module) -> None:
    """Begin anew with the first of each activation's calls."""
    for module in model.modules():
        if isinstance(module, Calls):
            module.turn = 0


class Unit(NamedTuple):
    """A non-linear function that a forward pass executed, and the innermost module in which it did."""

    function: str
    name: str
    module: nn.Module

    @property
    def title(self) -> str:
        """How to speak of it: the activation's module, or that there is none and where."""
        leaf = not any(True for _ in self.module.children()) and not any(True for _ in self.module.parameters())
        if isinstance(self.module, ACTIVATIONS) or (leaf and self.function != "relu"):
            return f"{type(self.module).__name__} ({self.name})"
        return f"functional {self.function} in {self.name or 'the model itself'}"


def twin(module: nn.Module) -> nn.Module:
    """A copy of the structure that shares every parameter, buffer and other tensor: weights changed in one are changed in both.

    Raises:
        CardgenError: the module holds something that cannot be copied.
    """
    held = [value for part in module.modules() for value in _tensors(part)]
    return copied(module, {id(value): value for value in held})


def copied(module: nn.Module, shared: dict[int, Any] | None = None) -> nn.Module:
    """A copy of a module, but for what it is to share, by id.

    Raises:
        CardgenError: the module holds something that cannot be copied.
    """
    try:
        return copy.deepcopy(module, shared)
    except Exception as error:
        if ran_out(error):
            raise
        raise CardgenError(
            f"the model cannot be copied ({error}); expected a module that copy.deepcopy takes; keep out of it what cannot be copied"
        ) from error


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    everything = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
    return (value for value in everything if isinstance(value, Tensor))


def activations_apart(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> nn.Module:
    """A copy, in evaluation mode, that computes the same and on whose activations hooks and rules may be put.

    It shares the model's parameters and buffers. No activation works in place; each has one name; one that runs several times in a
    forward pass is a module a call (`Calls`, in turn from every call of the copy on); and each gets its input as a tensor of its
    own, so that a hook on that tensor's gradient does not see those of other readers, a shortcut say.

    Raises:
        CardgenError: the model cannot be copied, or computes something else when its activations do not work in place.
    """
    with prepared(model), torch.no_grad():
        copied = twin(model)
        in_place = [name for name, module in _activations(copied) if getattr(module, "inplace", False)]
        _out_of_place(copied, in_place)
        _one_name_each(copied)
        found, runs = _runs(copied, example)
        if in_place and not _close(found, logits(Unhooked(model), example)):
            raise CardgenError(
                f"without working in place {_culprit(model, in_place, example)} gives other outputs, as what it overwrites is read again; "
                f"expected activations whose result is used; rewrite that part of the model"
            )
    _one_call_each(copied, runs)
    for _, module in _activations(copied):
        module.register_forward_pre_hook(_own_input)
    return copied


def nonlinearities(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> list[Unit]:
    """The activations that a forward pass executes, in order, whether modules do it or functions.

    Seen below the modules, at torch's operators. A threshold or a clamp at zero from below is a `relu`; max pooling, softmax and what
    a model computes by plain arithmetic (x · sigmoid(x) is a `sigmoid`) are not told apart. The model must be prepared.
    """
    stack: list[nn.Module] = [model]
    found: list[Unit] = []
    names = {module: name for name, module in model.named_modules()}
    names |= {call: names[calls] for calls in names if isinstance(calls, Calls) for call in calls.calls}
    seen = _Operators(lambda function: found.append(Unit(function, names[stack[-1]], stack[-1])))
    # gradients are recorded, so that modules do not take fused ways on which operators cannot be told apart
    restart(model)
    with torch.enable_grad(), hooked(list(names), stack.append, lambda _: stack.pop()), seen:
        model.forward(example.detach().clone().requires_grad_())
    return found


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells `note` of every activation that torch executes."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function := _function(func.overloadpacket.__name__.removesuffix("_"), args):
            self.note(function)
        return func(*args, **(kwargs or {}))


def _function(operator: str, arguments: tuple[Any, ...]) -> str:
    """The activation that an operator is for these arguments; empty if none."""
    rest = arguments[1:]
    if any(isinstance(value, Tensor) for value in rest) and operator.startswith("clamp"):
        return ""
    if operator in ("clamp", "clamp_min"):
        return "relu" if rest in ((0,), (0, None)) and arguments[0].is_floating_point() else ""
    if operator == "threshold":
        return "relu" if rest == (0, 0) else operator
    return "relu6" if operator == "hardtanh" and rest == (0, 6) else FUNCTIONS.get(operator, "")


class Unhooked(nn.Module):
    """The model without its own hooks: those that count forward passes are not to see these."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> object:
        return self.model.forward(inputs)


def _activations(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, ACTIVATIONS)]


def _out_of_place(model: nn.Module, names: Sequence[str]) -> None:
    for name in names:
        setattr(model.get_submodule(name), "inplace", False)  # noqa: B010 - mypy takes modules' attributes for tensors


def _one_name_each(model: nn.Module) -> None:
    """Of an activation registered under several names, each further name gets a copy."""
    seen: set[nn.Module] = set()
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, ACTIVATIONS):
                parent._modules[name] = twin(child) if child in seen else child
                seen.add(child)


def _runs(model: nn.Module, example: Tensor) -> tuple[Tensor, Counter[nn.Module]]:
    """The logits, and how often each activation ran."""
    runs: Counter[nn.Module] = Counter()
    watched = [module for _, module in _activations(model)]
    with hooked(watched, lambda module: runs.update([module])):
        return logits(Unhooked(model), example), runs


@contextmanager
def hooked(modules: Sequence[nn.Module], before: Note, after: Note = lambda _: None) -> Iterator[None]:
    def enter(module: nn.Module, _: object) -> None:
        before(module)

    def leave(module: nn.Module, _: object, __: object) -> None:
        after(module)

    handles = [module.register_forward_pre_hook(enter) for module in modules]
    handles += [module.register_forward_hook(leave) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _one_call_each(model: nn.Module, runs: Counter[nn.Module]) -> None:
    """Activations that ran several times become `Calls`."""
    apart = {module: Calls(module, count) for module, count in runs.items() if count > 1}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in apart:
                parent._modules[name] = apart[child]

    if apart:
        model.register_forward_pre_hook(lambda module, _: restart(module))


def _own_input(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.view_as(value) if isinstance(value, Tensor) else value for value in arguments)


def _close(found: Tensor, wanted: Tensor) -> bool:
    scale = float(wanted.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(found, wanted, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def _culprit(model: nn.Module, in_place: Sequence[str], example: Tensor) -> str:
    """The first activation that by itself makes the difference; all of them if none does."""
    wanted = logits(Unhooked(model), example)
    for name in in_place:
        copied = twin(model)
        _out_of_place(copied, [name])
        if not _close(logits(Unhooked(copied), example), wanted):
            return name
    return ", ".join(in_place)
