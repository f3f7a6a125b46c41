"""Forward passes: the model kept as it was, logits whatever it returns, and many variants of each sample in full batches."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError


@runtime_checkable
class Write(Protocol):
    """Writes variants first…last−1 of sample i into `out`, a slice of the batch's buffer."""

    def __call__(self, i: int, first: int, last: int, out: Tensor) -> None: ...


@contextmanager
def prepared(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode with its parameters frozen; modes and flags are put back on the way out."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class Counter:
    """A forward hook that calls `add` with the samples of every pass; copies of a model share it."""

    def __init__(self, add: Callable[[int], None]) -> None:
        self.add = add

    def __call__(self, _: nn.Module, arguments: tuple[Any, ...], __: Any) -> None:
        self.add(arguments[0].shape[0] * (2 if torch.is_grad_enabled() else 1))

    def __deepcopy__(self, memo: object) -> "Counter":
        return self


@contextmanager
def counted(model: nn.Module, add: Callable[[int], None]) -> Iterator[None]:
    """Calls `add` with the samples of every forward pass; a pass that records gradients counts twice, for its backward pass."""
    handle = model.register_forward_hook(Counter(add))
    try:
        yield
    finally:
        handle.remove()


def uncounted(copy: nn.Module) -> nn.Module:
    """A copy of a model, without the counters that came along."""
    for key, hook in list(copy._forward_hooks.items()):
        if isinstance(hook, Counter):
            del copy._forward_hooks[key]
    return copy


def count(model: nn.Module, samples: int) -> None:
    """Tell whoever counts the passes of a model of samples that others forwarded for it."""
    for hook in model._forward_hooks.values():
        if isinstance(hook, Counter):
            hook.add(samples)


def logits(model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """The model's scores before the softmax, in float32.

    They may lie in an attribute or entry called logits, or be the one tensor `[n, k]` of a dict.

    Raises:
        CardgenError: the model needs more than one input, writes into it, or returns something other than one row of class scores a
            sample.
    """
    before = _version(inputs)
    returned = _called(model, inputs)
    if _version(inputs) != before:
        raise CardgenError(
            "the model writes into its inputs, so that whoever asks next would ask of others; expected inputs left as they are; "
            "begin the model's forward with inputs = inputs.clone()"
        )
    output = _scores(returned, len(inputs))
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != inputs.shape[0]:
        raise CardgenError(
            f"the model returned {_described(returned)}; expected logits of shape ({inputs.shape[0]}, classes); wrap the model in a "
            f"module whose forward returns only these"
        )
    return output.float()


def _version(inputs: Tensor) -> int:
    """How often a tensor was written into; torch does not count it for those made in inference mode."""
    return 0 if inputs.is_inference() else inputs._version


def _called(model: nn.Module, inputs: Tensor) -> object:
    try:
        return model(inputs)
    except TypeError:
        parameters = inspect.signature(model.forward).parameters.values()
        needed = [
            p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        ]
        if len(needed) < 2:
            raise
    raise CardgenError(
        f"the model's forward needs {', '.join(needed)}; expected one input, the images; wrap the model in a module that "
        f"fills in the others"
    )


def _scores(output: object, n: int) -> object:
    """What of a model's output may be its scores."""
    output = getattr(output, "logits", output)
    if not isinstance(output, Mapping):
        return output
    rows = [value for value in output.values() if isinstance(value, Tensor) and value.ndim == 2 and len(value) == n]
    return output.get("logits", rows[0] if len(rows) == 1 else output)


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        return f"a dict of {', '.join(f'{key} {_described(value)}' for key, value in output.items())}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(map(_described, output))}"
    return type(output).__name__


def all_finite(values: Tensor) -> bool:
    """Whether there is neither NaN nor infinity among floats: of both their extremes tell, at a twentieth of `isfinite`'s time on CPUs."""
    return not values.numel() or bool(torch.stack(values.aminmax()).isfinite().all())


def target_logits(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """s_c(x): each sample's logit of its own target class."""
    return with_classes(logits(model, inputs), targets).gather(1, targets[:, None])[:, 0]


def slopes(model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """∂s_c(x)/∂x with its graph, for inputs that require gradients: what can be differentiated once more."""
    score = target_logits(model, inputs, targets).sum()
    return torch.autograd.grad(score, inputs, create_graph=True)[0].float()


def with_classes(scores: Float[Tensor, "m k"], targets: Int[Tensor, " n"]) -> Float[Tensor, "m k"]:
    """The scores, after checking that they have every target's class.

    Raises:
        CardgenError: they have not.
    """
    classes = scores.shape[1]
    low, high = torch.stack(targets.aminmax()).tolist() if len(targets) else (0, 0)
    if not 0 <= low <= high < classes:
        raise CardgenError(
            f"targets reach from {low} to {high}; expected classes 0 to {classes - 1}, "
            f"as the model gives {classes} logits; mend the targets"
        )
    return scores


@torch.no_grad()
def all_logits(model: nn.Module, inputs: Float[Tensor, "n c h w"], batch: int) -> Float[Tensor, "n k"]:
    """Logits of all classes, computed in batches."""
    return torch.cat([logits(model, inputs[i : i + batch]) for i in range(0, len(inputs), batch)])


def probabilities(model: nn.Module, inputs: Float[Tensor, "n c h w"], batch: int) -> Float[Tensor, "n k"]:
    """Softmax probabilities of all classes, computed in batches."""
    return all_logits(model, inputs, batch).softmax(1)


def variant_probabilities(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    count: int,
    write: Write,
    batch: int,
) -> Float[Tensor, "n count"]:
    """f_c of `count` variants of each sample, in full batches."""
    return variant_scores(model, inputs, targets, count, write, batch)[..., 1].exp()


def variant_log_probabilities(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    count: int,
    write: Write,
    batch: int,
) -> Float[Tensor, "n count"]:
    """log f_c of `count` variants of each sample, in full batches; finite where f_c itself would round to 0."""
    return variant_scores(model, inputs, targets, count, write, batch)[..., 1]


def variant_logits(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    count: int,
    write: Write,
    batch: int,
) -> Float[Tensor, "n count"]:
    """s_c of `count` variants of each sample, in full batches."""
    return variant_scores(model, inputs, targets, count, write, batch)[..., 0]


@torch.no_grad()
def variant_scores(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    count: int,
    write: Write,
    batch: int,
) -> Float[Tensor, "n count 2"]:
    """s_c and log f_c of `count` variants of each sample, in batches that run on from one sample to the next, so all but the last are full.

    The variants are written straight into one buffer and only the target's scores are kept, on the device: after the first
    batch nothing waits for the host.
    """
    result = torch.empty(inputs.shape[0] * count, 2, device=inputs.device)
    of_job = targets.repeat_interleave(count)
    start = 0
    for part in variants(inputs, count, write, batch):
        scores = logits(model, part)
        scores = scores if start else with_classes(scores, targets)
        stop = start + len(part)
        both = torch.stack([scores, scores.log_softmax(1)], dim=2)
        result[start:stop] = both[torch.arange(len(part), device=both.device), of_job[start:stop]]
        start = stop
    return result.view(inputs.shape[0], count, 2)


def variants(
    inputs: Float[Tensor, "n c h w"], count: int, write: Write, batch: int
) -> Iterator[Float[Tensor, "m c h w"]]:
    """`count` variants of each sample in batches that run on from one sample to the next, each in the same buffer."""
    total = inputs.shape[0] * count
    buffer = torch.empty(min(batch, max(total, 1)), *inputs.shape[1:], dtype=inputs.dtype, device=inputs.device)
    for start in range(0, total, batch):
        stop = min(start + batch, total)
        job = start
        while job < stop:
            i, first = divmod(job, count)
            last = min(count, first + stop - job)
            write(i, first, last, buffer[job - start : job - start + last - first])
            job += last - first
        yield buffer[: stop - start]
