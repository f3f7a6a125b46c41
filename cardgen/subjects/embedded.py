"""The embedded subjects: two small networks, and digits on scenes to explain them on."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from cardgen.subjects import digits_on_scenes as digits
from cardgen.subjects.data import Data
from cardgen.subjects.models import LoadedModel
from cardgen.subjects.networks import load_embedded
from cardgen.subjects.preprocess import Preprocess

DATA = "digits-on-scenes"
DESCRIPTION = "real handwritten digits on crops of real photographs"
MODELS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "digit-cnn": (digits.DIGIT_NAMES, "a small convolutional network that reads the handwritten digit"),
    "scene-cnn": (digits.SCENE_NAMES, "a small convolutional network that names the photograph behind the digit"),
}
"""Classes and a description of each embedded model."""


def embedded_model(name: str) -> LoadedModel:
    """One of the embedded models with its committed weights."""
    classes, description = MODELS[name]
    preprocess = Preprocess((64, 64), None, digits.MEAN, digits.STD)
    return LoadedModel(load_embedded(name), name, description, preprocess, classes)


def embedded_data(preprocess: Preprocess, classes: tuple[str, ...], outputs: int) -> Data:
    """The test images of digits on scenes, labelled with whichever of the two label sets the model's classes are.

    A model of ten unnamed outputs counts as one of digits; for others there are no labels. The masks are the digits', so they are ground
    truth for a model of digits only.
    """
    scenes = digits.assemble("test")
    of_digits = classes == digits.DIGIT_NAMES or (not classes and outputs == len(digits.DIGIT_NAMES))
    labels = scenes.digits if of_digits else scenes.scenes if classes == digits.SCENE_NAMES else None
    masks = scenes.masks if of_digits else None
    if preprocess.crop == scenes.images.shape[2:] and preprocess.channels == 3:
        images = scenes.images
    else:
        images = np.stack([preprocess.image(Image.fromarray(image.transpose(1, 2, 0))) for image in scenes.images])
        masks = None if masks is None else np.stack([preprocess.mask(Image.fromarray(mask)) for mask in masks])
    return Data(images, labels, masks, scenes.ids, DATA, classes, ())
