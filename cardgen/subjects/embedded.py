"""The embedded subjects: two small networks on digits on scenes, and one of which the rule is known, on markers on textures."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import nn

from cardgen.recipes import Sibling
from cardgen.subjects import digits_on_scenes as digits
from cardgen.subjects import markers_on_textures as textures
from cardgen.subjects.data import Data
from cardgen.subjects.marker_cnn import CLASSES, knows_rule, marker_cnn
from cardgen.subjects.models import LoadedModel
from cardgen.subjects.networks import SmallCNN, SmallResNet, load_embedded
from cardgen.subjects.preprocess import Preprocess


class Embedded(NamedTuple):
    """What is known of an embedded model: its classes, a description, and the data that it is for."""

    classes: tuple[str, ...]
    description: str
    data: str


DIGITS, MARKERS = "digits-on-scenes", "markers-on-textures"
DATA: Mapping[str, str] = {
    DIGITS: "real handwritten digits on crops of real photographs",
    MARKERS: "textures with one marker each, whose pixels alone decide, and three decoys",
}
"""Descriptions of the embedded data."""
MODELS: Mapping[str, Embedded] = {
    "digit-cnn": Embedded(digits.DIGIT_NAMES, "a small convolutional network that reads the handwritten digit", DIGITS),
    "scene-cnn": Embedded(
        digits.SCENE_NAMES, "a small convolutional network that names the photograph behind the digit", DIGITS
    ),
    "marker-cnn": Embedded(CLASSES, "a small convolutional network, set by hand, that names the marker", MARKERS),
}


def embedded_model(name: str) -> LoadedModel:
    """One of the embedded models with its weights."""
    classes, description, data = MODELS[name]
    if data == MARKERS:
        side, mean, std = textures.SIZE, textures.MEAN, textures.STD
        return LoadedModel(marker_cnn(), name, description, Preprocess((side, side), None, mean, std), classes)
    preprocess = Preprocess((digits.SIZE, digits.SIZE), None, digits.MEAN, digits.STD)
    return LoadedModel(load_embedded(name), name, description, preprocess, classes)


def sibling_network(model: str, sibling: Sibling) -> nn.Module | None:
    """An untrained network for a sibling of an embedded model that has another architecture; None where there is none."""
    if model != "digit-cnn":
        return None
    return SmallResNet() if sibling.kind == "architecture" else SmallCNN() if sibling.kind == "scene" else None


def embedded_data(name: str, model: LoadedModel, outputs: int) -> Data:
    """One of the embedded data sets, as the model sees it, labelled with the classes that the model has."""
    return _markers(model, outputs) if name == MARKERS else _digits(model, outputs)


def _digits(model: LoadedModel, outputs: int) -> Data:
    """The test images, labelled with whichever of the two label sets the model's classes are.

    A model of ten unnamed outputs counts as one of digits; for others there are no labels. The masks are the digits', so they are ground
    truth for a model of digits only.
    """
    scenes, classes = digits.assemble("test"), model.classes
    of_digits = classes == digits.DIGIT_NAMES or (not classes and outputs == len(digits.DIGIT_NAMES))
    labels = scenes.digits if of_digits else scenes.scenes if classes == digits.SCENE_NAMES else None
    images, masks = _seen(model.preprocess, scenes.images, scenes.masks)
    return Data(images, labels, masks if of_digits else None, scenes.ids, DIGITS, classes, ())


def _markers(model: LoadedModel, outputs: int) -> Data:
    """All images, with labels and masks for models of the markers, by name or by number of unnamed outputs.

    Only of `marker-cnn` itself is it proven that the masks are what drives it.
    """
    found, classes = textures.assemble(), model.classes
    of_markers = classes == CLASSES or (not classes and outputs == len(CLASSES))
    images, masks = _seen(model.preprocess, found.images, found.masks)
    return Data(
        images,
        found.labels if of_markers else None,
        masks if of_markers else None,
        found.ids,
        MARKERS,
        classes,
        (),
        ruled=of_markers and images is found.images and knows_rule(model.module),
    )


def _seen(
    preprocess: Preprocess, images: UInt8[np.ndarray, "n 3 h w"], masks: Bool[np.ndarray, "n h w"]
) -> tuple[UInt8[np.ndarray, "n c u v"], Bool[np.ndarray, "n u v"]]:
    """Images and masks after a model's resize and crop; the very same where it takes them as they are."""
    if preprocess.crop == images.shape[2:] and preprocess.channels == 3:
        return images, masks
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    return (
        np.stack([preprocess.image(picture) for picture in pictures]),
        np.stack([preprocess.mask(Image.fromarray(mask)) for mask in masks]),
    )
