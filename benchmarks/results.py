"""What a benchmark found: a table to read, and JSON without dates to keep."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("cardgen", "torch", "numpy", "quantus")


@dataclass(frozen=True)
class Result:
    """One benchmark's findings.

    Attributes:
        name: of the benchmark and its file.
        claim: what the target says, in words.
        met: whether the target was met; None where it could not be measured.
        settings: sizes and batches that were used.
        rows: the table, one mapping a line; all have the same keys.
        raw: every single measurement behind the medians.
        notes: what a reader must know.
    """

    name: str
    claim: str
    met: bool | None
    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    raw: Mapping[str, Any]
    notes: Sequence[str] = ()


def surroundings(device: torch.device) -> dict[str, Any]:
    """Device, threads (where the settings do not say otherwise) and versions."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} (CPU)"


def save(result: Result, device: torch.device, folder: Path = FOLDER) -> Path:
    """Write `<name>.json`; numbers are rounded to four significant digits."""
    content = {
        "claim": result.claim,
        "met": result.met,
        **surroundings(device),
        "settings": dict(result.settings),
        "rows": list(result.rows),
        "raw": dict(result.raw),
        "notes": list(result.notes),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result.name}.json"
    file.write_text(json.dumps(_rounded(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    return file


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def show(result: Result, console: Console) -> None:
    """Print the table, whether the target was met, and the notes."""
    table = Table(title=result.name.replace("_", " "), title_justify="left")
    for name in result.rows[0]:
        table.add_column(name, justify="left" if isinstance(result.rows[0][name], str) else "right")
    for row in result.rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row.values()))
    console.print(table)
    verdict = {True: "met", False: "missed", None: "not measured"}[result.met]
    console.print(f"Target: {result.claim}: {verdict}.", highlight=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"Note: {note}", highlight=False, soft_wrap=True)
