"""Training that the user's own code does: `train: path.py:fit`."""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.draws import seed_of
from cardgen.errors import CardgenError
from cardgen.forward import logits
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.fitting import EVALUATED, TrainingData
from cardgen.subjects.own_models import CODE, code_digest, described, unwrapped
from cardgen.subjects.user_code import code_file, on_path, user_error, user_function

SIGNATURE = "fit(inputs, labels, seed)"
TRIED = 8
"""Images that the trained model's outputs are looked at for."""


def own_fit(name: str, data: TrainingData, seed: int) -> nn.Module:
    """What a function of the user's trains, in evaluation mode, on the CPU.

    The function is `fit(inputs: FloatTensor [n, c, h, w], labels: LongTensor [n], seed: int) -> nn.Module`. It is given all images of
    the first epoch, normalised, on the CPU, and returns a new model, trained, whose forward gives logits [n, classes]. The global
    generators of torch, numpy and random are seeded by the seed while it runs, and put back.

    Raises:
        CardgenError: no such function, one that takes other arguments, raises, or returns something else than a model of these labels.
    """
    with _undisturbed(), torch.inference_mode(False), torch.enable_grad():
        function = _function(name)
        images, labels = data.epoch(0)
        inputs = torch.cat([data.inputs(batch).float().cpu() for batch in torch.split(images, EVALUATED)])
        # copies, so that what the function writes into its arguments is not what the model is tried on
        tried, known = inputs[:TRIED].clone(), labels.cpu().clone()
        _seed(seed_of("train", seed))  # not before: the file's own code may seed as well
        model = _module(_returned(function, name, inputs, known.clone(), seed), name)
        setattr(model, CODE, code_digest(function))
        model.cpu().eval()
        _check_outputs(model, name, tried, known, code_file(function))
    return model


def own_digest(name: str) -> str:
    """sha256 of the file that the function is in, for keys; code and data that it takes from elsewhere are not seen.

    Raises:
        CardgenError: no such function, or one that is not written in Python.
    """
    with _undisturbed():
        return code_digest(_function(name))


def _function(name: str) -> Callable[..., Any]:
    function = user_function(name)
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise CardgenError(
            f"{name} is built in; expected a function written in Python, {SIGNATURE}; write one"
        ) from None
    try:
        signature.bind(None, None, 0)
    except TypeError:
        raise CardgenError(
            f"{name} is called as {name.rpartition(':')[2]}{signature}; expected {SIGNATURE}; give it these three arguments"
        ) from None
    return function


def _returned(
    function: Callable[..., Any], name: str, inputs: Float[Tensor, "n c h w"], labels: Tensor, seed: int
) -> object:
    try:
        with on_path(name):
            return function(inputs, labels, seed)
    except CardgenError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise CardgenError(
            f"{name} raised {user_error(error, code_file(function))}; expected it to return the trained model; mend the function"
        ) from error


def _module(returned: object, name: str) -> nn.Module:
    built = unwrapped(returned)
    if not isinstance(built, nn.Module) or isinstance(built, torch.jit.ScriptModule | BlackBox):
        raise CardgenError(f"{name} returned {described(built)}; expected an nn.Module, trained; return that")
    return built


def _check_outputs(
    model: nn.Module, name: str, inputs: Float[Tensor, "n c h w"], labels: Tensor, file: Path | None
) -> None:
    whose = f"the model that {name} returned"
    try:
        with torch.no_grad():
            scores = logits(model, inputs)
    except CardgenError as error:
        raise CardgenError(f"{whose} does not fit: {error}") from None
    except Exception as error:  # whatever the user's forward raises
        raise CardgenError(
            f"{whose} raised {user_error(error, file)} for inputs of shape {tuple(inputs.shape)}; expected logits; mend its forward"
        ) from error
    if scores.shape[1] <= int(labels.max()):
        raise CardgenError(
            f"{whose} gives {scores.shape[1]} logits, and labels reach to {int(labels.max())}; expected one for each class; "
            f"give its last layer that many"
        )
    if not scores.isfinite().all():
        raise CardgenError(
            f"{whose} gives outputs that are not finite; expected logits; lower the learning rate, or mend its forward"
        )


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The global generators of torch, numpy and random are put back."""
    numbers, words = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(words)
