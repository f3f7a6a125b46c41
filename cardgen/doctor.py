"""What `cardgen doctor` finds: installation, device, model, data, and which methods fit them."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from cardgen.config import RunConfig
from cardgen.errors import CardgenError
from cardgen.forward import prepared, probabilities
from cardgen.methods import METHODS, real_methods
from cardgen.plan import unfit
from cardgen.probe import cache_folder
from cardgen.subjects.embedded import DATA
from cardgen.subjects.loading import Loaded, choose_device, load_subject
from cardgen.words import listing, plural

NEEDED = ("torch", "torchvision", "captum", "numpy")
EXTRAS = {"timm": "timm", "transformers": "hf", "datasets": "hf", "onnxruntime": "onnx"}
FEW = 16
CLOSE = 1e-3
"""By how much a probability may differ between a sample alone and in a batch."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is as it should be, and what was seen."""

    well: bool
    text: str


def examine(config: RunConfig) -> Iterator[Finding]:
    """Findings one by one, in an order in which each rests on those before it; the first that hinders a run ends them."""
    yield from _installation()
    try:
        yield _device(config.device)
        yield from _subject(load_subject(_few(config)))
    except CardgenError as error:
        yield Finding(False, " ".join(str(error).split()))


def _few(config: RunConfig) -> RunConfig:
    """A handful of samples of one's own data; the embedded data are there anyway."""
    return config if config.data in DATA else config.model_copy(update={"n": min(config.n or FEW, FEW)})


def _installation() -> Iterator[Finding]:
    found = [f"{name} {version(name)}" for name in NEEDED]
    yield Finding(True, f"cardgen {version('cardgen')}, Python {platform.python_version()}, {', '.join(found)}")
    for name, extra in EXTRAS.items():
        try:
            yield Finding(True, f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding(
                True, f"{name} is not installed; models and data that need it ask for `pip install cardgen[{extra}]`"
            )
    folder = cache_folder()
    writable = os.access(next(path for path in (folder, *folder.parents) if path.exists()), os.W_OK)
    text = (
        f"{folder} keeps batch sizes"
        if writable
        else f"{folder} cannot be written: batch sizes are looked for at every run"
    )
    yield Finding(True, text)


def _device(name: str) -> Finding:
    device = choose_device(name)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Finding(
            True, f"{torch.cuda.get_device_name(device)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    without = "" if torch.cuda.is_available() else "; no CUDA device is seen"
    return Finding(True, f"{platform.machine()} {device.type}, {plural(torch.get_num_threads(), 'thread')}{without}")


def _subject(loaded: Loaded) -> Iterator[Finding]:
    record, subject = loaded.record, loaded.subject
    kind = "a black box" if loaded.black_box else f"{record.parameters:,} parameters of type {loaded.dtype}"
    shape = " × ".join(map(str, record.shape))
    yield Finding(True, f"{record.model}: {kind}; inputs {shape}; batches of {subject.batch}")
    yield from (Finding(True, note) for note in loaded.notes)
    yield _health(loaded)
    yield Finding(
        True,
        "ground-truth masks" if record.has_masks else "no ground-truth masks: evaluations that need them are skipped",
    )
    yield _steady(loaded)
    yield from _methods(loaded)


def _health(loaded: Loaded) -> Finding:
    record = loaded.record
    if record.accuracy is None or record.accuracy_interval is None:
        return Finding(True, f"{record.n} samples without labels: the model's health is unknown")
    low, high = record.accuracy_interval
    found = f"accuracy {record.accuracy:.1%} on {record.n} samples (95 % interval {low:.0%} to {high:.0%})"
    if record.health == "unknown":
        return Finding(True, f"{found}, all of one class: the model's health is unknown")
    if record.health == "chance":
        return Finding(
            False, f"{found}: not told from chance, so evaluations are skipped; check classes and preprocessing"
        )
    return Finding(True, found)


def _steady(loaded: Loaded) -> Finding:
    """Whether a sample's probabilities are its own: the same twice, and alone as in a batch."""
    subject = loaded.subject
    some = subject.inputs[: min(8, len(subject))]
    with prepared(subject.model):
        together, again = (probabilities(subject.model, some, len(some)) for _ in range(2))
        alone = probabilities(subject.model, some, 1)
    if not torch.equal(together, again):
        return Finding(
            False, "the model gives other outputs for the same inputs: it draws random numbers, or keeps state"
        )
    moved = float((together - alone).abs().max())
    if moved > CLOSE:
        return Finding(
            False,
            f"a sample's probability moves by {moved:.2g} with the batch it is in; expected at most {CLOSE:g}, "
            "or a score would depend on its neighbours",
        )
    return Finding(True, "the same outputs twice, and alone as in a batch")


def _methods(loaded: Loaded) -> Iterator[Finding]:
    reasons = {key: unfit(METHODS[key], loaded) for key in real_methods()}
    fitting = [key for key, reason in reasons.items() if not reason]
    if fitting:
        yield Finding(True, f"methods that fit: {listing(fitting)}")
    if any(METHODS[key].entry.access == "features" for key in fitting):
        yield Finding(True, f"methods of class activation take the layer {loaded.subject.features}")
    yield from (Finding(True, f"{key} will be skipped: {reason}") for key, reason in reasons.items() if reason)
