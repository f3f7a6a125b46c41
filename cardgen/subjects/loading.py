"""From a configuration to a subject: model, data, targets, health."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from cardgen.budgets import BUDGETS
from cardgen.config import RunConfig
from cardgen.errors import CardgenError
from cardgen.forward import prepared, probabilities
from cardgen.intervals import wilson
from cardgen.probe import batch_size
from cardgen.records import SubjectRecord
from cardgen.registry import unknown
from cardgen.space import Space
from cardgen.study import Subject, weights_digest
from cardgen.subjects import digits_on_scenes as digits
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.networks import load_embedded, normalised

LABELS = {
    "digit-cnn": (digits.DIGIT_NAMES, "the digit", "A small convolutional network that reads the handwritten digit"),
    "scene-cnn": (
        digits.SCENE_NAMES,
        "the scene",
        "A small convolutional network that names the photograph behind the digit",
    ),
}
MODELS: Mapping[str, Callable[[], nn.Module]] = {name: lambda name=name: load_embedded(name) for name in LABELS}  # type: ignore[misc]
DATA = "digits-on-scenes"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A subject with what records and pictures need of it.

    Attributes:
        subject: model and data, ready to measure.
        record: its subject.json.
        images: the samples as people see them.
        samples: name of each sample, and a digest of its image, mask, label and normalisation.
        weights: digest of the model's weights.
    """

    subject: Subject
    record: SubjectRecord
    images: UInt8[np.ndarray, "n 3 h w"]
    samples: tuple[tuple[str, str], ...]
    weights: str

    @property
    def black_box(self) -> bool:
        """Whether the model shows nothing but its outputs."""
        return isinstance(self.subject.model, BlackBox)

    @property
    def dtype(self) -> str:
        """The model's floating-point type, by name."""
        return str(self.subject.inputs.dtype).removeprefix("torch.")


def load_subject(config: RunConfig) -> Loaded:
    """The subject that a configuration names.

    Raises:
        CardgenError: no such model or data, no such device, or a target class that the model does not have.
    """
    if config.model not in MODELS:
        raise CardgenError(unknown("model", config.model, MODELS))
    if config.data != DATA:
        raise CardgenError(unknown("data set", config.data, [DATA]))
    device = choose_device(config.device)
    model = MODELS[config.model]().to(device)
    scenes = digits.assemble("test")
    inputs = normalised(torch.from_numpy(scenes.images)).to(device)
    classes, what, description = LABELS[config.model]
    labels = torch.from_numpy(scenes.digits if config.model == "digit-cnn" else scenes.scenes).to(device)
    masks = torch.from_numpy(scenes.masks).to(device) if config.model == "digit-cnn" else None
    batch = config.batch or batch_size(model, inputs[:1])
    with prepared(model):
        predicted = probabilities(model, inputs, batch).argmax(1)
    weights = weights_digest(model)
    record = SubjectRecord(
        slug=f"{config.model}-{DATA}",
        title=f"{config.model} on {DATA}",
        description=f"{description}; real handwritten digits on crops of real photographs, explained for {what}.",
        model=config.model,
        model_sha256=weights,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        classes=classes,
        data=DATA,
        data_sha256=digits.digest(scenes),
        n=len(inputs),
        shape=tuple(inputs.shape[1:]),
        target=config.target,
        has_masks=masks is not None,
        **health(predicted, labels),
    )
    subject = Subject(
        model,
        inputs,
        chosen_targets(config.target, predicted, labels, len(classes)),
        scenes.ids,
        masks=masks,
        space=Space.normalised(digits.MEAN, digits.STD),
        seed=config.seed,
        batch=batch,
        layer=config.layer,
        cuts=cuts(config.n),
    )
    labelled = labels.cpu().numpy()
    contents = [
        hashlib.sha256(b"".join([image.tobytes(), mask.tobytes(), label.tobytes(), str(subject.space).encode()]))
        for image, mask, label in zip(scenes.images, scenes.masks, labelled, strict=True)
    ]
    samples = zip(scenes.ids, (content.hexdigest() for content in contents), strict=True)
    return Loaded(subject, record, scenes.images, tuple(samples), weights)


def health(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"] | None) -> dict[str, Any]:
    """The health gate: a model whose accuracy cannot be told from that of always naming the most frequent class is at chance level.

    Wilson's interval of the accuracy against the majority class's share; without labels the model's health is unknown.
    """
    if labels is None:
        return {"health": "unknown"}
    n, hits = len(labels), int((predicted == labels).sum())
    majority = float(labels.bincount().max()) / n
    low, high = wilson(hits, n)
    return {
        "health": "chance" if low <= majority else "healthy",
        "accuracy": hits / n,
        "accuracy_interval": (low, high),
        "majority_share": majority,
    }


def cuts(n: int | None) -> tuple[int, ...]:
    """All sample counts that any budget asks for, so that the pieces of work are the same whatever is run first."""
    counts = {count for budget in BUDGETS.values() for count in budget.samples.values()}
    return tuple(sorted(counts | ({n} if n else set())))


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where it is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CardgenError(f"device {name!r} cannot be used: {error}; expected auto, cpu, cuda or cuda:N") from None
    return device


def chosen_targets(
    target: str, predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"] | None, classes: int
) -> Int[Tensor, " n"]:
    """The class explained: each sample's prediction, its label, or one class for all."""
    if target == "predicted":
        return predicted
    if target == "label" and labels is not None:
        return labels
    if target.isdigit() and int(target) < classes:
        return torch.full_like(predicted, int(target))
    raise CardgenError(
        f"target {target!r} cannot be explained; expected predicted, label (where the data has labels), or a class from 0 to {classes - 1}"
    )
