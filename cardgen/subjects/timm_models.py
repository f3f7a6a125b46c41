"""Models of timm by name: `timm:NAME`."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models import ResNet50_Weights

from cardgen.errors import CardgenError
from cardgen.registry import unknown
from cardgen.subjects.checkpoints import load_weights
from cardgen.subjects.extras import extra
from cardgen.subjects.loaded_model import LoadedModel, Request, first_line, folder_name, seeded
from cardgen.subjects.preprocess import Preprocess
from cardgen.subjects.trial import check_same


def timm_model(request: Request) -> LoadedModel:
    """The named model with its own weights, with weights from a file, or untrained; the preprocessing is timm's for that name.

    Classes are the weights' own label names, or ImageNet's for weights tagged in1k, unless `num_classes` says that the head is another.

    Raises:
        CardgenError: timm is not installed or has no such model, a download failed, the model has no head, or a file does not fit.
    """
    timm = extra("timm", "timm", "models called timm:NAME")
    request.check_weights()
    _check_name(timm, request.name)
    module = seeded(lambda: _created(timm, request), request.name)
    if not module.num_classes:
        raise CardgenError(
            f"timm:{request.name} gives features, no classes; expected a classifier; take weights with a head, such as those tagged in1k"
        )
    what = "untrained" if request.weights == "none" else "with its own weights"
    if request.file:
        what = f"with weights from {load_weights(module, request.file)}"
    elif request.weights == "DEFAULT":
        request.check_classes(int(module.num_classes))  # type: ignore[arg-type]
    return LoadedModel(
        module.cpu().eval(),
        folder_name(request.name),
        f"timm's {request.name} {what}",
        request.preprocessing(
            lambda: timm_preprocess(timm.data.resolve_model_data_config(module), f"timm:{request.name}")
        ),
        _classes(module) if request.num_classes is None or request.weights == "DEFAULT" else (),
    )


def timm_preprocess(config: Mapping[str, Any], name: str) -> Preprocess:
    """The Preprocess that a data configuration of timm describes, tried against timm's own transforms.

    Raises:
        CardgenError: pictures are prepared in another way, padded say.
    """
    height, width = config["input_size"][1:]
    sides = math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"])
    squashed = config["crop_mode"] == "squash" or sides[0] != sides[1]
    preprocess = Preprocess(
        (height, width),
        sides if squashed else sides[:1],
        tuple(map(float, config["mean"])),
        tuple(map(float, config["std"])),
        config["interpolation"],
    )
    transform = extra("timm", "timm", name).data.create_transform(**config, is_training=False)
    return check_same(preprocess, transform, name)


def _check_name(timm: Any, name: str) -> None:
    """Refuse unknown names and tags; names with a colon lie on a hub or in a folder."""
    base, _, tag = name.partition(".")
    if ":" in name:
        return
    if not timm.is_model(base):
        raise CardgenError(unknown("timm model", base, timm.list_models()))
    tagged = timm.list_models(f"{base}.*", pretrained=True)
    if tag and name not in tagged:
        raise CardgenError(unknown("set of timm weights", name, tagged))


def _created(timm: Any, request: Request) -> nn.Module:
    pretrained = request.weights == "DEFAULT"
    options = {} if pretrained or request.num_classes is None else {"num_classes": request.num_classes}
    try:
        module: nn.Module = timm.create_model(request.name, pretrained=pretrained, **options)
    except Exception as error:  # downloads, damaged files in the cache, architectures without weights
        raise CardgenError(
            f"timm:{request.name} could not be loaded: {first_line(error)}; expected its weights on the Hugging Face hub or in its "
            f"cache (HF_HOME sets the folder); fetch the file elsewhere and pass --weights FILE, or --weights none"
        ) from None
    return module


def _classes(module: Any) -> tuple[str, ...]:
    """Label names of the weights that the model is configured for."""
    names = module.pretrained_cfg.get("label_names")
    if not names and str(module.pretrained_cfg.get("tag")).endswith("in1k"):
        names = ResNet50_Weights.DEFAULT.meta["categories"]
    return tuple(map(str, names)) if names and len(names) == module.num_classes else ()
