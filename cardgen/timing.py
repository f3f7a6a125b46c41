"""Clocks and memory gauges; what they read is provenance, never part of a record's identity."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(run: Callable[[], object], device: torch.device, repetitions: int) -> float:
    """Median wall time of `run` after one run to warm up."""
    run()
    seconds = []
    for _ in range(repetitions):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def peak_memory_mb(run: Callable[[], object], device: torch.device) -> float | None:
    """Memory that `run` takes at its peak, above what is held before, in MB; None where there is no gauge.

    On CUDA the allocator's own count. On Linux the growth of the resident set, whose high-water mark can be reset.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_kb("VmRSS")
        run()
        return max(0.0, (_status_kb("VmHWM") - before) * 1024 / 1e6)
    except OSError:
        return None


def _status_kb(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")
