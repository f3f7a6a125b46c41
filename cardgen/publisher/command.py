"""`cardgen publish`: settings from flags and environment to a run, its outcomes to text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from cardgen.errors import CardgenError
from cardgen.publisher.forge import Forge
from cardgen.publisher.git import Repository
from cardgen.publisher.github import GitHub, repository_of
from cardgen.publisher.outcome import Outcome
from cardgen.publisher.publish import Options, publish

API = "https://api.github.com"
TOKENS = ("GH_TOKEN", "GITHUB_TOKEN")


def automatic(environment: Mapping[str, str]) -> bool:
    """Whether this runs in CI, where nobody is asked."""
    return environment.get("CI", "").lower() not in ("", "0", "false", "no")


def token_in(environment: Mapping[str, str]) -> str:
    """The forge's token; empty where there is none."""
    return next((environment[name].strip() for name in TOKENS if environment.get(name, "").strip()), "")


def run_publish(
    options: Options, evaluations: Path, environment: Mapping[str, str], *, name: str = ""
) -> list[Outcome]:
    """Publish from the folder that `options` does not yet name in the repository: here.

    Args:
        options: of the command line.
        evaluations: the run's records.
        environment: holds token and API address, as in GitHub's own runners.
        name: OWNER/NAME where the remote's address does not say it.

    Raises:
        CardgenError: as `publish`; or a token is needed and there is none.
    """
    token, api = token_in(environment), environment.get("GITHUB_API_URL", "").strip() or API
    with Repository(Path(), token=token, host=_git_host(api)) as repository:
        url = repository.remote_url(options.remote)
        forge: Forge | None = None
        if options.pull_request and (token or not options.dry_run):
            forge = GitHub(_full_name(url, name, environment), _needed(token), api=api)
        here = Path().resolve().relative_to(repository.root.resolve()).as_posix()
        outcomes = publish(replace(options, folder="" if here == "." else here), forge, repository, evaluations)
    if options.pull_request and forge is None:
        return [
            outcome.warned(f"no token in {' or '.join(TOKENS)}, so no pull request was looked at")
            for outcome in outcomes
        ]
    return outcomes


def report(outcomes: Sequence[Outcome], *, as_json: bool) -> Iterator[str]:
    """Lines for the standard output."""
    for outcome in outcomes:
        yield outcome.line if as_json else "\n".join(_for_people(outcome))


def failed(error: CardgenError, options: Options) -> str:
    """The JSON line of a run that stopped with an error."""
    return json.dumps({"outcome": "error", "base": options.base, "dry_run": options.dry_run, "message": str(error)})


def _for_people(outcome: Outcome) -> Iterator[str]:
    yield outcome.sentence
    yield from ([_shown(outcome.message)] if outcome.message else [])
    yield from (
        f"left alone, since it was changed by hand outside kept regions: {_shown(name)}" for name in outcome.skipped
    )
    yield from (f"held back until a second run agrees: {name}" for name in outcome.held)
    yield from (f"warning: {_shown(text)}" for text in outcome.warnings)
    yield from ([_shown(outcome.plan).rstrip()] if outcome.plan else [])


def _shown(text: str) -> str:
    """Text without what a terminal would act on."""
    return "".join(
        char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cn")
    )


def _needed(token: str) -> str:
    if not token:
        raise CardgenError(
            f"no token; expected one with `contents: write` and `pull-requests: write` in {' or '.join(TOKENS)}; set it, "
            f"or push the branch alone with --no-pr"
        )
    return token


def _full_name(url: str, given: str, environment: Mapping[str, str]) -> str:
    """OWNER/NAME as given, else from the remote's address, else as a runner says it."""
    try:
        return given or repository_of(url)
    except CardgenError:
        if environment.get("GITHUB_REPOSITORY"):
            return environment["GITHUB_REPOSITORY"]
        raise


def _git_host(api: str) -> str:
    """The host that git speaks to, of an API's address: github.com, or that of an Enterprise server."""
    host = urlsplit(api).hostname or ""
    return (
        "github.com" if host == "api.github.com" else host.removeprefix("api.") if host.endswith(".ghe.com") else host
    )
