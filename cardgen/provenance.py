"""Where and with what a record was made."""

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("cardgen", "torch", "captum", "numpy")


@lru_cache(maxsize=1)
def _commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that this code runs from, and whether it has uncommitted changes; None outside one."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no", "--", "cardgen"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    if not (root / ".git").exists():
        raise OSError("no checkout")
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@lru_cache(maxsize=1)
def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def provenance(device: torch.device, dtype: str, batch: int) -> dict[str, Any]:
    """What may differ between two runs that say the same, as fields of a record's `Provenance`."""
    commit, dirty = _commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "packages": _packages(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU",
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "batch": batch,
    }
