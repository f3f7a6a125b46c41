"""Models by name, file or function, and whether they fit."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import logits, prepared
from cardgen.subjects.hf_models import hf_model
from cardgen.subjects.loaded_model import LoadedModel, Request, first_line, folder_name, unknown_preprocess
from cardgen.subjects.onnx_model import onnx_model
from cardgen.subjects.own_models import own_model
from cardgen.subjects.preprocess import parse_preprocess
from cardgen.subjects.timm_models import timm_model
from cardgen.subjects.torchvision_models import torchvision_model

__all__ = ["LoadedModel", "check_fit", "load_model"]

SLACK = 0.02
"""How far scores may move with the batch, against the largest of them: half precision moves them by less."""


def load_model(
    name: str, *, weights: str | None = None, num_classes: int | None = None, preprocess: str | None = None
) -> LoadedModel:
    """The model that `--model` names.

    Args:
        name: `resnet50` (torchvision), `timm:NAME`, `hf:NAME` or `hf:FOLDER`, `path/to/file.py:function`, `package.module:function`, or
            `file.onnx`.
        weights: DEFAULT (also meant by None), none, a file (.safetensors, .pt, .pth; tensors only), or a name of torchvision's.
        num_classes: outputs, where they are not those of the default weights.
        preprocess: as `parse_preprocess` reads it, instead of what the model comes with.

    Raises:
        CardgenError: nothing of that name, a package that is missing, a failed download, unfit weights, unknown preprocessing.
    """
    source, _, rest = name.partition(":")
    asked = Request(rest if source in ("timm", "hf") else name, weights or "DEFAULT", num_classes, preprocess)
    if source == "timm":
        return timm_model(asked)
    if source == "hf":
        return hf_model(asked)
    if name.endswith(".onnx"):
        return _onnx(asked)
    if name.endswith(".py"):
        raise CardgenError(
            f"{name} names no function; expected path/to/file.py:function; add the function that returns the model"
        )
    return own_model(asked) if rest else torchvision_model(asked)


def _onnx(request: Request) -> LoadedModel:
    if request.weights != "DEFAULT" or request.num_classes is not None:
        raise CardgenError(
            f"{request.name} holds weights and classes itself; expected no --weights, no --num-classes; leave them out"
        )
    if request.preprocess is None:
        raise unknown_preprocess(request.name)
    file = Path(request.name)
    module = onnx_model(file).eval()
    return LoadedModel(
        module, folder_name(file.stem), f"the ONNX file {file.name}", parse_preprocess(request.preprocess), ()
    )


@torch.no_grad()
def check_fit(module: nn.Module, example: Float[Tensor, "1 c h w"]) -> int:
    """Whether a model can be measured: it is run on the example, and on it beside another input.

    Args:
        module: on the device, in the type that it is to run in.
        example: one input of the size, type and device of all others, a grey image say.

    Returns:
        The number of classes.

    Raises:
        CardgenError: it cannot take such inputs; its output is no row of scores a sample, is one score only, not finite, a probability
            rather than a logit, or depends on what else is in the batch.
    """
    ramp = torch.linspace(-1, 1, example.numel(), device=example.device).view_as(example)
    alone = _tried(module, example)
    beside = _tried(module, torch.cat([example, (example + ramp).to(example.dtype)]))
    if alone.shape[1] == 1:
        raise CardgenError(
            "the model gives one score a sample, whose softmax is always 1; expected a logit for each of at least 2 classes; for a "
            "sigmoid's score s return torch.cat([torch.zeros_like(s), s], 1)"
        )
    if not bool(torch.isfinite(beside).all()):
        advice = "check its weights" + ("" if example.dtype == torch.float32 else ", or choose float32 (--dtype)")
        raise CardgenError(f"the model gives NaN or infinities in {_type(example)}; expected finite scores; {advice}")
    if bool((beside >= 0).all()) and bool(((beside.sum(1) - 1).abs() < 1e-3).all()):
        raise CardgenError(
            "the model gives probabilities; expected logits, before the softmax; leave the softmax out, or return "
            "torch.log(p.clamp_min(1e-12))"
        )
    if bool(((beside[:1] - alone).abs() > SLACK * (1 + alone.abs().max())).any()):
        raise CardgenError(
            "the model scores a sample differently when another is in its batch; expected each to be scored by itself; use batch "
            "normalisation with running statistics, and nothing that mixes samples"
        )
    return alone.shape[1]


def _tried(module: nn.Module, inputs: Tensor) -> Float[Tensor, "n k"]:
    try:
        with prepared(module):
            return logits(module, inputs)
    except (CardgenError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model raises on inputs that do not suit it
        size = f"{len(inputs)} inputs of {' × '.join(map(str, inputs.shape[1:]))} (channels, height, width) in {_type(inputs)}"
        advice = "check size and channels (--preprocess)" + (
            " and type (--dtype)" if inputs.dtype != torch.float32 else ""
        )
        raise CardgenError(
            f"the model cannot take {size}: {first_line(error)}; expected one row of scores each; {advice}"
        ) from error


def _type(inputs: Tensor) -> str:
    return str(inputs.dtype).removeprefix("torch.")
