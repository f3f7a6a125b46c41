"""The command line: parse, call one function, print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from cardgen import __version__
from cardgen.errors import CardgenError

UNFIT, INTERRUPTED = 2, 130
F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING = click.Path(path_type=Path, file_okay=False, exists=True)
FILE = click.Path(path_type=Path, dir_okay=False)


class Group(click.Group):
    """Shows CardgenError as one line; Ctrl-C says that nothing is lost."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CardgenError as error:
            click.secho(f"error: {' '.join(str(error).split())}", fg="red", err=True)
            sys.exit(UNFIT)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            click.secho(
                "error: torch is not installed, and measuring needs it; run `pip install cardgen`", fg="red", err=True
            )
            sys.exit(UNFIT)
        except KeyboardInterrupt:
            click.echo("\nStopped. Every finished evaluation is stored; the same command goes on from there.", err=True)
            sys.exit(INTERRUPTED)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cardgen")
def main() -> None:
    """Saliency cards from measurements."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="replace"
            )  # where an encoding lacks a sign, a question mark stands, and the run goes on


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else None


SUBJECT: tuple[Callable[[F], F], ...] = (
    click.option(
        "--model",
        help="The model to explain: a torchvision name, timm:NAME, hf:NAME, FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, "
        "FILE.onnx, or an embedded one (default digit-cnn).",
    ),
    click.option(
        "--weights", help="DEFAULT (default), none, a file (.safetensors, .pt, .pth), or a name of torchvision's."
    ),
    click.option(
        "--num-classes", type=int, help="Outputs of the model, where its weights have another number than is usual."
    ),
    click.option(
        "--preprocess", help="imagenet, or settings such as resize=256,crop=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5."
    ),
    click.option(
        "--data",
        help="The data to explain it on: a folder of images, a CSV of path,label,mask, hf:NAME, or digits-on-scenes (default).",
    ),
    click.option("--classes", type=FILE, help="A file that maps class names to the model's outputs."),
    click.option("--ratings", type=FILE, help="A CSV file of people's ratings of maps (docs/ratings.md)."),
    click.option("--target", help="The class explained: predicted (default), label, or a class number."),
    click.option("--n", type=int, help="Samples for every metric, in place of the budget's."),
    click.option("--device", help="auto (default), cpu, cuda, cuda:N."),
    click.option(
        "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Of the model; its own by default."
    ),
    click.option("--batch", type=int, help="Samples to forward at once; probed by default."),
    click.option("--layer", help="The layer that class activation methods take; found by default."),
    click.option("--seed", type=int, help="Of all random draws (default 0)."),
    click.option("--config", type=FILE, help="Settings; cardgen.yaml here, if there is one, by default."),
)
OWN = click.option(
    "--method",
    type=FILE,
    multiple=True,
    help="A Python file with a saliency method of yours; may be given more than once. Measured alone, or beside --methods.",
)
MEASURED: tuple[Callable[[F], F], ...] = (
    click.option("--name", help="The subject's folder (default MODEL-DATA)."),
    click.option("--methods", callback=_names, help="Methods, with commas; `core` (default) or `all`."),
    OWN,
    click.option("--metrics", callback=_names, help="Metrics, with commas; `all` by default."),
    click.option(
        "--budget", type=click.Choice(["quick", "standard", "full"]), help="Sample and draw counts (default quick)."
    ),
    click.option("--out", type=FOLDER, help="Folder that takes evaluations/ and cards/ (default here)."),
    click.option(
        "--force",
        is_flag=True,
        default=None,
        help="Measure again what is there, and let smaller budgets replace larger ones.",
    ),
    click.option("--train-data", help="Labelled images to train sibling models on: a folder, a CSV, or hf:NAME."),
    click.option(
        "--train", help="FILE.py:FUNCTION that trains them in place of the built-in recipe (docs/siblings.md)."
    ),
    click.option("--train-budget", type=float, help="Minutes that training may take; the next run goes on from there."),
    click.option("--force-unhealthy", is_flag=True, default=None, help="Give verdicts on a model at chance level."),
    click.option(
        "--missing", is_flag=True, default=None, help="Only what has no record yet; leave changed ones alone."
    ),
)


CHEAP = ("vanilla_gradients", "input_x_gradient", "guided_backprop", "grad_cam")
"""Methods whose verdicts are repeated unless others are named."""
CALIBRATED: tuple[Callable[[F], F], ...] = (
    click.option("--name", help="The subject's folder (default MODEL-DATA)."),
    click.option(
        "--methods",
        callback=_names,
        help=f"Methods whose verdicts are repeated, with commas (default {', '.join(CHEAP)}).",
    ),
    OWN,
    click.option("--metrics", callback=_names, help="Metrics, with commas; `all` by default."),
    click.option(
        "--budget", type=click.Choice(["quick", "standard", "full"]), help="Draw counts of the metrics (default quick)."
    ),
    click.option("--out", type=FOLDER, help="Folder that takes evaluations/ (default here)."),
    click.option("--force", is_flag=True, default=None, help="Measure again what is there."),
)


def _options(*groups: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return add


@main.command()
@_options(SUBJECT, MEASURED)
@click.option("--dry-run", is_flag=True, default=None, help="The same as `cardgen plan`.")
def run(config: Path | None, **flags: Any) -> None:
    """Measure saliency methods, write verdicts and cards.

    What is measured already is not measured again; after an interruption the same command goes on.
    """
    from cardgen.config import load_config
    from cardgen.session import run_session

    sys.exit(run_session(load_config(config, flags), Console()))


@main.command()
@_options(SUBJECT, MEASURED)
def plan(config: Path | None, **flags: Any) -> None:
    """Say what `run` would measure, skip, and cost; write nothing."""
    from cardgen.config import load_config
    from cardgen.session import run_session

    sys.exit(run_session(load_config(config, {**flags, "dry_run": True}), Console()))


@main.command()
@_options(SUBJECT, CALIBRATED)
@click.option("--images", type=click.IntRange(20), default=400, show_default=True, help="Images in the bank.")
@click.option(
    "--repetitions", type=int, default=250, show_default=True, help="Verdicts a map; below 200 judge no goal."
)
@click.option("--size", type=click.IntRange(20), default=64, show_default=True, help="Images behind each verdict.")
@click.option("--show", is_flag=True, help="Only print what stands in evaluations/; needs no torch.")
def calibrate(
    config: Path | None, images: int, repetitions: int, size: int, show: bool, out: Path | None, **flags: Any
) -> None:
    """Measure how often verdicts are wrong: how often noise passes, and the truth does not.

    Fills a bank of scores of maps of which it is known what they hold, and judges samples of it again and again. What is measured already
    is not measured again; after an interruption the same command goes on.
    """
    from cardgen.calibration_table import lines

    if show:
        for line in lines((out or Path()) / "evaluations"):
            click.echo(line)
        return
    from cardgen.calibrating import calibrate_session
    from cardgen.calibration_records import Size
    from cardgen.config import load_config

    flags["methods"] = flags["methods"] or CHEAP
    settings = load_config(config, {**flags, "out": out})
    sys.exit(calibrate_session(settings, Size(images, repetitions, size), Console()))


@main.command()
@_options(SUBJECT)
def doctor(config: Path | None, **flags: Any) -> None:
    """Check the installation, the device, and whether model and data fit; write nothing."""
    from cardgen.config import load_config
    from cardgen.display import say
    from cardgen.doctor import examine

    console, well = Console(), True
    for finding in examine(load_config(config, flags)):
        say(console, f"{'✓' if finding.well else '✗'} {finding.text}", style=None if finding.well else "red")
        well = well and finding.well
    sys.exit(0 if well else 1)


@main.command()
@click.option("--evaluations", type=FOLDER, default=Path("evaluations"), show_default=True, help="Records to look at.")
def coverage(evaluations: Path) -> None:
    """Say which evaluations have no verdict yet. Needs no torch."""
    from cardgen.coverage import coverage_lines

    for line in coverage_lines(evaluations):
        click.echo(line)


@main.command()
@click.option("--evaluations", type=FOLDER, default=Path("evaluations"), show_default=True, help="Records to render.")
@click.option("--cards", type=FOLDER, default=Path("cards"), show_default=True, help="Folder that takes the cards.")
@click.option("--templates", type=FOLDER, help="Templates of your own.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a card would change.")
@click.option("--force", is_flag=True, help="Overwrite what was changed by hand outside kept regions.")
def build(evaluations: Path, cards: Path, templates: Path | None, check: bool, force: bool) -> None:
    """Render cards from records. Needs no torch."""
    from cardgen.build import build as build_cards
    from cardgen.display import built

    report = build_cards(evaluations, cards, templates=templates, check=check, force=force)
    for line in built(report, check=check):
        click.echo(line)
    sys.exit(1 if report.edited or (check and not report.clean) else 0)


@main.command()
@click.option("--evaluations", type=FOLDER, default=Path("evaluations"), show_default=True, help="Records to publish.")
@click.option(
    "--base", default="", help="Branch that the pull request goes to (default: the repository's default one)."
)
@click.option("--remote", default="origin", show_default=True, help="Remote that holds the base.")
@click.option("--repository", default="", help="OWNER/NAME on the forge (default: from the remote's address).")
@click.option("--per-method", is_flag=True, help="One pull request a method, in place of one for all.")
@click.option("--label", multiple=True, help="Label for a new pull request; may be given more than once.")
@click.option("--reviewer", multiple=True, help="User to ask for a review of a new pull request; as above.")
@click.option("--no-pr", is_flag=True, help="Push the branch only; needs no token.")
@click.option("--reopen", is_flag=True, help="Propose again what was declined by closing its pull request.")
@click.option(
    "--noise/--no-noise",
    default=None,
    help="Publish verdicts that flipped with the same key at once; in CI they wait for a second run by default.",
)
@click.option("--allow-mass-delete", is_flag=True, help="Delete more than a fifth of the cards at once.")
@click.option("--templates", type=FOLDER, help="Templates of your own.")
@click.option(
    "--yes/--dry-run", default=None, help="Write, or only say what would be written; dry outside CI by default."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a branch.")
def publish(
    evaluations: Path,
    repository: str,
    label: tuple[str, ...],
    reviewer: tuple[str, ...],
    no_pr: bool,
    noise: bool | None,
    yes: bool | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Propose new records and cards by pull request. Needs no torch."""
    import os

    from cardgen.publisher import command
    from cardgen.publisher.outcome import exit_status
    from cardgen.publisher.publish import Options

    alone = command.automatic(os.environ)
    options = Options(
        labels=label,
        pull_request=not no_pr,
        reviewers=reviewer,
        noise=not alone if noise is None else noise,
        dry_run=not (alone if yes is None else yes),
        **flags,
    )
    try:
        outcomes = command.run_publish(options, evaluations, os.environ, name=repository)
    except CardgenError as error:
        if as_json:
            click.echo(command.failed(error, options))
        raise
    for line in command.report(outcomes, as_json=as_json):
        click.echo(line)
    sys.exit(exit_status(outcomes))


@main.command("list")
@click.argument("what", type=click.Choice(["methods", "metrics", "subjects"]))
def list_command(what: str) -> None:
    """List methods, metrics, or subjects."""
    from cardgen.listing import lines

    for line in lines(what):
        click.echo(line)


@main.command()
@click.option("--evaluations", type=FOLDER, default=Path("evaluations"), show_default=True, help="Records to check.")
@click.option("--cards", type=FOLDER, default=Path("cards"), show_default=True, help="Cards made from them.")
@click.option("--base", help="Commit that the change stands on; nothing of its records may be lost.")
def verify(evaluations: Path, cards: Path, base: str | None) -> None:
    """Check records and cards that were changed by hand; exit 1 if something does not hold. Needs no torch."""
    from cardgen import verify as checks

    found = checks.verify(evaluations, cards) if base is None else checks.verify_against(evaluations, cards, base)
    for problem in found.problems:
        click.echo(problem)
    click.echo(
        f"{found.records} records checked; {len(found.problems) or 'no'} problem{'s' * (len(found.problems) != 1)}."
    )
    sys.exit(1 if found.problems else 0)


@main.command()
@click.option("--evaluations", type=FOLDER, default=Path("evaluations"), show_default=True, help="Records to export.")
@click.option("--format", "kind", type=click.Choice(["hf", "csv", "parquet", "json"]), default="csv", show_default=True)
@click.option("--subject", help="Only this one; needed by hf where there are several.")
@click.option("--out", type=FILE, help="File to write; standard output by default.")
def export(evaluations: Path, kind: str, subject: str | None, out: Path | None) -> None:
    """Write verdicts as a table, or as the section of a Hugging Face model card (hf). Needs no torch."""
    from cardgen import export as formats
    from cardgen.records import write_atomic

    data = formats.export(evaluations, kind, subject)
    if out:
        write_atomic(out, data)
    else:
        click.echo(data, nl=False)


@main.command()
@click.argument("before", type=EXISTING)
@click.argument("after", type=EXISTING)
def compare(before: Path, after: Path) -> None:
    """Say which verdicts differ between two evaluations folders."""
    from cardgen.compare import differences

    both, found = differences(before, after)
    for one in found:
        click.echo(f"{one.place}: {one.before} → {one.after}")
    click.echo(f"{both} records on both sides; {len(found)} verdicts differ.")


@main.command()
@click.option("--evaluations", type=FOLDER, default=Path("evaluations"), show_default=True, help="Records to compare.")
@click.option(
    "--format", "kind", type=click.Choice(["text", "markdown", "csv", "json"]), default="text", show_default=True
)
@click.option("--subject", help="Only this one.")
@click.option("--out", type=FILE, help="File to write; standard output by default.")
def agree(evaluations: Path, kind: str, subject: str | None, out: Path | None) -> None:
    """Compare measured verdicts with published ones: Cohen's κ, and where they disagree. Needs no torch."""
    from cardgen.agree import agree as compared
    from cardgen.agree_formats import write
    from cardgen.records import write_atomic

    found = compared(evaluations, subject)
    if out:
        write_atomic(out, write(found, kind))
    else:
        click.echo(write(found, kind, Console().width), nl=False)


@main.command()
@click.option("--model", default="digit-cnn", show_default=True, help="As for `run`.")
@click.option("--data", default="digits-on-scenes", show_default=True, help="As for `run`.")
@click.option("--repository", help="OWNER/NAME of this repository on GitHub (default: that of the remote origin).")
@click.option(
    "--action", help="OWNER/NAME@REF that holds cardgen's action (default: where cardgen was installed from)."
)
def init(model: str, data: str, repository: str | None, action: str | None) -> None:
    """Write cardgen.yaml, the weekly workflow and .gitignore into the repository here. Needs no torch."""
    from cardgen import init as files

    here = Path()
    answers = files.Answers(
        repository or files.remote_repository(here), action or files.installed_action(), model, data
    )
    for line in files.init(here, answers):
        click.echo(line)


@main.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the shipped catalogue is stale.")
def catalogue(check: bool) -> None:
    """Write cardgen/catalogue.json from the decorators."""
    from cardgen import catalogue as shipped
    from cardgen.records import write_atomic

    text = shipped.text()
    if shipped.FILE.is_file() and shipped.FILE.read_text(encoding="utf-8") == text:
        return
    if check:
        raise CardgenError(f"{shipped.FILE.name} is stale; expected what the decorators say; run `cardgen catalogue`")
    write_atomic(shipped.FILE, text)


@main.command()
@click.argument("what", type=click.Choice(["record", "calibration"]), default="record")
def schema(what: str) -> None:
    """Print the JSON Schema of the records, or of the calibrations."""
    import json

    from cardgen.records import Calibration, Record

    kind = Calibration if what == "calibration" else Record
    click.echo(json.dumps(kind.model_json_schema(mode="serialization"), indent=1, ensure_ascii=False))
