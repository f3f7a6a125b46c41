"""The training loop: one for a single model and for many side by side; deterministic, and gone on with where it was left."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from cardgen.draws import seed_of
from cardgen.errors import CardgenError
from cardgen.memory import ran_out
from cardgen.subjects.course import Course, Labelled, OutOfTime, Progress, TrainingData
from cardgen.subjects.resume import Saved

State = dict[str, Tensor]


@runtime_checkable
class Learners(Protocol):
    """What is trained: m models, one or several; lists have one entry a model, `rows` one row of indices a model."""

    device: torch.device

    def parameters(self) -> list[Tensor]:
        """What the optimiser changes."""

    def prepare(self, labelled: Labelled, size: int) -> None:
        """Find out, by a step that leaves nothing behind, how batches of that size are best taken."""

    def train(self, mode: bool) -> None:
        """Go into training mode, or into evaluation mode."""

    def backward(self, labelled: Labelled, rows: Int64[Tensor, "m b"]) -> Tensor:
        """Add the gradients of each model's loss, the mean over its batch, and return the sum of the losses."""

    def stepped(self) -> None:
        """Called after each step of the optimiser."""

    def accuracies(self, labelled: Labelled, first: int) -> list[float | None]:
        """Share of images whose largest logit is the label's; images count from `first` on."""

    def state(self, member: int) -> State:
        """A copy of a model's parameters and buffers."""

    def put(self, member: int, state: State) -> None:
        """Put such a copy into a model."""


@dataclass
class Training:
    """A training that has begun, or that goes on from a checkpoint.

    Attributes:
        learners: what is trained.
        course: the recipe.
        draws: each model's generator, which its batches are drawn from.
        progress: each model's.
        kept: each model's best, or final, weights, where they are not the ones that it has.
    """

    learners: Learners
    course: Course
    draws: Sequence[torch.Generator]
    progress: list[Progress] = field(init=False)
    kept: list[State | None] = field(init=False)
    schedule: torch.optim.lr_scheduler.OneCycleLR | None = field(init=False, default=None)
    prepared: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.progress = [Progress(ended=self.course.epochs <= 0) for _ in self.draws]
        self.kept = [None for _ in self.draws]
        self.optimiser = torch.optim.AdamW(self.learners.parameters(), weight_decay=self.course.weight_decay)

    @property
    def epochs(self) -> int:
        """Those that have been taken."""
        return max(progress.epochs for progress in self.progress)

    @property
    def ended(self) -> bool:
        """Whether the weights of all models are final."""
        return all(progress.ended for progress in self.progress)

    def cycle(self, steps: int) -> None:
        """Set up the learning rate's one cycle of so many steps."""
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, self.course.learning_rate, total_steps=steps
        )

    def content(self) -> dict[str, Any]:
        """All that going on needs, as tensors, numbers and words."""
        assert self.schedule is not None
        return {
            "weights": [self.learners.state(member) for member in range(len(self.draws))],
            "kept": self.kept,
            "progress": [asdict(progress) for progress in self.progress],
            "draws": [generator.get_state() for generator in self.draws],
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def go_on_from(self, content: dict[str, Any]) -> None:
        """Be where the training was that this is the content of."""
        self.cycle(content["schedule"]["total_steps"])
        assert self.schedule is not None
        self.optimiser.load_state_dict(content["optimiser"])
        self.schedule.load_state_dict(content["schedule"])
        self.progress = [Progress(**progress) for progress in content["progress"]]
        self.kept = content["kept"]
        for member, generator in enumerate(self.draws):
            self.learners.put(member, content["weights"][member])
            generator.set_state(content["draws"][member])

    def prepare(self, labelled: Labelled) -> None:
        """Let the learners find out how they take batches, once."""
        if not self.prepared:
            self.learners.prepare(labelled, self.course.batch_size)
        self.prepared = True

    def batches(self, n: int) -> list[Int64[Tensor, "m b"]]:
        """The next epoch's batches: a permutation of n images a model, cut."""
        orders = torch.stack([torch.randperm(n, generator=generator) for generator in self.draws])
        cut = list(torch.split(orders, self.course.batch_size, dim=1))
        if len(cut) > 1 and cut[-1].shape[1] == 1 < self.course.batch_size:
            cut[-2:] = [torch.cat(cut[-2:], dim=1)]
        return cut

    def step(self, labelled: Labelled, rows: Int64[Tensor, "m b"]) -> Tensor:
        """One step of the optimiser; the sum of the models' losses before it."""
        assert self.schedule is not None
        self.optimiser.zero_grad()
        loss = self.learners.backward(labelled, rows)
        self.optimiser.step()
        self.schedule.step()
        self.learners.stepped()
        return loss

    def note(self, training: Sequence[float | None], held_out: Sequence[float | None]) -> None:
        """Count an epoch, and keep the weights that are the best so far, or final while others' are not."""
        for member in [k for k, progress in enumerate(self.progress) if not progress.ended]:
            better = self.progress[member].note(self.course, training[member], held_out[member])
            last = self.progress[member].ended and self.kept[member] is None
            if (better and self.course.patience is not None) or (last and len(self.draws) > 1):
                self.kept[member] = self.learners.state(member)


def train(
    learners: Learners,
    data: TrainingData,
    course: Course,
    seeds: Sequence[int],
    draws: Sequence[torch.Generator],
    saved: Saved,
    deadline: float | None,
) -> tuple[list[Progress], Labelled]:
    """Take epochs until every model has ended, and leave each with its best weights where the course has patience.

    How far each came, and the images and labels of the last epoch, are returned.

    Raises:
        OutOfTime: `time.monotonic()` has reached the deadline.
        CardgenError: the loss is not finite, memory ran out, or early stopping has nothing to go by.
    """
    if course.patience is not None and data.held_out is None:
        raise CardgenError(
            f"a patience of {course.patience} epochs, and no held-out images; expected some to tell by when to stop; hold some out"
        )
    training = Training(learners, course, draws)
    if content := saved.load():
        training.go_on_from(content)
        saved.tell(f"goes on after {training.epochs} of {course.epochs} epochs")
    labelled = None
    try:
        while not training.ended:
            labelled = _epoch(training, data, seeds, saved, deadline)
            saved.save(training.content())
    except Exception as error:
        if not ran_out(error):
            raise
        raise CardgenError(
            f"memory ran out while training, with batches of {course.batch_size} images; expected it to suffice; train on another device"
        ) from error
    for member, state in enumerate(training.kept):
        if state is not None:
            learners.put(member, state)
    learners.train(False)
    return training.progress, labelled or data.epoch(max(training.epochs - 1, 0))


def _epoch(
    training: Training, data: TrainingData, seeds: Sequence[int], saved: Saved, deadline: float | None
) -> Labelled:
    learners, k = training.learners, training.epochs
    seed_global(learners.device, *seeds, "data", k)
    labelled = data.epoch(k)
    learners.train(True)
    training.prepare(labelled)
    seed_global(learners.device, *seeds, "steps", k)
    batches = training.batches(len(labelled[1]))
    if training.schedule is None:
        training.cycle(training.course.epochs * len(batches))
    total = torch.zeros((), device=learners.device)
    for rows in batches:
        if deadline is not None and time.monotonic() >= deadline:
            raise _out_of_time(k, training.course.epochs, saved)
        total += training.step(labelled, rows)
    mean = float(total) / len(batches) / len(seeds)
    if not math.isfinite(mean):
        raise CardgenError(
            f"the loss became {mean} in epoch {k + 1} of {training.course.epochs}; expected a finite number; "
            f"lower the learning rate from {training.course.learning_rate:g}"
        )
    learners.train(False)
    unknown: list[float | None] = [None for _ in seeds]
    stops = training.course.enough is not None, training.course.patience is not None
    learnt = learners.accuracies(labelled, 0) if stops[0] else unknown
    held_out = learners.accuracies(data.held_out, len(labelled[1])) if stops[1] and data.held_out else unknown
    training.note(learnt, held_out)
    saved.tell(f"epoch {k + 1} of {training.course.epochs}: loss {mean:.3f}{_said(learnt, held_out)}")
    return labelled


def _said(learnt: Sequence[float | None], held_out: Sequence[float | None]) -> str:
    named = {"training": [v for v in learnt if v is not None], "held-out": [v for v in held_out if v is not None]}
    return "".join(f", {name} accuracy {sum(values) / len(values):.3f}" for name, values in named.items() if values)


def _out_of_time(epochs: int, of: int, saved: Saved) -> OutOfTime:
    again = "run again to go on from there, or raise --train-budget" if saved.path else "raise --train-budget"
    return OutOfTime(
        f"training was stopped after {epochs} of {of} epochs, as its time was over; expected all of them; {again}"
    )


def seed_global(device: torch.device, *parts: object) -> None:
    """Seed torch's global generators, of the CPU and of the device, which dropout draws from."""
    seed = seed_of(*parts)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Gradients are recorded, kernels are deterministic ones, and torch's global generators are put back."""
    devices = [device] if device.type == "cuda" else []
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
