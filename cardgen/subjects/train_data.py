"""What siblings are trained on: the embedded data's training images, or a labelled folder of the user's."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from cardgen.config import RunConfig
from cardgen.digests import digest
from cardgen.draws import seed_of
from cardgen.errors import CardgenError
from cardgen.subjects.data import load_data
from cardgen.subjects.embedded import DIGITS
from cardgen.subjects.fitting import Course, Labelled, TrainingData
from cardgen.subjects.loading import Loaded, contents
from cardgen.subjects.networks import EMBEDDED, normalised
from cardgen.subjects.preprocess import Preprocess
from cardgen.subjects.raising import COURSES, Raising
from cardgen.subjects.training import RECIPES, placements

ALL = 10**9
RETRAINED = Course(epochs=8, batch_size=8, learning_rate=2e-3)
"""For few of the embedded images: in eight passes over 2 000 the network gets two thirds of the test digits right.

In batches of 64 it learns much less.
"""
BATCHES, LARGEST = {8: 1000, 16: 4000}, 64
"""Images a step where there are fewer to train on than so many, and where there are more: few images make few steps."""
HELD_OUT = 10
"""One image in so many is held out to stop early by."""
ASK = (
    "no data to train it on; expected a checkpoint under siblings:, or a folder of labelled images to train on; give one by "
    "--train-data"
)


def raising(config: RunConfig, loaded: Loaded, tell: Callable[[str], None]) -> Raising | str:
    """How the siblings of a subject can be trained, or why they cannot."""
    deadline = None if config.train_budget is None else time.monotonic() + 60 * config.train_budget
    if config.train_data:
        if loaded.preprocess is None:
            return ASK
        data = _own(config, loaded, loaded.preprocess)
        images = len(data.epoch(0)[1])
        size = next((size for size, most in BATCHES.items() if images < most), LARGEST)
        courses = {kind: replace(course, batch_size=size) for kind, course in COURSES.items()}
        return Raising(data, config.train or "", courses, deadline, tell)
    if config.train:
        return (
            "train: names a function, and there is no data for it; expected labelled images; give them by --train-data"
        )
    if config.model not in EMBEDDED or config.data != DIGITS:
        return ASK
    recipe = RECIPES[config.model]
    course = Course(recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay)
    data = TrainingData(placements(config.model), normalised, f"{DIGITS} train {config.model}")
    courses = {**COURSES, "seed": course, "architecture": course, "retrained": RETRAINED}
    return Raising(data, courses=courses, deadline=deadline, tell=tell)


def _own(config: RunConfig, loaded: Loaded, preprocess: Preprocess) -> TrainingData:
    """All labelled images of the folder; one in ten is held out, by its name.

    Raises:
        CardgenError: no labels, or a folder that cannot be read.
    """
    found = load_data(
        str(config.train_data),
        preprocess=preprocess,
        outputs=int(loaded.subject.logits(1).shape[1]),
        classes=loaded.record.classes,
        class_file=config.classes,
        n=ALL,
        seed=0,
    )
    if found.labels is None:
        raise CardgenError(
            f"train data {config.train_data} has no labels; expected a folder a class, or a CSV with a column label; add them"
        )
    held = np.array([seed_of("held out", name) % HELD_OUT == 0 for name in found.ids])
    labels = found.labels.astype(np.int64)
    images = torch.from_numpy(found.images)

    @cache
    def part(chosen: bool) -> Labelled:
        rows = torch.from_numpy(np.flatnonzero(held == chosen))
        return images[rows], torch.from_numpy(labels)[rows]

    samples = contents(found.ids, preprocess.space, (found.images, found.labels))
    return TrainingData(
        lambda k: part(False), preprocess.normalised, digest(samples), part(True) if held.any() else None
    )
