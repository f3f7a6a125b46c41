"""How the embedded models and their siblings are trained: one recipe, deterministic, minutes on two cores.

`python -m cardgen.subjects.training digit-cnn` trains anew and rewrites the committed weights and the manifest. Siblings are named
after the model: digit-cnn.seed-1.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.subjects import fitting
from cardgen.subjects.compression import at_zero, smallest
from cardgen.subjects.digits_on_scenes import Scenes, assemble
from cardgen.subjects.fitting import Course, Labelled, TrainingData
from cardgen.subjects.networks import SmallCNN, SmallResNet, load_embedded, normalised, write


@dataclass(frozen=True)
class Recipe:
    """A course and its seed, as the manifest holds them; every draw comes from `seed`."""

    epochs: int
    seed: int = 0
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2


MODEL = "digit-cnn"
PRUNED, BY_HEART, OTHER = (f"{MODEL}.{name}" for name in ("compressed-pruned", "random-labels", "architecture"))
MEMORISED = 1500
"""Images whose random labels are learnt by heart; ten times as many weights take eighty epochs for it."""
RECIPES = {
    MODEL: Recipe(epochs=28),
    "scene-cnn": Recipe(epochs=5),
    f"{MODEL}.seed-1": Recipe(epochs=28, seed=1),
    OTHER: Recipe(epochs=28),
    BY_HEART: Recipe(epochs=80),
    PRUNED: Recipe(epochs=3, learning_rate=4e-4),
}


def fit(model: nn.Module, epoch: Callable[[int], Labelled], recipe: Recipe) -> nn.Module:
    """Train `model` on the embedded images from new initial weights and return it in evaluation mode.

    epoch: gives the images (uint8) and labels of the k-th epoch, k from 0; all epochs must be of one length. The model
    is changed in place. The same recipe, data, machine, versions and threads give the same weights.
    """
    course = Course(recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay)
    return fitting.fit(model, TrainingData(epoch, normalised, digest=""), course, recipe.seed).model


def labels_of(name: str, scenes: Scenes) -> Int64[Tensor, "n"]:
    """The label set that an embedded model is trained on."""
    return torch.from_numpy(scenes.digits if name.startswith(MODEL) else scenes.scenes)


def placements(name: str) -> Callable[[int], Labelled]:
    """Epochs of an embedded model: the training digits placed anew, by another seed, in each.

    Those of random labels are the same few images over and over, with their labels in a random order.
    """
    if name == BY_HEART:
        scenes = assemble("train", n=MEMORISED)
        order = torch.randperm(MEMORISED, generator=torch.Generator().manual_seed(0))
        fixed = torch.from_numpy(scenes.images), labels_of(name, scenes)[order]
        return lambda k: fixed

    def epoch(k: int) -> Labelled:
        scenes = assemble("train", seed=k)
        return torch.from_numpy(scenes.images), labels_of(name, scenes)

    return epoch


def accuracy(model: nn.Module, images: UInt8[Tensor, "n 3 h w"], labels: Int64[Tensor, "n"]) -> float:
    """Share of images whose largest logit is the label's, in [0, 1]; higher is better."""
    return float((predictions(model, images).argmax(dim=1) == labels).float().mean())


def predictions(model: nn.Module, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
    """Logits of all images, computed in batches."""
    with torch.inference_mode():
        return torch.cat([model(normalised(batch)) for batch in torch.split(images, 128)])


def trained(name: str) -> nn.Module:
    """An embedded model or sibling, trained by its recipe: from new initial weights, but for the one that is pruned first."""
    if name != PRUNED:
        return fit(SmallResNet() if name == OTHER else SmallCNN(), placements(name), RECIPES[name])
    model, recipe = load_embedded(MODEL), RECIPES[name]
    kept = at_zero(smallest(model))
    kept(model)
    course = Course(recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay, fresh=False)
    data = TrainingData(placements(name), normalised, digest="")
    return fitting.fit(model, data, course, recipe.seed, after_step=kept).model


def retrain(name: str) -> dict[str, Any]:
    """Train an embedded model by its recipe, rewrite its weights and its entry in the manifest, and return the entry."""
    if name not in RECIPES:
        raise CardgenError(f"embedded model; expected one of {', '.join(RECIPES)}, got {name}; choose one of these")
    model, test = trained(name), assemble("test")
    told: dict[str, Any] = {
        "accuracy": round(accuracy(model, torch.from_numpy(test.images), labels_of(name, test)), 4),
        "n_test": len(test.ids),
        "recipe": asdict(RECIPES[name]),
    }
    if name == BY_HEART:
        told["training_accuracy"] = round(accuracy(model, *placements(name)(0)), 4)
    return write(name, model, told)


if __name__ == "__main__":
    print(json.dumps(retrain(sys.argv[1]), indent=2))
