"""Training one model: a sibling, an embedded model, a masking network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import logits, with_classes
from cardgen.memory import free, ran_out
from cardgen.subjects.course import Course, Labelled, OutOfTime, TrainingData
from cardgen.subjects.initial import initialise
from cardgen.subjects.loop import State, train, undisturbed
from cardgen.subjects.resume import Saved, identity

__all__ = ["Course", "Fitted", "Labelled", "Loss", "OutOfTime", "TrainingData", "accuracy", "cross_entropy", "fit"]

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
EVALUATED = 128
"""Images at once where no gradients are needed."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model.

    Attributes:
        model: in evaluation mode.
        epochs: those it took; fewer than the course's where it was stopped early.
        training_accuracy: of these weights, in evaluation mode, on the images of the last epoch; None where the model's outputs are
            not logits.
        held_out_accuracy: the same on the held-out images; None where there are none, too.
    """

    model: nn.Module
    epochs: int
    training_accuracy: float | None
    held_out_accuracy: float | None


def cross_entropy(model: nn.Module, inputs: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the model's logits."""
    return nn.functional.cross_entropy(logits(model, inputs), labels)


def silent(_: str) -> None:
    """Tell nobody."""


def fit(
    model: nn.Module,
    data: TrainingData,
    course: Course,
    seed: int,
    *,
    loss: Loss = cross_entropy,
    after_step: Callable[[nn.Module], None] | None = None,
    checkpoint: Path | None = None,
    deadline: float | None = None,
    tell: Callable[[str], None] = silent,
) -> Fitted:
    """Train `model`, which is changed in place, and give it back in evaluation mode, on the device that it is on.

    All parameters are trained, frozen ones too; their flags are put back. The same recipe, data, machine, versions and threads give the
    same weights: first weights and batches are drawn from a generator seeded by `seed`, and torch's global generators, which dropout
    draws from, are seeded by (seed, epoch), and put back. On CUDA, steps are taken in bfloat16 where autocast finds that safe.
    Where memory runs out, batches are taken in parts, whose gradients are added up; batch normalisation then sees the parts.

    Args:
        model: to train; any that takes images [n, c, h, w].
        data: what to train on.
        course: the recipe.
        seed: of all draws.
        loss: from model, inputs and labels to the mean loss of a batch; images are in channels-last layout if that suits the model.
        after_step: called after each step of the optimiser, to keep pruned weights at zero, say.
        checkpoint: file to keep weights, optimiser and bookkeeping in after each epoch; where it is there already, training goes on from
            it, to the same weights bit for bit. One of another model, recipe, data or seed, or a damaged one, is overwritten; `loss` and
            `after_step` are not compared. It stays when all is done, for the caller to delete.
        deadline: of `time.monotonic()`.
        tell: is told of every epoch.

    Raises:
        OutOfTime: the deadline has passed; finished epochs are in the checkpoint.
        CardgenError: a model without parameters, labels that are no classes of it, a loss that is not finite, too little memory, or early
            stopping without held-out images.
    """
    first = next(model.parameters(), None)
    if first is None:
        raise CardgenError("the model has no parameters; expected weights that can be trained; choose another model")
    with undisturbed(first.device), trainable(model):
        draws = torch.Generator().manual_seed(seed)
        if course.fresh:
            initialise(model, draws)
        saved = Saved(checkpoint, identity([model], data, course, [seed]), tell)
        learner = Alone(model, data, loss, after_step, saved.tell)
        try:
            (progress,), labelled = train(learner, data, course, [seed], [draws], saved, deadline)
        finally:
            model.to(memory_format=torch.contiguous_format).eval()
        learnt = accuracy(model, data, labelled)
        held_out = accuracy(model, data, data.held_out) if data.held_out else None
    return Fitted(model, progress.epochs, learnt, held_out)


@contextmanager
def trainable(model: nn.Module) -> Iterator[None]:
    """All parameters require gradients; flags are put back, and gradients let go, on the way out."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(parameter.is_floating_point())
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag).grad = None


class Alone:
    """One model as what the loop trains."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        loss: Loss,
        after_step: Callable[[nn.Module], None] | None,
        tell: Callable[[str], None],
    ) -> None:
        self.model, self.data, self.loss, self.after_step, self.tell = model, data, loss, after_step, tell
        self.device = next(model.parameters()).device
        self.layout = torch.contiguous_format
        self.parts = 1

    def parameters(self) -> list[Tensor]:
        return list(self.model.parameters())

    def train(self, mode: bool) -> None:
        self.model.train(mode)

    def prepare(self, labelled: Labelled, size: int) -> None:
        """Channels last, which trains half as fast again, unless the model cannot; as few parts as fit into memory."""
        before = {name: value.clone() for name, value in self.model.named_buffers()}
        rows = torch.arange(min(size, len(labelled[1])))[None]
        if self.loss is cross_entropy:
            check_labels(self.model, self.data, labelled)
        self._lay_out(torch.channels_last)
        while not self._fits(labelled, rows):
            free()
        self.put(0, before)

    def _fits(self, labelled: Labelled, rows: Int64[Tensor, "1 b"]) -> bool:
        """Whether the batch can be taken; the layout or the number of parts is another one afterwards if not."""
        try:
            self.backward(labelled, rows)
            return True
        except Exception as error:
            if "view size is not compatible" in str(error) and self.layout == torch.channels_last:
                self._lay_out(torch.contiguous_format)
            elif ran_out(error) and rows.shape[1] >= 4 * self.parts:
                self.parts *= 2
                self.tell(f"memory ran out: batches are taken in {self.parts} parts")
            else:
                raise
            return False

    def _lay_out(self, layout: torch.memory_format) -> None:
        self.layout = layout
        self.model.to(memory_format=layout)

    def _inputs(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.data.inputs(images.to(self.device)).contiguous(memory_format=self.layout)

    def backward(self, labelled: Labelled, rows: Int64[Tensor, "1 b"]) -> Float[Tensor, ""]:
        images, labels = labelled
        total = torch.zeros((), device=self.device)
        for part in torch.chunk(rows[0], self.parts):
            inputs = self._inputs(images[part.to(images.device)])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = self.loss(self.model, inputs, labels[part.to(labels.device)].to(self.device))
            loss = loss if self.parts == 1 else loss * (len(part) / rows.shape[1])
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    @torch.no_grad()
    def stepped(self) -> None:
        if self.after_step is not None:
            self.after_step(self.model)

    def accuracies(self, labelled: Labelled, first: int) -> list[float | None]:
        return [accuracy(self.model, self.data, labelled)]

    def state(self, member: int) -> State:
        return {name: value.detach().clone() for name, value in tensors(self.model).items()}

    def put(self, member: int, state: State) -> None:
        own = tensors(self.model)
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)


def check_labels(model: nn.Module, data: TrainingData, labelled: Labelled) -> None:
    """Refuse labels that are no classes of the model: on CUDA they are an error that nothing can be done after."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad():
        with_classes(logits(model, data.inputs(labelled[0][:2].to(device))), labelled[1])
    model.train(training)


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def accuracy(model: nn.Module, data: TrainingData, labelled: Labelled) -> float | None:
    """Share of images whose largest logit is the label's, in [0, 1], higher is better; None where outputs are no logits."""
    device, right = next(model.parameters()).device, 0
    images, labels = labelled
    for rows in torch.split(torch.arange(len(labels)), EVALUATED):
        batch, wanted = images[rows.to(images.device)].to(device), labels[rows.to(labels.device)].to(device)
        inputs = data.inputs(batch)
        try:
            scores = logits(model, inputs)
        except CardgenError:
            return None
        right += int((scores.argmax(dim=1) == wanted).sum())
    return right / len(labels)
