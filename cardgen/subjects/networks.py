"""The embedded subjects' network: a small convolutional classifier, and its two committed sets of weights."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load, save
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.subjects.digits_on_scenes import MEAN, STD

WEIGHTS = Path(__file__).parent / "weights"


class SmallCNN(nn.Module):
    """Six blocks of convolution, batch normalisation and ReLU, global average pooling, one linear layer.

    Input: normalised images [n, 3, 64, 64]; output: logits [n, num_classes]. The resolution falls 64, 32, 16, 8 by
    strides early on; the last convolutional feature map is [n, 96, 8, 8], and as only averaging and a linear layer
    follow, class activation maps (Zhou et al. 2016) are exact. Every module is used once and none works in place, so
    hooks and rules may be put on any of them.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                layer1=_block(3, 16, kernel=5, stride=2),
                layer2=_block(16, 48, kernel=3, stride=2),
                layer3=_block(48, 48, kernel=3, stride=1),
                layer4=_block(48, 64, kernel=3, stride=2),
                layer5=_block(64, 64, kernel=3, stride=1),
                layer6=_block(64, 96, kernel=3, stride=1),
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(96, num_classes)

    def forward(self, images: Float[Tensor, "n 3 64 64"]) -> Float[Tensor, "n classes"]:
        logits: Tensor = self.head(self.flatten(self.pool(self.features(images))))
        return logits


class SmallResNet(nn.Module):
    """Another architecture for the same images: a strided convolution, three residual blocks, global average pooling, a linear layer.

    Input and output as those of `SmallCNN`; the resolution falls 64, 32, 16, 8, and the last feature map is [n, 96, 8, 8].
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = _block(3, 16, kernel=5, stride=2)
        self.blocks = nn.Sequential(Residual(16, 32, stride=2), Residual(32, 64, stride=2), Residual(64, 96, stride=1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(96, num_classes)

    def forward(self, images: Float[Tensor, "n 3 64 64"]) -> Float[Tensor, "n classes"]:
        logits: Tensor = self.head(self.flatten(self.pool(self.blocks(self.stem(images)))))
        return logits


class Residual(nn.Module):
    """ReLU of two 3 × 3 convolutions, each normalised, plus the input, brought to their shape by a 1 × 1 convolution. He et al. 2016."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = _block(channels_in, channels_out, kernel=3, stride=stride)
        self.second = nn.Sequential(*list(_block(channels_out, channels_out, kernel=3, stride=1))[:2])
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d u v"]:
        found: Tensor = self.relu(self.second(self.first(x)) + self.shortcut(x))
        return found


def _block(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels_out), relu=nn.ReLU()))


def normalised(images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """What the embedded models take: (images / 255 - MEAN) / STD a channel, float32, from pixels 0..255."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def manifest() -> dict[str, dict[str, Any]]:
    """What is known of each committed set of weights: recipe, seed, accuracy, sha256, versions."""
    entries: dict[str, dict[str, Any]] = json.loads((WEIGHTS / "manifest.json").read_text())
    return entries


EMBEDDED = ("digit-cnn", "scene-cnn")
"""Models with weights of their own; what else is in the manifest are their siblings."""
ALIASES = {("digit-cnn", "scene"): "scene-cnn"}


def load_embedded(name: str) -> nn.Module:
    """A trained SmallCNN in evaluation mode, with the committed weights.

    `digit-cnn` tells the digits apart, `scene-cnn` the scenes, on the same images. Raises CardgenError when the weights'
    sha256 is not the manifest's, or the name is unknown.
    """
    if name not in EMBEDDED:
        raise CardgenError(f"embedded model; expected one of {', '.join(EMBEDDED)}, got {name}; choose one of these")
    model = SmallCNN()
    model.load_state_dict(load(committed(name, f"cardgen.subjects.training {name}")))
    return model.eval()


def shipped(model: str, sibling: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The manifest's entry and the weights of an embedded model's sibling, by its name; None where there is none."""
    name = ALIASES.get((model, sibling), f"{model}.{sibling}")
    entries = manifest() if model in EMBEDDED else {}
    return (entries[name], load(committed(name, f"cardgen.subjects.training {name}"))) if name in entries else None


def committed(name: str, trained_by: str) -> bytes:
    """The committed weights of this name, which `python -m <trained_by>` made.

    Raises:
        CardgenError: their sha256 is not the manifest's.
    """
    data = (WEIGHTS / f"{name}.safetensors").read_bytes()
    found, expected = hashlib.sha256(data).hexdigest(), manifest()[name]["sha256"]
    if found != expected:
        raise CardgenError(
            f"weights of {name} are not the committed ones; expected sha256 {expected}, got {found}; "
            f"reinstall cardgen, or retrain with `python -m {trained_by}`"
        )
    return data


def write(name: str, model: nn.Module, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write a trained model's weights and its entry in the manifest, with what is told of it, and return the entry."""
    data = save(model.state_dict())
    entry = {
        **told,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": hashlib.sha256(data).hexdigest(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    entries = manifest() if (WEIGHTS / "manifest.json").exists() else {}
    (WEIGHTS / f"{name}.safetensors").write_bytes(data)
    (WEIGHTS / "manifest.json").write_text(json.dumps(entries | {name: entry}, indent=2, sort_keys=True) + "\n")
    return entry
