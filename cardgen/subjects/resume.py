"""Checkpoints of a training: written whole after each epoch, and gone on from only where everything is the same."""

import glob
import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cardgen.records import write_atomic
from cardgen.subjects.course import Course, TrainingData
from cardgen.weights import weights_digest


def identity(models: Sequence[nn.Module], data: TrainingData, course: Course, seeds: Sequence[int]) -> str:
    """sha256 of all that decides a training's weights: first weights, data, recipe, seeds, kind of device, torch's version."""
    devices = {parameter.device.type for model in models for parameter in model.parameters()}
    parts = (*map(weights_digest, models), data.digest, sorted(asdict(course).items()), *seeds, sorted(devices))
    return hashlib.sha256("\x1f".join(map(str, (*parts, torch.__version__))).encode()).hexdigest()


@dataclass(frozen=True)
class Saved:
    """A checkpoint's file, if there is one, and the identity of the training that it is to be of."""

    path: Path | None
    identity: str
    tell: Callable[[str], None]

    def save(self, content: dict[str, Any]) -> None:
        """Write tensors, numbers and words; the file before stays until the new one is whole."""
        if self.path is not None:
            buffer = io.BytesIO()
            torch.save({**content, "identity": self.identity}, buffer)
            write_atomic(self.path, buffer.getvalue())

    def load(self) -> dict[str, Any] | None:
        """What was saved; None where there is nothing, or what is there is damaged or of another training."""
        if self.path is None or not self.path.exists():
            return None
        found = _read(self.path)
        if found is None or found.get("identity") != self.identity:
            self.tell(f"{self.path.name} is {'damaged' if found is None else 'of another training'}; it is begun anew")
            return None
        return found


def part(path: Path | None, ending: str) -> Path | None:
    """The checkpoint of a part of a training: beside the one of all, its name with an ending."""
    return path and path.with_name(f"{path.name}.{ending}")


def forget(path: Path) -> None:
    """Delete a checkpoint, and those of parts, if they are there."""
    for file in [path, *path.parent.glob(f"{glob.escape(path.name)}.*")]:
        file.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    """torch does not compare the checksums that it writes; zipfile does."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of many kinds, for as many ways to be damaged
        return None
    return found if isinstance(found, dict) else None
