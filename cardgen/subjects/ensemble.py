"""Many models of one architecture, each on its own version of the same data: trained together, or one after another."""

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from cardgen.forward import logits
from cardgen.memory import free, ran_out
from cardgen.subjects.course import Course, Labelled, OutOfTime, TrainingData
from cardgen.subjects.fitting import EVALUATED, Fitted, check_labels, fit, silent, tensors, trainable
from cardgen.subjects.initial import initialise
from cardgen.subjects.loaded_model import first_line
from cardgen.subjects.loop import State, train, undisturbed
from cardgen.subjects.resume import Saved, identity, part

Change = Callable[[int, Tensor, Tensor], Tensor]
"""From a member's number, rows (indices, on the CPU) and their images (uint8, on the model's device) to that member's version of them.
Rows count the epoch's images, and go on with the held-out ones."""


class Refused(Exception):
    """Why models cannot be trained together."""


class TooMany(Exception):
    """Memory does not suffice for so many models together."""


def fit_ensemble(
    model: nn.Module,
    data: TrainingData,
    course: Course,
    seeds: Sequence[int],
    change: Change,
    *,
    together: bool | None = None,
    checkpoint: Path | None = None,
    deadline: float | None = None,
    tell: Callable[[str], None] = silent,
) -> list[Fitted]:
    """Train copies of `model`, one a seed, by the mean cross-entropy, each on its own version of the images; `model` stays as it is.

    Member i gets the weights that `fit` alone gives it with its seed and its images: bit for bit one after another, to rounding
    together; dropout apart, whose draws are its own either way. Training accuracies are on a member's own version of the images.

    Together, the members' parameters are stacked and one step is taken of all, by `torch.func`; their losses are added up, and as no
    loss depends on another's parameters, neither do the gradients. Batch normalisation keeps each member's own statistics. Convolutions
    become grouped ones, which suit CPUs badly: 15 of the embedded SmallCNN in batches of 64 took 2.5 times as long together as one
    after another, on one thread (benchmarks/ensemble.py). So the rule is: one after another, but together on CUDA, where it was not
    measured. Where torch cannot take the architecture together it is one after another too, and where memory does not suffice for all
    they are taken in halves.

    Args:
        model: the architecture; the first weights too, where the course is not fresh.
        data: what all versions are made from; its digest is to tell `change` apart, which is not compared otherwise.
        course: the recipe.
        seeds: one a member.
        change: gives a member's version of a batch of images.
        together: overrides the rule.
        checkpoint: files of this name with an ending are kept; `resume.forget` deletes them.
        deadline: of `time.monotonic()`.
        tell: is told of every epoch.

    Raises:
        OutOfTime, CardgenError: as `fit` does.
    """
    run = Run(model, data, course, seeds, change, checkpoint, deadline, tell)
    if (next(model.parameters()).device.type == "cuda" if together is None else together) and len(seeds) > 1:
        try:
            return _together(run, range(len(seeds)))
        except Refused as error:
            tell(f"the models cannot be trained together ({error}); they are trained one after another")
    return [_alone(run, number) for number in range(len(seeds))]


@dataclass(frozen=True, eq=False)
class Run:
    """What `fit_ensemble` was asked for."""

    model: nn.Module
    data: TrainingData
    course: Course
    seeds: Sequence[int]
    change: Change
    checkpoint: Path | None
    deadline: float | None
    tell: Callable[[str], None]

    @cached_property
    def length(self) -> int:
        """Images an epoch."""
        return len(self.data.epoch(0)[1])


def _alone(run: Run, number: int) -> Fitted:
    """Train one member by `fit`, on all its images changed."""
    device, name = next(run.model.parameters()).device, f"model {number + 1} of {len(run.seeds)}"

    def changed(labelled: Labelled, first: int) -> Labelled:
        rows = torch.split(torch.arange(len(labelled[1])), EVALUATED)
        images = [
            run.change(number, first + some, labelled[0][some.to(labelled[0].device)].to(device)) for some in rows
        ]
        return torch.cat(images), labelled[1]

    held_out = run.data.held_out and changed(run.data.held_out, run.length)
    own = TrainingData(
        lambda k: changed(run.data.epoch(k), 0), run.data.inputs, f"{run.data.digest} {number}", held_out
    )
    try:
        return fit(
            copy.deepcopy(run.model),
            own,
            run.course,
            run.seeds[number],
            checkpoint=part(run.checkpoint, str(number)),
            deadline=run.deadline,
            tell=lambda text: run.tell(f"{name}: {text}"),
        )
    except OutOfTime as error:
        raise OutOfTime(f"{name}: {error}") from None


def _together(run: Run, numbers: range) -> list[Fitted]:
    """Train some members together; in two halves if they are too many."""
    if len(numbers) == 1:
        return [_alone(run, numbers[0])]
    try:
        return _stacked(run, numbers)
    except TooMany:
        pass
    free()
    middle = len(numbers) // 2
    run.tell(f"memory ran out: {len(numbers)} models are trained in two halves")
    return _together(run, numbers[:middle]) + _together(run, numbers[middle:])


def _stacked(run: Run, numbers: range) -> list[Fitted]:
    models, seeds = [copy.deepcopy(run.model) for _ in numbers], [run.seeds[number] for number in numbers]
    device = next(run.model.parameters()).device
    with undisturbed(device), ExitStack() as flags:
        for model in models:
            flags.enter_context(trainable(model))
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        if run.course.fresh:
            for model, generator in zip(models, draws, strict=True):
                initialise(model, generator)
        known = identity(models, run.data, run.course, [*seeds, *numbers])
        saved = Saved(part(run.checkpoint, f"{numbers[0]}-{numbers[-1]}"), known, run.tell)
        learners = Stacked(models, numbers, run.data, run.change)
        progress, labelled = train(learners, run.data, run.course, seeds, draws, saved, run.deadline)
        learnt = learners.accuracies(labelled, 0)
        unknown: list[float | None] = [None for _ in numbers]
        held_out = learners.accuracies(run.data.held_out, len(labelled[1])) if run.data.held_out else unknown
        learners.unstack()
    found = zip(models, progress, learnt, held_out, strict=True)
    return [Fitted(model.eval(), taken.epochs, of, out) for model, taken, of, out in found]


class Scores(nn.Module):
    """A model's logits, whatever it returns them in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        return logits(self.model, inputs)


class Stacked:
    """Models of one architecture as what the loop trains: each parameter and buffer is a stack of all members'."""

    def __init__(self, models: Sequence[nn.Module], numbers: Sequence[int], data: TrainingData, change: Change) -> None:
        self.models, self.numbers, self.data, self.change = models, numbers, data, change
        self.device = next(models[0].parameters()).device
        self.stacks, self.buffers = stack_module_state([Scores(model) for model in models])
        self.skeleton = Scores(copy.deepcopy(models[0]))

    def parameters(self) -> list[Tensor]:
        return list(self.stacks.values())

    def train(self, mode: bool) -> None:
        self.skeleton.train(mode)

    def prepare(self, labelled: Labelled, size: int) -> None:
        check_labels(self.models[0], self.data, labelled)
        before = {name: value.clone() for name, value in self.buffers.items()}
        rows = torch.arange(min(size, len(labelled[1]))).expand(len(self.models), -1)
        try:
            self.backward(labelled, rows)
        except Exception as error:  # torch has no class for what vmap cannot do
            raise TooMany if ran_out(error) else Refused(first_line(error)) from error
        for name, value in self.buffers.items():
            value.copy_(before[name])

    def _batch(self, labelled: Labelled, rows: Int64[Tensor, "m b"], first: int) -> tuple[Tensor, Tensor]:
        images, labels = labelled
        changed = [
            self.change(number, first + some, images[some.to(images.device)].to(self.device))
            for number, some in zip(self.numbers, rows, strict=True)
        ]
        inputs = self.data.inputs(torch.cat(changed))
        return inputs.view(*rows.shape, *inputs.shape[1:]), labels[rows.to(labels.device)].to(self.device)

    def _scores(self, inputs: Float[Tensor, "m b c h w"]) -> Float[Tensor, "m b k"]:
        def one(parameters: State, buffers: State, images: Tensor) -> Tensor:
            return cast(Tensor, functional_call(self.skeleton, (parameters, buffers), (images,)))

        return vmap(one, randomness="different")(self.stacks, self.buffers, inputs)

    def backward(self, labelled: Labelled, rows: Int64[Tensor, "m b"]) -> Float[Tensor, ""]:
        inputs, labels = self._batch(labelled, rows, 0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            scores = self._scores(inputs)
        losses = nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none")
        loss = losses.view(rows.shape).mean(1).sum()
        torch.autograd.backward(loss)
        return loss.detach()

    def stepped(self) -> None:
        """Nothing is to be done."""

    @torch.no_grad()
    def accuracies(self, labelled: Labelled, first: int) -> list[float | None]:
        right = torch.zeros(len(self.models), dtype=torch.int64, device=self.device)
        for some in torch.split(torch.arange(len(labelled[1])), EVALUATED):
            inputs, labels = self._batch(labelled, some.expand(len(self.models), -1), first)
            right += (self._scores(inputs).argmax(2) == labels).sum(1)
        return [count / len(labelled[1]) for count in right.tolist()]

    def state(self, member: int) -> State:
        return {name: value[member].detach().clone() for name, value in (self.stacks | self.buffers).items()}

    def put(self, member: int, state: State) -> None:
        with torch.no_grad():
            for name, value in (self.stacks | self.buffers).items():
                value[member].copy_(state[name])

    def unstack(self) -> None:
        """Put each member's weights into its model."""
        with torch.no_grad():
            for member, model in enumerate(self.models):
                for name, value in self.state(member).items():
                    tensors(model)[name.removeprefix("model.")].copy_(value)
