"""Run the benchmarks, print their tables, and keep their results."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.efficiency import efficiency
from benchmarks.ensemble import ensemble
from benchmarks.host_time import host_time
from benchmarks.methods import methods
from benchmarks.results import FOLDER, Result, save, show
from cardgen.subjects.loading import choose_device

QUICK: Mapping[str, Mapping[str, Any]] = {
    "efficiency": {"n": 8, "masked": 2, "masks": 64, "rounds": 2, "at_least": 0.05},
    "ensemble": {"members": 2, "n": 16, "rounds": 1},
    "host_time": {"n": 4, "rounds": 2},
    "methods": {"n": 4, "enough": 100, "rounds": 1},
}
BENCHMARKS: Mapping[str, Callable[..., Result]] = {
    "efficiency": efficiency,
    "ensemble": ensemble,
    "host_time": host_time,
    "methods": methods,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--quick", is_flag=True, help="Tiny sizes, to see that it runs; the numbers mean little.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the JSON; nothing is kept of a quick run without it."
)
def main(names: tuple[str, ...], device: str, quick: bool, out: Path | None) -> None:
    """Measure cardgen's speed: all benchmarks, or those NAMED."""
    where, console = choose_device(device), Console()
    folder = out or (None if quick else FOLDER)
    for name in names or BENCHMARKS:
        result = BENCHMARKS[name](where, **(QUICK[name] if quick else {}))
        show(result, console)
        if folder:
            console.print(f"Kept in {save(result, where, folder)}\n", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
