"""Images whose label is the colour of one small patch, a network that learns it in a moment, and what there is to train it with."""

from typing import NamedTuple

import torch
from small_methods import made_method
from small_models import seeded
from torch import nn

from cardgen.draws import content_ids
from cardgen.metrics import METRICS
from cardgen.space import Space
from cardgen.study import Study, Subject
from cardgen.subjects.course import Course, TrainingData
from cardgen.subjects.retraining import Retraining

SIDE, PATCH, CLASSES = 8, 2, 3
MEAN, STD = (0.5, 0.4, 0.6), (0.2, 0.25, 0.3)
SPACE = Space.normalised(MEAN, STD)
COURSE = Course(epochs=1, batch_size=16, learning_rate=3e-2)


class Colours(nn.Module):
    """Whether a colour is anywhere: convolution, batch norm, the largest value over places, one linear layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().amax((2, 3)))


class Patches(NamedTuple):
    """uint8 images, their labels, and where the patch is."""

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor


def patches(n, seed):
    """Greyish noise with a patch at a random place, in which one channel is bright and the others are dark; which one is the label."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 166, (n, 3, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (n,), generator=draws)
    places = torch.randint(SIDE - PATCH + 1, (n, 2), generator=draws).tolist()
    masks = torch.zeros(n, SIDE, SIDE, dtype=torch.bool)
    for i, (row, column) in enumerate(places):
        masks[i, row : row + PATCH, column : column + PATCH] = True
        images[i, :, masks[i]] = 0
        images[i, labels[i], masks[i]] = 255
    return Patches(images, labels, masks)


def inputs_of(images):
    """Normalised, as the network takes them."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def patch_map(model, inputs, targets, context):
    """How far the farthest channel of a pixel is from the mean: the patch first."""
    return inputs.abs().amax(1, keepdim=True)


def background_map(model, inputs, targets, context):
    """The patch last."""
    return -patch_map(model, inputs, targets, context)


TRUTH, UNTRUTH = made_method(patch_map), made_method(background_map)


def retraining(n=96, seed=1, folder=None, **fields):
    """Training images of the same kind."""
    images, labels, _ = patches(n, seed)
    data = TrainingData(lambda k: (images, labels), inputs_of, f"patches {n} {seed}")
    return Retraining(data, COURSE, folder=folder, **fields)


def subject(n=24, *, training=None, rows=None, batch=16, seed=0, **fields):
    """Samples of the same kind with a network that was never trained, which no map here depends on."""
    images, labels, masks = patches(n, 2)
    kept = torch.arange(n) if rows is None else torch.tensor(rows)
    inputs = inputs_of(images)[kept]
    return Subject(
        seeded(0, Colours).eval(),
        inputs,
        labels[kept],
        content_ids(inputs),
        masks=masks[kept],
        space=SPACE,
        seed=seed,
        batch=batch,
        labels=labels[kept],
        retraining=retraining() if training is None else training,
        **fields,
    )


def roar(of, method=TRUTH, **parameters):
    """Scores, of few networks unless told otherwise."""
    metric = METRICS["roar"]
    small = {"images": 64, "epochs": 4, "seeds": 2, **parameters}
    return metric.measure(Study(of, len(of), method, method.parameters({})), metric.parameters(small))
