"""A model with what is known of it, and what whoever asked for it said."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from cardgen.draws import seed_of
from cardgen.errors import CardgenError
from cardgen.subjects.checkpoints import PICKLED
from cardgen.subjects.preprocess import EXAMPLE, Preprocess, parse_preprocess

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with what is known of its inputs and outputs.

    Attributes:
        module: in evaluation mode, on the CPU; a BlackBox for functions and ONNX files.
        name: short, fit for a folder's name.
        description: one clause.
        preprocess: from a picture to its inputs.
        classes: names by output index, none where they are not known.
    """

    module: nn.Module
    name: str
    description: str
    preprocess: Preprocess
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """A model as it was asked for.

    Attributes:
        name: without what says where it comes from (timm:, hf:).
        weights: DEFAULT, none, a file, or what else the source knows.
        num_classes: outputs; what the weights have, if None.
        preprocess: what `--preprocess` says; what the source knows, if None.
    """

    name: str
    weights: str = "DEFAULT"
    num_classes: int | None = None
    preprocess: str | None = None

    @property
    def file(self) -> Path | None:
        """The file of weights, where that is what was named."""
        path = Path(self.weights)
        named = path.suffix in (".safetensors", *PICKLED) or len(path.parts) > 1 or path.is_file()
        return path if named else None

    def preprocessing(self, known: Callable[[], Preprocess]) -> Preprocess:
        """What was asked for, or else what is known."""
        return known() if self.preprocess is None else parse_preprocess(self.preprocess)

    def check_weights(self) -> None:
        """Refuse words that name no weights, where there are only DEFAULT, none and files."""
        if self.weights not in ("DEFAULT", "none") and self.file is None:
            raise CardgenError(
                f"weights {self.weights!r} of {self.name}; expected DEFAULT, none, or a file (.safetensors, .pt, .pth)"
            )

    def check_classes(self, outputs: int) -> None:
        """Refuse another number of classes than trained weights have: the head would be left untrained."""
        if self.num_classes not in (None, outputs):
            raise CardgenError(
                f"the weights of {self.name} have {outputs} classes, not {self.num_classes}; expected the same number; leave "
                f"--num-classes out, or give weights of a model with {self.num_classes} classes by --weights FILE"
            )


def unknown_preprocess(name: str) -> CardgenError:
    """The error for a model that nobody has said the preprocessing of."""
    return CardgenError(f"the preprocessing of {name} is not known; expected it with the model; pass {EXAMPLE}")


def seeded(build: Callable[[], T], name: str) -> T:
    """What `build` makes, a model say, with torch's global generator seeded by the model's name, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of("init", name))
        return build()


def folder_name(text: str) -> str:
    """Letters without accents, digits, dots, dashes and underscores only; the first is a letter or a digit.

    >>> folder_name("modèle (2)-build")
    'modele-2-build'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"-?[^\w.-]+-?", "-", plain, flags=re.ASCII).strip("-._") or "model"


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
