"""Masking networks: small decoders that make a mask of a classifier's feature maps, in one forward pass."""

from collections.abc import Mapping, Sequence
from copy import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import prepared, with_classes
from cardgen.mask_slopes import enlarged
from cardgen.pyramid import LEVELS, feature_layers, features_and_logits

WIDTH = 48
"""Channels of the U-Net's decoder."""
PARALLEL = 64
"""Channels to which the class-agnostic network brings each layer."""
Maps = Sequence[Float[Tensor, "n _ _ _"]]


class Masker(nn.Module):
    """A masking network. Its parameters are its own alone: the classifier is no part of it.

    Attributes:
        levels: how many of the classifier's layers it reads at most, the deepest ones.
        layers: those layers, from shallow to deep.
        channels: how many feature maps each of them has.
        classes: of the classifier.
    """

    levels = LEVELS

    def __init__(self, layers: Sequence[str], channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.channels = tuple(channels)
        self.classes = classes

    def forward(self, features: Maps, targets: Int[Tensor, " n"], size: tuple[int, int]) -> Float[Tensor, "n 1 h w"]:
        """The mask, in [0, 1] and of this size in pixels, from the layers' feature maps."""
        raise NotImplementedError


class SelectiveUNet(Masker):
    """The masking network of Dabkowski & Gal 2017: a feature filter, a U-Net's decoder, and two channels whose ratio is the mask.

    The deepest maps X are attenuated where the target's vector C_s says no, Y_ij = X_ij σ(X_ij · C_s). The decoder enlarges them step
    by step to the size of each shallower layer, whose maps it takes in; M = |Z_0| / (|Z_0| + |Z_1|) of the last two channels is enlarged
    to the image, bilinear. The gradient of the mask does not reach C, which learns by itself whether a class is in the image.

    It is smaller than the paper's: a step is a bilinear enlargement and a 3 × 3 convolution from 48 channels of either side to 48, where
    that has a sub-pixel convolution and a bottleneck block.
    """

    def __init__(self, layers: Sequence[str], channels: Sequence[int], classes: int) -> None:
        super().__init__(layers, channels, classes)
        *shallow, deep = channels
        self.selector = nn.Linear(deep, classes, bias=False)
        self.start = _block(deep, WIDTH, 1)
        self.sides = nn.ModuleList(nn.Conv2d(count, WIDTH, 1) for count in reversed(shallow))
        self.joins = nn.ModuleList(_block(2 * WIDTH, WIDTH, 3) for _ in shallow)
        self.head = nn.Conv2d(WIDTH, 2, 1)

    def evidence(self, features: Maps, targets: Int[Tensor, " n"]) -> Float[Tensor, "n 1 u v"]:
        """X_ij · C_s at each place of the deepest maps. Its mean over all places is the logit of the class's being in the image."""
        return (features[-1] * self.selector.weight[targets][:, :, None, None]).sum(1, keepdim=True)

    def forward(self, features: Maps, targets: Int[Tensor, " n"], size: tuple[int, int]) -> Float[Tensor, "n 1 h w"]:
        """M of the target class."""
        *shallow, deep = features
        flow = self.start(deep * self.evidence(features, targets).detach().sigmoid())
        for maps, side, join in zip(reversed(shallow), self.sides, self.joins, strict=True):
            flow = join(torch.cat([enlarged(flow, _size(maps)), side(maps)], dim=1))
        return enlarged(ratio(self.head(flow)), size)


class ParallelMasker(Masker):
    """The masking network of Phang, Park & Geras 2020: two layers side by side, one convolution, the logistic function.

    Each of the two deepest layers passes a 1 × 1 convolution to 64 channels, batch normalisation and ReLU, and is enlarged, bilinear,
    to a quarter of the image's sides, or to the shallower layer's size where that is more. A 3 × 3 convolution of both makes one
    channel, whose logistic function is enlarged to the image. It is asked for no class.

    The last enlargement is bilinear, where the authors' code repeats pixels by default.
    """

    levels = 2

    def __init__(self, layers: Sequence[str], channels: Sequence[int], classes: int) -> None:
        super().__init__(layers, channels, classes)
        self.reduce = nn.ModuleList(_block(count, PARALLEL, 1) for count in channels)
        self.head = nn.Conv2d(PARALLEL * len(channels), 1, 3, padding=1)

    def forward(self, features: Maps, targets: Int[Tensor, " n"], size: tuple[int, int]) -> Float[Tensor, "n 1 h w"]:
        """The mask, whatever the targets."""
        fine = max(size[0] // 4, features[0].shape[2]), max(size[1] // 4, features[0].shape[3])
        parts = [enlarged(reduce(maps), fine) for reduce, maps in zip(self.reduce, features, strict=True)]
        return enlarged(self.head(torch.cat(parts, dim=1)).sigmoid(), size)


KINDS: Mapping[str, type[Masker]] = {"real_time_saliency": SelectiveUNet, "phang_masker": ParallelMasker}
"""The methods that have a masking network, and which."""


def build(kind: str, model: nn.Module, example: Float[Tensor, "n c h w"], classes: int) -> Masker:
    """A method's masking network for a model: with new weights from torch's generator, in training mode, on the model's device.

    Raises:
        CardgenError: no method of that name has one, or the model has no convolutional features.
    """
    if kind not in KINDS:
        raise CardgenError(f"masking network; expected one of {', '.join(KINDS)}, got {kind}; choose one of these")
    with prepared(model):
        layers = feature_layers(model, example[:1])[-KINDS[kind].levels :]
        features, _ = features_and_logits(model, example[:1], layers)
    return KINDS[kind](layers, [maps.shape[1] for maps in features], classes).to(example.device)


def trained(kind: type[Masker], masker: nn.Module | None) -> Masker:
    """The masking network at hand, if it is of that kind.

    Raises:
        CardgenError: there is none, or one of another kind.
    """
    if isinstance(masker, kind):
        return masker
    found = "none" if masker is None else type(masker).__name__
    raise CardgenError(
        f"needs a masking network trained for this model; expected a {kind.__name__}, got {found}; run `cardgen run` with train_data: in "
        "cardgen.yaml, which trains one, or name one under siblings: there"
    )


def within(masker: nn.Module | None, part: str) -> nn.Module | None:
    """The same network, for a model that holds the one it was trained for under this name."""
    if not isinstance(masker, Masker):
        return masker
    found = copy(masker)
    found.layers = tuple(f"{part}.{layer}" for layer in masker.layers)
    return found


def mask(
    masker: Masker, model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"]
) -> Float[Tensor, "n 1 h w"]:
    """The mask, in [0, 1], that a trained network makes of the feature maps that the model, as it is at hand, has of the inputs.

    One forward pass of the model. The masking network, which may lie on another device, is in evaluation mode meanwhile, so that a
    sample's mask is its own.

    Raises:
        CardgenError: the model is not of the kind that the network was trained for, or lacks a target's class.
    """
    features, scores = features_and_logits(model, inputs, masker.layers)
    with_classes(scores, targets)
    found = [*(maps.shape[1] for maps in features), scores.shape[1]]
    expected = [*masker.channels, masker.classes]
    if found != expected:
        raise CardgenError(
            f"the masking network was trained for a model with {_text(expected)}; this one has {_text(found)}; train one for this model"
        )
    device = next(masker.parameters()).device
    with torch.no_grad(), prepared(masker):
        made: Float[Tensor, "n 1 h w"] = masker(
            [maps.to(device) for maps in features], targets.to(device), _size(inputs)
        )
    return made.to(inputs.device)


def ratio(pair: Float[Tensor, "n 2 u v"]) -> Float[Tensor, "n 1 u v"]:
    """|Z_0| / (|Z_0| + |Z_1|), in [0, 1]; 0 where both are 0."""
    size = pair.abs()
    return size[:, :1] / size.sum(1, keepdim=True).clamp_min(1e-12)


def _block(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


def _size(maps: Float[Tensor, "n c h w"]) -> tuple[int, int]:
    return maps.shape[2], maps.shape[3]


def _text(counts: Sequence[int]) -> str:
    *maps, classes = counts
    return f"{', '.join(map(str, maps))} feature maps and {classes} classes"
