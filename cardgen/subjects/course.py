"""What a training is: its data, its recipe, and when it ends."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Int64, UInt8
from torch import Tensor

from cardgen.errors import CardgenError

Labelled = tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, " n"]]


class OutOfTime(CardgenError):
    """The time that was given is over before the training is; epochs that were finished are kept where there is a checkpoint."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Images and labels to train on.

    Attributes:
        epoch: gives the images (uint8) and labels of the k-th epoch, k from 0; all epochs are of one length. What it draws must
            depend on k alone.
        inputs: normalises a batch of images to the model's space, float32, on the device that the batch is on.
        digest: identity of the data; part of a sibling's key, and of a checkpoint's.
        held_out: images and labels that are not trained on, for early stopping.
    """

    epoch: Callable[[int], Labelled]
    inputs: Callable[[Tensor], Tensor]
    digest: str
    held_out: Labelled | None = None


@dataclass(frozen=True)
class Course:
    """The recipe: AdamW (Loshchilov & Hutter 2019) with a one-cycle learning rate (Smith & Topin 2018).

    Attributes:
        epochs: passes over the data, at most.
        batch_size: images a step; a last batch of one image, which batch normalisation refuses, joins the one before.
        learning_rate: the highest of the cycle.
        weight_decay: AdamW's.
        patience: this many epochs without better held-out accuracy end it, and the best weights are returned; None never does. Like
            `enough`, for models whose outputs are logits.
        enough: accuracy on the training images that ends it, in [0, 1]; None never does.
        fresh: from new initial weights; from those that the model has, if false.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    patience: int | None = None
    enough: float | None = None
    fresh: bool = True


@dataclass
class Progress:
    """How far the training of one model has come.

    Attributes:
        epochs: those it has taken.
        best: the best held-out accuracy; -1 before the first.
        since: epochs since then.
        ended: whether its weights are final.
    """

    epochs: int = 0
    best: float = -1.0
    since: int = 0
    ended: bool = False

    def note(self, course: Course, training: float | None, held_out: float | None) -> bool:
        """Count an epoch after which the accuracies are these; True where its weights are the best so far."""
        self.epochs += 1
        better = held_out is not None and held_out > self.best
        self.since = 0 if better else self.since + 1
        if better and held_out is not None:
            self.best = held_out
        learnt = course.enough is not None and training is not None and training >= course.enough
        tired = course.patience is not None and self.since >= course.patience
        self.ended = learnt or tired or self.epochs >= course.epochs
        return better
