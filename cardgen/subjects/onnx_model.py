"""ONNX files as black boxes, run by onnxruntime."""

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.extras import extra

TYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
WRAP = "write a function around it instead: path/to/file.py:function"


def onnx_model(file: Path) -> BlackBox:
    """The model in an ONNX file, as a function of its one input.

    Inputs are converted to the type that the file asks for. A file made for a fixed number of samples gets that many at a time,
    the last batch filled up with copies of its last sample. Runs on CUDA where onnxruntime can, with as many threads as torch.

    Raises:
        CardgenError: onnxruntime is not installed, or the file is missing, damaged, or not one of images to scores.
    """
    session = _session(file)
    name, shape, kind = _input(session, file)
    output = _output(session, file)
    fixed = shape[0] if isinstance(shape[0], int) else None

    def scores(inputs: Float[Tensor, "n c h w"]) -> np.ndarray:
        _check(file, shape, inputs)
        batches = _batches(inputs.float().cpu().numpy().astype(kind), fixed)
        return np.concatenate([session.run([output], {name: batch})[0] for batch in batches])[: len(inputs)]

    return BlackBox(scores, identity=_digest(file))


def _session(file: Path) -> Any:
    runtime = extra("onnxruntime", "onnx", "models in .onnx files")
    if not file.is_file():
        raise CardgenError(f"{file}: no such file; expected an ONNX model; mend the path")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    chosen = [provider for provider in PROVIDERS if provider in runtime.get_available_providers()]
    try:
        return runtime.InferenceSession(str(file), options, providers=chosen)
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise CardgenError(
            f"{file}: onnxruntime cannot load it: {' '.join(str(error).split())}; expected an ONNX model; export it again"
        ) from None


def _input(session: Any, file: Path) -> tuple[str, list[Any], type[np.floating[Any]]]:
    """Name, shape and type of the one input."""
    found = session.get_inputs()
    if len(found) != 1 or len(found[0].shape) != 4 or found[0].type not in TYPES:
        text = "; ".join(f"{node.name} {node.shape} {node.type}" for node in found)
        raise CardgenError(f"{file} takes {text}; expected one float input [n, channels, h, w]; {WRAP}")
    return found[0].name, found[0].shape, TYPES[found[0].type]


def _output(session: Any, file: Path) -> str:
    """Name of the scores: the only output, or the one called logits."""
    names: list[str] = [node.name for node in session.get_outputs()]
    if len(names) > 1 and "logits" not in names:
        raise CardgenError(f"{file} gives {', '.join(names)}; expected one output, or one called logits; {WRAP}")
    return "logits" if len(names) > 1 else names[0]


def _check(file: Path, shape: list[Any], inputs: Tensor) -> None:
    """The sides that the file fixes."""
    if any(isinstance(side, int) and side != given for side, given in zip(shape[1:], inputs.shape[1:], strict=True)):
        raise CardgenError(
            f"{file} takes inputs {shape}; got {list(inputs.shape)}; expected the same channels and sides; "
            f"set the sides with --preprocess, the order of the axes with a function around it: path/to/file.py:function"
        )


def _batches(values: np.ndarray, fixed: int | None) -> Iterator[np.ndarray]:
    if fixed is None:
        yield values
        return
    for start in range(0, len(values), fixed):
        part = values[start : start + fixed]
        yield np.concatenate([part, part[-1:].repeat(fixed - len(part), axis=0)])


def _digest(file: Path) -> str:
    """sha256 of the file and of those beside it whose names begin with its own, where exporters put large weights."""
    digest = hashlib.sha256()
    for part in sorted(file.parent.glob(f"{glob.escape(file.name)}*")):
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
