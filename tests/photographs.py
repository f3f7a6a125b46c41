"""A folder of real photographs, scikit-image's, with classes and masks; and networks that tell the classes apart."""

from importlib.resources import files

import numpy as np
import torch
from PIL import Image, ImageDraw

OBJECTS = {  # file: class, left, upper, right, lower edge of the object
    "astronaut.png": ("astronaut", (155, 15, 300, 190)),
    "camera.png": ("photographer", (20, 60, 330, 500)),
    "chelsea.png": ("cat", (40, 0, 370, 300)),
    "coffee.png": ("cup", (75, 10, 480, 370)),
    "motorcycle_left.png": ("motorcycle", (90, 80, 690, 460)),
    "rocket.jpg": ("rocket", (300, 120, 345, 410)),
}
CLASSES = sorted(name for name, _ in OBJECTS.values())


def write_photographs(folder, crops=4, masks=True, flat=False):
    """`crops` views of each photograph below `folder`, in class subfolders or flat, with elliptical masks in `masks/`.

    Views leave out up to a quarter of each side; odd ones are mirrored.
    """
    rng = np.random.default_rng(0)
    for file, (name, box) in OBJECTS.items():
        with files("skimage").joinpath("data", file).open("rb") as stream:
            photograph = Image.open(stream).convert("RGB")
        mask = Image.new("L", photograph.size)
        ImageDraw.Draw(mask).ellipse(box, fill=255)
        for k in range(crops):
            left, upper, right, lower = rng.uniform(0, 0.25, 4) / 2
            w, h = photograph.size
            view = (int(left * w), int(upper * h), int((1 - right) * w), int((1 - lower) * h))
            for picture, below in ((photograph, folder), *([(mask, folder / "masks")] if masks else [])):
                place = below if flat else below / name
                place.mkdir(parents=True, exist_ok=True)
                shown = picture.crop(view)
                shown = shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if k % 2 else shown
                shown.save(place / f"{name}-{k}.png")
    return folder


@torch.no_grad()
def taught(model, head, inputs, labels):
    """Make a random network tell classes apart: batch norms get the statistics of `inputs`, `head` is solved by least squares."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()(inputs)
    features = []
    handle = head.register_forward_hook(lambda m, arguments, output: features.append(arguments[0]))
    model.eval()(inputs)
    handle.remove()
    wanted = torch.nn.functional.one_hot(labels).double() * 8 - 4
    x = features[0].double()
    centre, scale = x.mean(0), x.std() + 1e-12
    x = (x - centre) / scale
    solved = torch.linalg.solve(x.T @ x + 1.0 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ wanted)
    head.weight.copy_((solved / scale).T)
    head.bias.copy_(-(centre / scale) @ solved)
    return model
