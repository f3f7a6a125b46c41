"""Image classifiers of transformers by name or folder: `hf:NAME`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects.checkpoints import load_weights
from cardgen.subjects.extras import extra
from cardgen.subjects.loaded_model import LoadedModel, Request, first_line, folder_name, seeded, unknown_preprocess
from cardgen.subjects.preprocess import Preprocess
from cardgen.subjects.timm_models import timm_preprocess
from cardgen.subjects.trial import check_same

T = TypeVar("T")

WARPED_FROM = 384
"""ConvNeXt's processor resizes both sides from here on, and crops below."""


def hf_model(request: Request) -> LoadedModel:
    """A model of the Hugging Face hub, or of a local folder, in float32, with its weights, weights from a file, or untrained.

    Classes are the configuration's `id2label`, where somebody has filled it in. Code from the hub is never run.

    Raises:
        CardgenError: transformers is not installed, a download failed, weights lack the head, or a file does not fit.
    """
    transformers = extra("transformers", "hf", "models called hf:NAME")
    request.check_weights()
    config = _fetched(
        request.name, lambda: transformers.AutoConfig.from_pretrained(request.name, trust_remote_code=False)
    )
    if request.weights == "DEFAULT":
        request.check_classes(config.num_labels)
        module, what = _pretrained(transformers, request.name), "with its own weights"
    else:
        config.num_labels = request.num_classes or config.num_labels
        auto = transformers.AutoModelForImageClassification
        module = seeded(lambda: _fetched(request.name, lambda: auto.from_config(config)), request.name)
        what = f"with weights from {load_weights(module, request.file)}" if request.file else "untrained"
    base = Path(request.name).name
    return LoadedModel(
        module.float().eval(),
        folder_name(base),
        f"transformers' {base if Path(request.name).is_dir() else request.name} {what}",
        request.preprocessing(lambda: _preprocess(transformers, request.name)),
        _classes(config),
    )


def _pretrained(transformers: Any, name: str) -> nn.Module:
    """The model, if all of it was trained: transformers fills a head that the weights do not have with random numbers."""
    auto = transformers.AutoModelForImageClassification
    with _quiet(transformers.utils.logging, Path(name).is_dir()):
        module, report = _fetched(
            name, lambda: auto.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
        )
    if report["missing_keys"]:
        raise CardgenError(
            f"the weights of hf:{name} lack {', '.join(sorted(report['missing_keys'])[:4])}; expected a classifier that was trained; "
            f"take a model that was fine-tuned for classification"
        )
    found: nn.Module = module
    return found


@contextmanager
def _quiet(logging: Any, local: bool) -> Iterator[None]:
    """No bar while weights are read from a folder; downloads, which take long, keep theirs."""
    shown = logging.is_progress_bar_enabled()
    if local:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _fetched(name: str, fetch: Callable[[], T]) -> T:
    try:
        return fetch()
    except Exception as error:  # downloads, missing or damaged files, other kinds of models
        raise CardgenError(
            f"hf:{name} could not be loaded: {first_line(error)}; expected an image classifier on the Hugging Face hub, in its cache "
            f"(HF_HOME sets the folder) or in a local folder; fetch it elsewhere and pass --model hf:path/to/folder"
        ) from None


def _preprocess(transformers: Any, name: str) -> Preprocess:
    """What the model's image processor does, tried against the processor itself."""
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except Exception:  # no file of settings, or one of another kind
        raise unknown_preprocess(f"hf:{name}") from None
    if hasattr(processor, "data_config"):
        return timm_preprocess(processor.data_config, f"hf:{name}")

    def theirs(picture: Image.Image) -> Any:
        return processor(images=picture, return_tensors="pt")["pixel_values"][0]

    try:
        preprocess = _described(processor.to_dict())
    except (
        KeyError,
        TypeError,
        ValueError,
        CardgenError,
    ):  # settings that are left out, or come to nothing a Preprocess can be
        raise unknown_preprocess(f"hf:{name}") from None
    return check_same(preprocess, theirs, f"hf:{name}")


def _described(settings: Mapping[str, Any]) -> Preprocess:
    """The Preprocess that a processor's settings describe."""
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    resize = _sides(size) if settings.get("do_resize", True) else None
    cut = _sides(crop) if settings.get("do_center_crop") else resize
    short = size.get("shortest_edge")
    if settings.get("crop_pct") and short and not settings.get("do_center_crop"):
        resize = (int(short / settings["crop_pct"]),) if short < WARPED_FROM else (short, short)
        cut = (short, short)
    if not cut or len(cut) != 2:
        raise ValueError("pictures of any size")
    normalises = settings.get("do_normalize", True)
    mean, std = (settings[key] if normalises else [value] * 3 for key, value in (("image_mean", 0), ("image_std", 1)))
    filter_ = Image.Resampling(settings.get("resample", Image.Resampling.BILINEAR)).name.lower()
    return Preprocess((cut[0], cut[1]), resize, tuple(map(float, mean)), tuple(map(float, std)), filter_)


def _sides(size: Mapping[str, int]) -> tuple[int, ...] | None:
    """Height and width, or the shorter side alone; None where something else is said."""
    if size.get("height") and size.get("width"):
        return size["height"], size["width"]
    return (size["shortest_edge"],) if size.get("shortest_edge") else None


def _classes(config: Any) -> tuple[str, ...]:
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return () if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names
