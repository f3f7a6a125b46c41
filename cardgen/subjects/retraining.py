"""Training a model's architecture anew on changed images: what metrics that remove and retrain need of a subject."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from cardgen import draws
from cardgen.digests import digest
from cardgen.subjects.course import Course, TrainingData
from cardgen.subjects.ensemble import fit_ensemble
from cardgen.subjects.fitting import silent
from cardgen.subjects.own_training import own_digest, own_fit
from cardgen.subjects.resume import forget

VERSION = 1
"""Raised when training gives other weights."""
FOLDER = ".retraining"
"""In the subject's folder of the store; not committed, and empty when nothing is interrupted."""
Change = Callable[[int, Int64[Tensor, " m"], UInt8[Tensor, "m c h w"]], UInt8[Tensor, "m c h w"]]
"""From the number of a model, rows of the training images, and these images, to what the model sees in their place."""


@dataclass(frozen=True, eq=False)
class Picked:
    """Training images.

    Attributes:
        images: as they are stored.
        labels: their classes.
        ids: their names, by their place in all of the data, from which random draws are seeded.
    """

    images: UInt8[Tensor, "m c h w"]
    labels: Int64[Tensor, " m"]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Retraining:
    """What there is to train the model's architecture anew with.

    Attributes:
        data: of which the first epoch's images serve all epochs, since what is removed belongs to an image.
        course: the recipe; how many epochs it takes is the metric's to say, and it is never ended early.
        own: the user's function, `path.py:fit`, in the recipe's place; empty where there is none.
        target: how the class explained is chosen, as for the samples.
        folder: for checkpoints; without one, what is interrupted begins anew.
        deadline: on the monotonic clock; None where there is none.
        tell: is given a line on each epoch.
    """

    data: TrainingData
    course: Course
    own: str = ""
    target: str = "predicted"
    folder: Path | None = None
    deadline: float | None = None
    tell: Callable[[str], None] = silent

    @cached_property
    def identity(self) -> str:
        """Digest of all that the weights depend on, but for images, epochs and seeds, which are the metric's parameters."""
        recipe = own_digest(self.own) if self.own else asdict(self._course(0))
        return digest([VERSION, self.data.digest, recipe])

    def picked(self, images: int, seed: int) -> Picked:
        """So many of the images, or all if they are fewer: the first of a random order, the same for any number."""
        pictures, labels = self.data.epoch(0)
        rows = torch.randperm(len(labels), generator=draws.generator(seed, "training images"))[:images]
        ids = tuple(f"train-{row}" for row in rows.tolist())
        return Picked(pictures[rows.to(pictures.device)], labels[rows.to(labels.device)], ids)

    def explained(self, predicted: Int64[Tensor, " m"], labels: Int64[Tensor, " m"]) -> Int64[Tensor, " m"]:
        """The class explained of training images: the prediction, the label, or one class for all, as the samples'."""
        if self.target == "label":
            return labels
        return torch.full_like(predicted, int(self.target)) if self.target.isdecimal() else predicted

    def models(
        self, blank: nn.Module, picked: Picked, epochs: int, seeds: Sequence[int], change: Change, what: str
    ) -> list[nn.Module]:
        """One model a seed, trained from new weights on the images as `change` gives them for its place in `seeds`.

        Args:
            blank: of the architecture; its weights do not matter.
            picked: the images.
            epochs: of the built-in recipe.
            seeds: of first weights and of the order of images; models of one seed begin alike and go through the images alike.
            change: of the images.
            what: identity of the change, since a checkpoint goes with it.

        Raises:
            CardgenError: out of time, or whatever the user's function does wrong.
        """
        identity = digest([self.data.digest, picked.ids, what])
        data = TrainingData(lambda k: (picked.images, picked.labels), self.data.inputs, identity)
        if self.own:
            device = next(blank.parameters()).device
            return [
                own_fit(self.own, _changed(data, member, change), seed).to(device) for member, seed in enumerate(seeds)
            ]
        checkpoint = self.folder / f"{identity}.part" if self.folder else None
        found = fit_ensemble(
            blank,
            data,
            self._course(epochs),
            seeds,
            change,
            checkpoint=checkpoint,
            deadline=self.deadline,
            tell=self.tell,
        )
        if checkpoint:
            forget(checkpoint)
        return [fitted.model for fitted in found]

    def _course(self, epochs: int) -> Course:
        return replace(self.course, epochs=epochs, patience=None, enough=None, fresh=True)


def _changed(data: TrainingData, member: int, change: Change) -> TrainingData:
    """The data as one model is to see it."""
    images, labels = data.epoch(0)
    seen = change(member, torch.arange(len(labels)), images)
    return replace(data, epoch=lambda k: (seen, labels))


def last_epochs(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Tells of a network's last epoch alone: where so many are trained, one line each is enough."""

    def told(line: str) -> None:
        epoch = re.search(r"epoch (\d+) of (\d+)", line)
        if epoch is None or epoch[1] == epoch[2]:
            tell(line)

    return told
