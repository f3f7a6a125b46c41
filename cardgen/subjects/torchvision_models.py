"""Classification models of torchvision by name."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from cardgen.errors import CardgenError
from cardgen.registry import unknown
from cardgen.subjects.checkpoints import load_weights
from cardgen.subjects.loaded_model import LoadedModel, Request, first_line, seeded
from cardgen.subjects.preprocess import Preprocess


def torchvision_model(request: Request) -> LoadedModel:
    """The named model with torchvision's weights, with weights from a file, or untrained.

    The preprocessing is that of the weights; a file that is one of torchvision's own is known by its sha256, other files and untrained
    models take that of the default weights. Classes are ImageNet's unless `num_classes` says that the head is another one.

    Raises:
        CardgenError: no model or weights of that name, a download that failed, or a file that does not fit.
    """
    name, file = request.name, request.file
    if name not in models.list_models(module=models):
        others = "or timm:NAME, hf:NAME, path/to/file.py:function, package.module:function, file.onnx"
        raise CardgenError(f"{unknown('model', name, models.list_models(module=models))}; {others}")
    known = models.get_model_weights(name)
    weights = _chosen(name, request.weights, known) if file is None else _recognised(file, known) or known.DEFAULT
    if request.weights == "none" or file is not None:
        module = seeded(lambda: models.get_model(name, weights=None, **_options(request, weights)), name)
        what = "untrained" if file is None else f"with weights from {_loaded(module, request, file)}"
        what += f", preprocessed as for {weights.name}" if request.preprocess is None else ""
        named = request.num_classes is None
    else:
        request.check_classes(len(weights.meta["categories"]))
        module, what, named = _pretrained(name, weights), f"with weights {weights.name}", True
    return LoadedModel(
        module.eval(),
        name,
        f"torchvision's {name} {what}",
        request.preprocessing(lambda: _preprocess(weights)),
        tuple(weights.meta["categories"]) if named else (),
    )


def _chosen(name: str, weights: str, known: Any) -> WeightsEnum:
    """The weights of that name; the default ones stand for none."""
    usable = {w.name: w for w in known if w.meta["categories"] is not None} | {"DEFAULT": known.DEFAULT}
    if weights not in (*usable, "none"):
        raise CardgenError(f"{unknown(f'set of weights for {name}', weights, [*usable, 'none'])}; or a file")
    found: WeightsEnum = usable["DEFAULT" if weights == "none" else weights]
    return found


def _recognised(file: Path, known: Any) -> WeightsEnum | None:
    """The weights whose file this is: torchvision's file names end with the first digits of their sha256."""
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    marked: list[tuple[WeightsEnum, Any]] = [
        (w, re.search(r"-([0-9a-f]{8,})\.\w+$", w.url)) for w in known if w.meta["categories"]
    ]
    return next((weights for weights, mark in marked if mark and digest.startswith(mark[1])), None)


def _options(request: Request, weights: WeightsEnum) -> dict[str, Any]:
    """What the builder of a model without downloaded weights is told."""
    options: dict[str, Any] = {} if request.num_classes is None else {"num_classes": request.num_classes}
    if request.name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    if request.name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    return options


def _loaded(module: nn.Module, request: Request, file: Path) -> str:
    if hasattr(module, "transform_input"):
        raise CardgenError(
            f"{file} does not say whether inputs of {request.name} are transformed first; expected this with the weights; write a "
            f"function that builds the model (path/to/file.py:function), or put torchvision's own file where its download would lie"
        )
    return load_weights(module, file)


def _pretrained(name: str, weights: WeightsEnum) -> nn.Module:
    try:
        module: nn.Module = models.get_model(name, weights=weights)
    except Exception as error:  # downloads, damaged files in the cache
        url, folder = weights.url, Path(torch.hub.get_dir()) / "checkpoints"
        raise CardgenError(
            f"weights {weights.name} of {name} could not be loaded: {first_line(error)}; expected {url} or a copy of it in "
            f"{folder} (TORCH_HOME sets the folder); fetch the file elsewhere and put it there, or pass --weights FILE"
        ) from None
    return module


def _preprocess(weights: WeightsEnum) -> Preprocess:
    """The numbers in the transforms that come with the weights."""
    steps: Any = weights.transforms()
    crop = (*steps.crop_size, *steps.crop_size)
    return Preprocess(
        (crop[0], crop[1]),
        tuple(steps.resize_size),
        tuple(map(float, steps.mean)),
        tuple(map(float, steps.std)),
        steps.interpolation.value.removesuffix("-exact"),
    )
