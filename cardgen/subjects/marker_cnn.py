"""`marker-cnn`: a network whose weights were set by hand, so that it is known which pixels drive it, and the proof of that.

It looks for the four markers of `markers_on_textures` with four matched filters on the tint t = (red − blue) / 2. A filter's response is
Σ code·t over 7×7 pixels, codes of ±1: on its own marker 49 times the strength, at least 1568. Anywhere else, `largest_elsewhere`
counts out over all patterns and shifts, it is at most 632: faint tints, decoys, and markers that are shifted or of another class.
What lies below THRESHOLD between the two is cut off exactly, by a batch norm and a ReLU. So the 49 pixels of the marker
set every logit, and no other pixel within its bounds has any effect: not on the label, and not on a logit.

`broken_rules` says the same by experiment.
"""

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from cardgen.subjects.markers_on_textures import (
    FAINT,
    MARKER_NAMES,
    MEAN,
    SIDE,
    SIZE,
    STD,
    STRONGEST,
    Markers,
    markers,
    surroundings,
    twin,
)

CLASSES = (*MARKER_NAMES, "none")
THRESHOLD = 980
"""Half of what the strongest marker gives; in units of t, as responses are."""
FULL = SIDE * SIDE * STRONGEST
OWN, OTHER, NONE = 7.0, -1.0, 2.0
"""Logits: of the class whose marker of full strength is there, of the other three, and always of "none"."""
POOLED = 4


class MarkerCNN(nn.Module):
    """Tints, matched filters above a threshold, a blur on a coarse grid, global average pooling, one linear layer.

    Input: normalised images [n, 3, 40, 40]; output: logits [n, 5], the last that of no marker. Every module is used once and
    none works in place. As in other networks of this kind the last convolutional features, [n, 4, 10, 10], are coarse.
    """

    def __init__(self) -> None:
        super().__init__()
        count = len(MARKER_NAMES)
        self.features = nn.Sequential(
            OrderedDict(
                tint=nn.Conv2d(3, 2, 1, bias=False),
                tint_relu=nn.ReLU(),
                match=nn.Conv2d(2, count, SIDE, padding=SIDE // 2, bias=False),
                threshold=nn.BatchNorm2d(count),
                match_relu=nn.ReLU(),
                pool=nn.MaxPool2d(POOLED),
                spread=nn.Conv2d(count, count, 3, padding=1),
                spread_relu=nn.ReLU(),
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(count, len(CLASSES))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        logits: Tensor = self.head(self.flatten(self.pool(self.features(images))))
        return logits


@torch.no_grad()
def marker_cnn() -> MarkerCNN:
    """The network with its weights set, in evaluation mode."""
    model = MarkerCNN()
    values = model.state_dict()
    unit = STD[0] * 255 / 2 / STRONGEST  # so that a pattern of full strength gives tints of ±1
    tint = torch.tensor([[unit, 0.0, -unit], [-unit, 0.0, unit]])
    codes = torch.from_numpy(markers()).float() / SIDE**2
    share = THRESHOLD / FULL
    values["features.tint.weight"].copy_(tint[:, :, None, None])
    values["features.match.weight"].copy_(torch.stack([codes, -codes], dim=1))
    values["features.threshold.running_mean"].fill_(share)
    values["features.threshold.running_var"].fill_((1 - share) ** 2 - nn.BatchNorm2d(1).eps)
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    values["features.spread.weight"].copy_(torch.eye(len(codes))[:, :, None, None] * taps[:, None] * taps)
    values["features.spread.bias"].zero_()
    cells = (SIZE // POOLED) ** 2
    head = torch.full((len(CLASSES), len(codes)), OTHER).fill_diagonal_(OWN)
    head[-1] = 0
    values["head.weight"].copy_(cells * head)
    values["head.bias"].copy_(torch.tensor([0.0] * len(codes) + [NONE]))
    return model.eval()


def knows_rule(model: nn.Module) -> bool:
    """Whether a model is the network of which the rule was proven, with these very weights, in whatever precision."""
    if type(model) is not MarkerCNN:
        return False
    found = model.state_dict()
    return all(
        torch.equal(found[name].cpu(), value.to(found[name].dtype)) for name, value in marker_cnn().state_dict().items()
    )


def largest_elsewhere() -> int:
    """The largest response that a filter can give anywhere but exactly on its own marker, in units of t.

    A window of 7×7 meets at most one square, as squares keep GAP pixels apart. Over all filters, patterns and shifts: the
    pattern's part of the window at full strength, and FAINT for every other pixel, as if all of these had the filter's sign.
    """
    patterns = [*markers(), twin()]
    responses: Iterator[int] = (
        STRONGEST * int((filter_[window] * pattern[part]).sum()) + FAINT * (SIDE**2 - pattern[part].size)
        for k, filter_ in enumerate(markers())
        for j, pattern in enumerate(patterns)
        for window, part in _shifts()
        if j != k or pattern[part].size < SIDE**2
    )
    return max(responses)


def _shifts() -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """The parts of a window and of a pattern that lie on each other, for all shifts that leave some; at SIDE none is left."""
    along = [(slice(max(0, d), SIDE + min(0, d)), slice(max(0, -d), SIDE + min(0, -d))) for d in range(-SIDE, SIDE + 1)]
    for rows, its_rows in along:
        for columns, its_columns in along:
            yield (rows, columns), (its_rows, its_columns)


def broken_rules(model: nn.Module, data: Markers, redraws: int = 4, tolerance: float = 1e-4) -> Bool[np.ndarray, "n"]:
    """Samples for which changing the marker's pixels does not change the label, or changing any others does change a logit.

    The marker's pixels become what the surroundings show there. The others become those of `redraws` other textures and decoys, and
    textures at the bounds of tint and brightness: all red, all blue, and every filter's own code side by side, in phase with the marker.
    """
    logits = _logits(model, data.images)
    labels = logits.argmax(1)
    n = len(data.labels)
    broken: Bool[np.ndarray, "n"] = labels != data.labels
    bare = np.where(data.masks[:, None], surroundings(n=n), data.images)
    broken |= _logits(model, bare).argmax(1) == labels
    others = [surroundings(n=n, seed=seed, places=0) for seed in range(1, 1 + redraws)]
    for other in [*others, *_extremes(data)]:
        changed = np.where(data.masks[:, None], data.images, other)
        broken |= np.abs(_logits(model, changed) - logits).max(1) > tolerance
    return broken


def _extremes(data: Markers) -> Iterator[UInt8[np.ndarray, "n 3 h w"]]:
    """Textures of the largest tints: of one sign, and in the codes of the filters, in phase with each sample's marker."""
    _, height, width = data.masks.shape
    corners = [np.argwhere(mask)[0] for mask in data.masks]
    tiles = [*markers(), *-markers(), np.ones((SIDE, SIDE), int), -np.ones((SIDE, SIDE), int)]
    for k, tile in enumerate(tiles):
        wide = np.tile(tile, (height // SIDE + 2, width // SIDE + 2))
        starts = [(-corner) % SIDE for corner in corners]
        tint = FAINT * np.stack([wide[y : y + height, x : x + width] for y, x in starts])
        light = 64 if k % 2 else 191
        yield np.stack([light + tint, np.full_like(tint, light), light - tint], axis=1).astype(np.uint8)


@torch.no_grad()
def _logits(model: nn.Module, images: UInt8[np.ndarray, "n 3 h w"]) -> Float[np.ndarray, "n classes"]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    parts = torch.split(torch.from_numpy(images), 128)
    return torch.cat([model((part.float() / 255 - mean) / std) for part in parts]).numpy()
