"""How siblings are trained: of one kind each by one course, on the data that there is, by the built-in recipe or by the user's function."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from cardgen import draws
from cardgen.digests import SHORT, digest
from cardgen.recipes import Sibling
from cardgen.records import Value
from cardgen.repair import copied
from cardgen.study import Subject
from cardgen.subjects.compression import at_zero, smallest
from cardgen.subjects.fitting import Course, Fitted, Labelled, TrainingData, accuracy, fit
from cardgen.subjects.masker_training import masker_loss
from cardgen.subjects.own_training import own_digest, own_fit
from cardgen.subjects.retraining import Retraining, last_epochs

VERSION = 1
"""Raised when training gives other weights."""
INT8 = Sibling("compressed", "int8")
COURSES: Mapping[str, Course] = {
    "seed": Course(epochs=60, patience=20),
    "architecture": Course(epochs=60, patience=20),
    "random-labels": Course(epochs=200, enough=0.99),
    "compressed": Course(epochs=3, learning_rate=4e-4, fresh=False),
    "masker": Course(epochs=5),
}
"""By kind. The embedded models' own seeds and architectures take as many epochs as they did, without stopping early."""


@dataclass(frozen=True, eq=False)
class Raising:
    """What there is to train with.

    Attributes:
        data: with the labels that the model learnt.
        own: the user's function, `path.py:fit`; the built-in recipe where it is empty.
        courses: of the built-in recipe, by kind.
        deadline: on the monotonic clock; None where there is none.
        tell: is given a line on each epoch.
    """

    data: TrainingData
    own: str = ""
    courses: Mapping[str, Course] = field(default_factory=lambda: COURSES)
    deadline: float | None = None
    tell: Callable[[str], None] = lambda line: None

    def raises(self, sibling: Sibling) -> bool:
        """Whether it can be trained from what there is: other labels of the same images cannot be made up."""
        return sibling.kind in self.courses

    def retraining(self, folder: Path, target: str) -> Retraining:
        """The same for metrics that train the model's architecture anew, and keep checkpoints in a folder."""
        tell = last_epochs(self.tell)
        return Retraining(
            self.data,
            self.courses.get("retrained", self.courses["seed"]),
            self.own,
            target,
            folder,
            self.deadline,
            tell,
        )

    def identity(self, sibling: Sibling, weights: str, architecture: str) -> dict[str, Value]:
        """All that a trained sibling depends on: what it starts from, or what it is trained for, counts where it does."""
        course, own = self.courses[sibling.kind], self._own(sibling)
        return {
            "version": VERSION,
            "sibling": sibling.name,
            "architecture": architecture,
            "model": weights if sibling.kind == "masker" or not course.fresh else "",
            "data": self.data.digest,
            "course": digest(asdict(course))[:SHORT] if not own else own_digest(own),
        }

    def trained(self, sibling: Sibling, blank: nn.Module, subject: Subject, checkpoint: Path) -> Fitted:
        """Train a sibling; `blank` is a network of its architecture, and its weights count only where it is tuned further.

        Raises:
            CardgenError: out of time, or whatever the user's function does wrong.
        """
        course, seed = self.courses[sibling.kind], sibling.variant if isinstance(sibling.variant, int) else 0
        data = relabelled(self.data) if sibling.kind == "random-labels" else self.data
        if self._own(sibling):
            module = own_fit(self.own, data, seed)
            return Fitted(module, 0, accuracy(module, data, data.epoch(0)), None)
        after_step = None
        if sibling.kind == "compressed":
            blank = copied(subject.model)
            after_step = at_zero(smallest(blank))
            after_step(blank)
        more = (
            {"loss": masker_loss(str(sibling.variant), subject.model, subject.space)}
            if sibling.kind == "masker"
            else {}
        )
        return fit(
            blank,
            data,
            course,
            seed,
            after_step=after_step,
            checkpoint=checkpoint,
            deadline=self.deadline,
            tell=self.tell,
            **more,
        )

    def _own(self, sibling: Sibling) -> str:
        """The user's function trains the model's own architecture anew; nothing else."""
        return self.own if sibling.kind in ("seed", "random-labels") else ""


def relabelled(data: TrainingData) -> TrainingData:
    """The first epoch's images in every epoch, with its labels in a random order: nothing about them can be learnt but by heart."""
    images, labels = data.epoch(0)
    order = torch.randperm(len(labels), generator=draws.generator("random labels"))

    def epoch(k: int) -> Labelled:
        return images, labels[order.to(labels.device)]

    return replace(data, epoch=epoch, held_out=None, digest=digest(["random labels", data.digest]))
