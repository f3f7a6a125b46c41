"""`cardgen init`: the settings, the workflow and the ignored files that keep the cards of a user's repository true. No torch here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import yaml

from cardgen.config import FILE
from cardgen.errors import CardgenError
from cardgen.paths import shipped
from cardgen.publisher.git import Repository
from cardgen.publisher.github import repository_of
from cardgen.records import write_atomic

WORKFLOW = ".github/workflows/update-cards.yml"
IGNORED = ".gitignore"
NAME = r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+"
NEXT = (
    "Next, once: allow pull requests by workflows (Settings → Actions → General → Allow GitHub Actions to create and "
    "approve pull requests).",
    "Then commit and push these files; Actions → update-cards → Run workflow starts the first run.",
)


@dataclass(frozen=True)
class Answers:
    """What the files must know: the user's repository, cardgen's action as `OWNER/NAME@REF`, the model and its data."""

    repository: str
    action: str
    model: str
    data: str

    def __post_init__(self) -> None:
        _fits(NAME, "repository", self.repository, "OWNER/NAME")
        _fits(rf"{NAME}@[A-Za-z0-9][A-Za-z0-9._/-]*", "action", self.action, "OWNER/NAME@REF")


def init(root: Path, answers: Answers) -> list[str]:
    """Write what is missing into the repository at `root`; what is there is never changed, `.gitignore` only grows.

    Returns:
        One line a file, and what to do next.

    Raises:
        CardgenError: `root` is not the root of a git repository, or cannot be written; nothing else was touched.
    """
    if not (root / ".git").exists():
        raise CardgenError(
            f"{root.resolve()}: not the root of a git repository; expected a .git there, since workflows are read from "
            f"the root only; change to the root, or run `git init`"
        )
    texts = {FILE: _filled("cardgen.yaml", answers), WORKFLOW: _filled("update-cards.yml", answers)}
    said = [_written(root, name, text) for name, text in texts.items()]
    return [*said, _ignored(root, _filled("gitignore", answers)), *NEXT]


def remote_repository(root: Path) -> str:
    """OWNER/NAME of the remote `origin`.

    Raises:
        CardgenError: there is none, or it is not on GitHub.
    """
    with Repository(root) as repository:
        return repository_of(repository.remote_url("origin"))


def installed_action() -> str:
    """OWNER/NAME@COMMIT of the repository that cardgen was installed from, where pip noted it (PEP 610).

    Raises:
        CardgenError: it was not installed from a repository.
    """
    try:
        origin = json.loads(distribution("cardgen").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    if "vcs_info" in origin:
        return f"{repository_of(origin['url'])}@{origin['vcs_info']['commit_id']}"
    raise CardgenError(
        "which repository holds cardgen's action is not known, since cardgen was not installed from one; expected "
        "--action OWNER/NAME@REF; give the repository of cardgen and a commit or tag of it"
    )


def _fits(pattern: str, what: str, value: str, form: str) -> None:
    if not re.fullmatch(pattern, value):
        raise CardgenError(f"{what}: got {value!r:.80}; expected {form}; give it as --{what} {form}")


def _filled(name: str, answers: Answers) -> str:
    """A shipped file with the answers in it; model and data become quoted YAML, whatever is in them."""
    words = {
        "@REPOSITORY@": answers.repository,
        "@ACTION@": answers.action,
        "@MODEL@": _quoted(answers.model),
        "@DATA@": _quoted(answers.data),
    }
    text = (shipped("templates") / "init" / name).read_text(encoding="utf-8")
    return re.sub("|".join(words), lambda found: words[found[0]], text)


def _quoted(value: str) -> str:
    return str(yaml.safe_dump(value, default_style='"', allow_unicode=True, width=len(value) * 10 + 10)).strip()


def _written(root: Path, name: str, text: str) -> str:
    path = root / name
    if path.exists():
        return f"kept   {name}: it is there already"
    write_atomic(path, text)
    return f"wrote  {name}"


def _ignored(root: Path, text: str) -> str:
    """Add to the end of .gitignore what it lacks; its bytes stay as they are."""
    path, new = root / IGNORED, text.encode()
    old = path.read_bytes() if path.exists() else b""
    if new.splitlines()[-1] in old.splitlines():
        return f"kept   {IGNORED}: it says so already"
    end = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
    write_atomic(path, old + end + new)
    return f"wrote  {IGNORED}"
