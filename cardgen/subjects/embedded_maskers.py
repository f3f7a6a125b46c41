"""The embedded classifier's masking networks: how they are trained, how good they are, and their committed weights.

`python -m cardgen.subjects.embedded_maskers real_time_saliency` trains one anew and rewrites its weights and the manifest.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load
from sklearn.metrics import average_precision_score
from torch import Tensor

from cardgen.forward import prepared, probabilities
from cardgen.mask_slopes import mixed
from cardgen.maskers import Masker, build, mask
from cardgen.space import Space
from cardgen.subjects.digits_on_scenes import DIGIT_NAMES, MEAN, SIZE, STD, assemble
from cardgen.subjects.fitting import Course, TrainingData, fit
from cardgen.subjects.masker_training import masker_loss
from cardgen.subjects.networks import committed, load_embedded, manifest, normalised, write
from cardgen.subjects.training import placements

CLASSIFIER, SEED = "digit-cnn", 0
COURSES = {"real_time_saliency": Course(epochs=4), "phang_masker": Course(epochs=3)}
SPACE = Space.normalised(MEAN, STD)
BATCH = 100
MODULE = "cardgen.subjects.embedded_maskers"


def name_of(kind: str) -> str:
    """What a masking network is called among the committed weights."""
    return f"{CLASSIFIER}.masker-{kind}"


def train_embedded_masker(kind: str) -> dict[str, Tensor]:
    """The weights of a masking network trained for `digit-cnn`, from a fixed seed, on the training digits placed anew in each epoch.

    Raises:
        CardgenError: no method of that name has a masking network.
    """
    data = TrainingData(placements(CLASSIFIER), normalised, digest="")
    loss = masker_loss(kind, load_embedded(CLASSIFIER), SPACE)
    return fit(_new(kind), data, COURSES[kind], SEED, loss=loss).model.state_dict()


def load_embedded_masker(kind: str) -> Masker:
    """The masking network of `digit-cnn` with its committed weights, in evaluation mode.

    Raises:
        CardgenError: no method of that name has one, or the weights are not those of the manifest.
    """
    return _with(_new(kind), load(committed(name_of(kind), f"{MODULE} {kind}")))


def retrain_masker(kind: str) -> dict[str, Any]:
    """Train one by its course, rewrite its weights and its entry in the manifest, and return the entry."""
    masker = _with(_new(kind), train_embedded_masker(kind))
    told = {
        **{key: round(value, 4) for key, value in quality(masker).items()},
        "classifier": manifest()[CLASSIFIER]["sha256"],
        "recipe": asdict(COURSES[kind]) | {"seed": SEED},
    }
    return write(name_of(kind), masker, told)


def quality(masker: Masker) -> dict[str, float]:
    """How good the masks of the test images are, asked for the digit; means over all 600.

    `average_precision` of the mask as a detector of the digit's pixels; `area`, the mask's mean; the digit's probability `before`,
    then `kept` of the image under the mask, and `left` of what the mask takes away, on the mean colour; `bare`, of that colour alone.
    """
    scenes, classifier = assemble("test"), load_embedded(CLASSIFIER)
    inputs, targets = normalised(torch.from_numpy(scenes.images)), torch.from_numpy(scenes.digits)
    with prepared(classifier):
        parts = [slice(start, start + BATCH) for start in range(0, len(inputs), BATCH)]
        masks = torch.cat([mask(masker, classifier, inputs[part], targets[part]) for part in parts])
        hidden = SPACE.colour("mean", inputs).expand_as(inputs)
        seen = {"before": inputs, "kept": mixed(hidden, inputs, masks), "left": mixed(inputs, hidden, masks)}
        found = {
            key: float(probabilities(classifier, images, BATCH).gather(1, targets[:, None]).mean())
            for key, images in (seen | {"bare": hidden}).items()
        }
    pairs = zip(scenes.masks, masks[:, 0].numpy(), strict=True)
    precision = [float(average_precision_score(truth.ravel(), made.ravel())) for truth, made in pairs]
    return {"average_precision": sum(precision) / len(precision), "area": float(masks.mean()), **found}


def _new(kind: str) -> Masker:
    with torch.random.fork_rng(devices=[]):
        return build(kind, load_embedded(CLASSIFIER), torch.zeros(1, 3, SIZE, SIZE), len(DIGIT_NAMES))


def _with(masker: Masker, weights: dict[str, Tensor]) -> Masker:
    masker.load_state_dict(weights)
    return masker.eval()


if __name__ == "__main__":
    print(json.dumps(retrain_masker(sys.argv[1]), indent=2))
