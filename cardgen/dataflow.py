"""Which operation takes what another one gives: one forward pass, written down call by call."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cardgen.forward import prepared

SEVERAL = "?"


class Call(NamedTuple):
    """One call of a torch function that gave tensors.

    Attributes:
        name: the function's.
        module: the module whose own parameters or buffers it takes; empty if it takes none, SEVERAL if those of several modules, or
            of the model itself.
        inputs: numbers of the other tensors taken.
        outputs: numbers of the tensors given. A tensor that is written in place gets a new number.
        before: shape of the first input.
        after: shape of the first output.
        options: further positional arguments.
        named: keyword arguments.
    """

    name: str
    module: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    options: tuple[Any, ...] = ()
    named: Mapping[str, Any] = {}


class Flow:
    """The calls of one forward pass, in their order."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = list(calls)

    @cached_property
    def takers(self) -> Mapping[int, list[Call]]:
        """The calls that take a value."""
        found: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            for value in dict.fromkeys(call.inputs):
                found[value].append(call)
        return found

    @cached_property
    def once(self) -> Mapping[str, Call]:
        """Modules that take part in one call only, whose tensors no other module shares, with that call."""
        runs = Counter(call.module for call in self.calls)
        return {call.module: call for call in self.calls if call.module not in ("", SEVERAL) and runs[call.module] == 1}


def recorded(model: nn.Module, example: Float[Tensor, "n c h w"]) -> Flow:
    """The flow of the model's forward pass in evaluation mode. Hooks on the model itself are not called, so it counts as no pass."""
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            owners[id(tensor)] = SEVERAL if id(tensor) in owners else name or SEVERAL
    recorder = _Recorder(owners)
    with torch.no_grad(), prepared(model), recorder:
        model.forward(example)
    return Flow(recorder.calls)


class _Recorder(TorchFunctionMode):
    """Notes every call of a torch function; keeps all tensors alive, so that none takes another's id."""

    def __init__(self, owners: Mapping[int, str]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._owners = owners
        self._numbers: dict[int, int] = {}
        self._kept: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        given = list(_tensors([args, named]))
        inputs = [tensor for tensor in given if id(tensor) not in self._owners]
        numbers, before = tuple(map(self._number, inputs)), tuple(inputs[0].shape) if inputs else ()
        result = func(*args, **named)
        made = list(_tensors(result))
        if made:
            outputs = tuple(map(self._new, made))
            name, after = getattr(func, "__name__", ""), tuple(made[0].shape)
            self.calls.append(Call(name, self._owner(given), numbers, outputs, before, after, args[1:], named))
        return result

    def _owner(self, given: Sequence[Tensor]) -> str:
        owners = {self._owners[id(tensor)] for tensor in given if id(tensor) in self._owners}
        return owners.pop() if len(owners) == 1 else SEVERAL if owners else ""

    def _number(self, tensor: Tensor) -> int:
        return self._numbers[id(tensor)] if id(tensor) in self._numbers else self._new(tensor)

    def _new(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        self._numbers[id(tensor)] = len(self._kept)
        return len(self._kept)


def _tensors(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, Mapping):
        yield from _tensors(list(item.values()))
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _tensors(part)
