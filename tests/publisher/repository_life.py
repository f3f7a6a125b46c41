"""A repository with cards: a real bare one, a clone of it, P1's fake of GitHub, and the records of the last run."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from fake_github import FakeGitHub
from publishing_fixtures import record, write_method, write_record, write_subject

from cardgen import evidence
from cardgen.publisher.git import Repository
from cardgen.publisher.github import GitHub
from cardgen.publisher.outcome import Outcome
from cardgen.publisher.publish import Options, publish
from cardgen.records import Provenance, Record
from cardgen.words import MARKS

SUBJECT = "digits-cnn"
BRANCH = "cardgen/update"
READS = ["GET /", "GET /pulls"]
LOG = '#!/bin/sh\nwhile read old new ref; do echo "$old $new $ref" >> pushes; done\n'
NOTES = "<!-- cardgen:keep notes -->\n<!-- /cardgen:keep -->\n"
KEPT: dict[str, Any] = {}
HUMAN = ("Ada", "ada@example.org")


def at_home(monkeypatch: Any) -> None:
    """git without this machine's settings, and without a runner's."""
    for name in ("CI", "GITHUB_TOKEN", "GH_TOKEN", "GITHUB_API_URL", "GITHUB_REPOSITORY", "GIT_DIR", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def read_once(monkeypatch: Any) -> None:
    """The shipped literature, which no test here changes, is parsed once and not at every look at the records."""
    for name in ("load_evaluations", "load_literature", "load_every"):
        monkeypatch.setattr(evidence, name, KEPT.setdefault(name, cache(getattr(evidence, name))))


def plain_cards(monkeypatch: Any) -> None:
    """Cards of a few lines, rendered in no time; all that merges, signs, compares and writes them is the real thing."""

    def render(found: evidence.Evidence, templates: Path) -> dict[str, str]:
        texts = {"README.md": "# Saliency cards\n"}
        for method, subjects in found.methods.items():
            lines = [
                f"{MARKS[each.verdict]} {each.catalogue.title}\n" for each in found.records if each.method == method
            ]
            title = next(iter(subjects.values())).catalogue.title
            texts[f"{method}/README.md"] = f"# {title}\n{NOTES}{''.join(lines)}"
        return texts

    monkeypatch.setattr("cardgen.build._render", render)


def git(folder: Path, *arguments: str, who: tuple[str, str] = HUMAN, date: str = "2026-03-02T09:00:00Z") -> str:
    """Plain git, as a person."""
    identity = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER")
                for field, value in (("NAME", who[0]), ("EMAIL", who[1]), ("DATE", date))}  # fmt: skip
    found = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, env=os.environ | identity
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def measured(metric: str, method: str = "grad_cam", weights: str = "a", **changes: Any) -> Record:
    """A record whose key follows its weights."""
    fields: dict[str, Any] = {
        "key": (weights + metric + method).encode().hex()[:32].ljust(32, "0"),
        "key_parts": {"weights": weights},
        "controls": {},
    }
    return record(metric, method, SUBJECT, **(fields | changes))


class Life:
    """What happens to one repository. `evaluations` holds what was measured last; it lies outside the clone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bare, self.clone = folder, folder / "remote.git", folder / "clone"
        self.evaluations = folder / "artefact" / "evaluations"
        folder.mkdir(exist_ok=True)
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(folder, "init", "--quiet", "--initial-branch=main", str(self.clone))
        git(self.clone, "remote", "add", "origin", str(self.bare))
        self.human("main", {"README.md": "A model of ours.\n"}, "First")
        hook = self.bare / "hooks" / "post-receive"
        hook.write_text(LOG)
        hook.chmod(0o755)
        self.measure()

    @property
    def pushes(self) -> list[str]:
        """References that were pushed so far, oldest first; removals start with `-`."""
        log = self.bare / "pushes"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [f"-{ref}" if set(new) == {"0"} else ref for _, new, ref in lines]

    def head(self, ref: str = BRANCH) -> str | None:
        found = subprocess.run(
            ["git", "--git-dir", str(self.bare), "rev-parse", "--verify", "--quiet", ref],
            capture_output=True,
            text=True,
        )
        return found.stdout.strip() or None

    def show(self, path: str, ref: str = BRANCH) -> str:
        return git(self.bare, "show", f"{ref}:{path}")

    def files(self, ref: str = BRANCH) -> list[str]:
        return git(self.bare, "ls-tree", "-r", "--name-only", ref).splitlines()

    def measure(self, *records: Record, methods: tuple[str, ...] = ("grad_cam",)) -> None:
        """A run's records, in place of the last run's."""
        shutil.rmtree(self.evaluations, ignore_errors=True)
        write_subject(self.evaluations, SUBJECT)
        for method in methods:
            write_method(self.evaluations, method, SUBJECT)
        for found in records or (measured("deletion"), measured("insertion")):
            write_record(self.evaluations, found)

    def measure_two(self) -> None:
        """Two methods."""
        mine = (measured("deletion"), measured("insertion"), measured("deletion", "vanilla_gradients"))
        self.measure(*mine, methods=("grad_cam", "vanilla_gradients"))

    def retrained(self, weights: str = "b") -> None:
        """A run on new weights, in which Deletion fails."""
        fails = {"verdict": "fail", "p": 0.9, "estimate": 0.6, "interval": (0.5, 0.7), "reason": "Does not beat noise."}
        self.measure(
            measured("deletion", weights=weights, **fails),
            measured("insertion", weights=weights),
        )

    def elsewhere(self, seconds: float = 99.0) -> Provenance:
        """Where a run on another machine says that it was made."""
        return Provenance(device="another machine", seconds=seconds)

    def human(self, branch: str, files: dict[str, str | None], message: str = "By hand", **how: Any) -> str:
        """Somebody's commit upon a branch of the remote; its sha."""
        work = self.folder / "human"
        shutil.rmtree(work, ignore_errors=True)
        git(self.folder, "clone", "--quiet", str(self.bare), str(work))
        git(work, "checkout", "--quiet", "-B", branch, *([f"origin/{branch}"] if self.head(branch) else []))
        for name, text in files.items():
            path = work / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        git(work, "add", "--all", "--force")
        git(work, "commit", "--quiet", "--allow-empty", "-m", message, **how)
        git(work, "push", "--quiet", "--no-verify", "origin", f"HEAD:refs/heads/{branch}")
        return git(work, "rev-parse", "HEAD")

    def publish(self, fake: FakeGitHub | None, *, clone: Path | None = None, **options: Any) -> Outcome:
        """One run of the publisher, by the real client; its one outcome."""
        (found,) = self.publish_all(fake, clone=clone, **options)
        return found

    def publish_all(self, fake: FakeGitHub | None, *, clone: Path | None = None, **options: Any) -> list[Outcome]:
        self.naps: list[float] = []
        forge = GitHub(fake.full_name, fake.token, api=fake.api, sleep=self.naps.append) if fake else None
        with Repository(clone or self.clone) as repository:
            return publish(Options(**{"dry_run": False} | options), forge, repository, self.evaluations)

    def published(self, fake: FakeGitHub, **options: Any) -> tuple[str, list[str], list[str]]:
        """One run: its outcome, what was pushed, which calls were made."""
        pushed, called = len(self.pushes), len(fake.calls)
        outcome = self.publish(fake, **options).outcome
        return outcome, self.pushes[pushed:], fake.calls[called:]
