"""From a configuration to a subject: model, data, targets, health."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from cardgen.budgets import BUDGETS
from cardgen.config import RunConfig
from cardgen.digests import digest
from cardgen.errors import CardgenError
from cardgen.features import check_layer
from cardgen.forward import prepared
from cardgen.intervals import wilson
from cardgen.kin import Family
from cardgen.methods import METHODS
from cardgen.probe import batch_size
from cardgen.ratings import read_ratings
from cardgen.records import SubjectRecord
from cardgen.registry import unknown
from cardgen.space import Space
from cardgen.study import Subject
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.data import Data, load_data, room
from cardgen.subjects.embedded import DATA, MODELS, embedded_data, embedded_model
from cardgen.subjects.models import LoadedModel, check_fit, load_model
from cardgen.subjects.preprocess import Preprocess
from cardgen.weights import weights_digest

AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Loaded:
    """A subject with what records and pictures need of it.

    Attributes:
        subject: model and data, ready to measure.
        record: its subject.json.
        images: the samples as people see them.
        samples: name of each sample, and a digest of its image, mask, label and normalisation.
        weights: digest of the model's weights.
        notes: what whoever runs it should know: images that could not be read, how classes were matched.
        labels: of the samples, where there are any.
        preprocess: from pictures to inputs; None where inputs were given.
        family: sibling models.
    """

    subject: Subject
    record: SubjectRecord
    images: UInt8[np.ndarray, "n c h w"]
    samples: tuple[tuple[str, str], ...]
    weights: str
    notes: tuple[str, ...] = ()
    labels: Int[np.ndarray, " n"] | None = None
    preprocess: Preprocess | None = None
    family: Family = field(default_factory=Family)

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
        CardgenError: no such model, data or device, weights or images that cannot be read, a target class that the model does not have.
    """
    device = choose_device(config.device)
    model, dtype = _model(config, device)
    outputs = check_fit(model.module, _grey(model.preprocess, device, dtype))
    data = _data(config, model, outputs)
    inputs = _inputs(data.images, model.preprocess, device, dtype)
    subject = Subject(
        model.module,
        inputs,
        torch.zeros(len(inputs), dtype=torch.int64, device=device),
        data.ids,
        masks=None if data.masks is None else torch.from_numpy(data.masks).to(device),
        space=model.preprocess.space,
        seed=config.seed,
        batch=config.batch or batch_size(model.module, inputs[:1]),
        layer=config.layer,
        cuts=cuts(config.n),
        ratings=read_ratings(config.ratings, METHODS, data.ids) if config.ratings else None,
        ruled=data.ruled,
    )
    if config.layer and not isinstance(model.module, BlackBox):
        with prepared(model.module):
            check_layer(model.module, inputs[:1], config.layer)
    with subject.open():
        predicted = subject.probabilities(len(subject)).argmax(1)
    labels = None if data.labels is None else torch.from_numpy(data.labels.astype(np.int64)).to(device)
    targets = chosen_targets(config.target, predicted, labels, outputs)
    weights = weights_digest(model.module)
    samples = contents(data.ids, subject.space, (data.images, data.masks, data.labels))
    record = SubjectRecord(
        slug=config.name or f"{model.name}-{data.name}",
        title=f"{model.name} on {data.name}",
        description=_about(config, model, data),
        model=model.name,
        model_sha256=weights,
        parameters=sum(parameter.numel() for parameter in model.module.parameters()),
        classes=data.classes if len(data.classes) <= AT_ONCE else (),
        data=data.name,
        data_sha256=digest(samples),
        n=len(inputs),
        shape=tuple(inputs.shape[1:]),
        target=config.target,
        has_masks=data.masks is not None,
        **health(predicted, labels),
    )
    subject = replace(subject, targets=targets, labels=labels)
    return Loaded(subject, record, data.images, samples, weights, data.notes, data.labels, model.preprocess)


def _model(config: RunConfig, device: torch.device) -> tuple[LoadedModel, torch.dtype]:
    """The model on its device, and the type of its inputs: the one asked for, else the model's own."""
    if config.model in MODELS:
        for name in ("weights", "num_classes", "preprocess"):
            if getattr(config, name) is not None:
                raise CardgenError(
                    f"{config.model} is an embedded model; expected no {name}, got {getattr(config, name)}; leave it out"
                )
        model = embedded_model(config.model)
    else:
        _refuse_misspelt("model", config.model, [*MODELS])
        model = load_model(
            config.model, weights=config.weights, num_classes=config.num_classes, preprocess=config.preprocess
        )
    wanted = getattr(torch, config.dtype) if config.dtype else None
    module = model.module.to(device, wanted) if wanted else model.module.to(device)
    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    return replace(model, module=module), next(floats, torch.float32)


def _data(config: RunConfig, model: LoadedModel, outputs: int) -> Data:
    if config.data in DATA:
        return embedded_data(config.data, model, outputs)
    if not Path(config.data).exists():
        _refuse_misspelt("data set", config.data, [*DATA])
    return load_data(
        config.data,
        preprocess=model.preprocess,
        outputs=outputs,
        classes=model.classes,
        class_file=config.classes,
        n=config.n or max(BUDGETS[config.budget].samples.values()),
        seed=config.seed,
    )


def _refuse_misspelt(what: str, name: str, embedded: list[str]) -> None:
    if get_close_matches(name, embedded, cutoff=0.5):
        raise CardgenError(unknown(what, name, embedded))


def _grey(preprocess: Preprocess, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "1 c h w"]:
    image = torch.full((1, preprocess.channels, *preprocess.crop), 128, dtype=torch.uint8)
    return preprocess.normalised(image).to(device, dtype)


def _inputs(
    images: UInt8[np.ndarray, "n c h w"], preprocess: Preprocess, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "n c h w"]:
    """The samples as the model takes them; in a file mapped into memory where they are many and the device is the CPU."""
    inputs = _empty(images.shape, device, dtype)
    for start in range(0, len(images), AT_ONCE):
        part = torch.from_numpy(np.ascontiguousarray(images[start : start + AT_ONCE]))
        inputs[start : start + AT_ONCE] = preprocess.normalised(part).to(device, dtype)
    return inputs


def _empty(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    if device.type != "cpu":
        return torch.empty(shape, device=device, dtype=dtype)
    # as bytes, since numpy has no bfloat16
    return torch.from_numpy(room((math.prod(shape) * dtype.itemsize,), np.dtype(np.uint8))).view(dtype).view(shape)


def contents(
    ids: Sequence[str], space: Space, columns: Sequence[Shaped[np.ndarray, "n ..."] | None]
) -> tuple[tuple[str, str], ...]:
    """Name of each sample, and a digest of all that was given with it: its row of every column, and the space."""
    there = [column for column in columns if column is not None]
    rows = (b"".join([*(column[i].tobytes() for column in there), str(space).encode()]) for i in range(len(ids)))
    return tuple(zip(ids, (hashlib.sha256(row).hexdigest() for row in rows), strict=True))


def _explained(target: str, classes: Sequence[str]) -> str:
    if target.isdecimal():
        named = f" ({classes[int(target)]})" if int(target) < len(classes) else ""
        return f"class {target}{named}"
    return {"predicted": "the class that it predicts", "label": "the labelled class"}.get(target, target)


def _about(config: RunConfig, model: LoadedModel, data: Data) -> str:
    what = DATA.get(config.data) or f"{len(data.images)} images of {data.name}"
    text = f"{model.description}; {what}, explained for {_explained(config.target, data.classes)}."
    return text[0].upper() + text[1:]


def health(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"] | None) -> dict[str, Any]:
    """The health gate: a model whose accuracy cannot be told from that of always naming the most frequent class is at chance level.

    Wilson's interval of the accuracy against the majority class's share. Without labels, or where all samples are of one class, the
    model's health is unknown.
    """
    if labels is None:
        return {"health": "unknown"}
    n, hits = len(labels), int((predicted == labels).sum())
    majority = float(labels.bincount().max()) / n
    low, high = wilson(hits, n)
    return {
        "health": "unknown" if majority == 1 else "chance" if low <= majority else "healthy",
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
        torch.ones((), device=device).item()  # a device without storage, such as meta, fails here
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise CardgenError(f"device {name!r} cannot be used: {reason}; expected auto, cpu, cuda or cuda:N") from None
    return device


def chosen_targets(
    target: str, predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"] | None, classes: int
) -> Int[Tensor, " n"]:
    """The class explained: each sample's prediction, its label, or one class for all."""
    if target == "predicted":
        return predicted
    if target == "label" and labels is not None:
        return labels
    if target.isdecimal() and int(target) < classes:
        return torch.full_like(predicted, int(target))
    raise CardgenError(
        f"target {target!r} cannot be explained; expected predicted, label (where the data has labels), or a class from 0 to {classes - 1}"
    )
