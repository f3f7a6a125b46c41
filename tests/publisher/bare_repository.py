"""The bare repository behind the fake, asked with plain git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

IDENTITY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "Octo Cat"), ("EMAIL", "octo@example.org"), ("DATE", "2026-01-05T06:00:00Z"))
}
ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


class Bare:
    """Branches of a bare repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def create(cls, folder: Path) -> Bare:
        """An empty one, with `main` to come."""
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder)], check=True)
        return cls(folder)

    def commit(self, branch: str, text: str, parent: str | None = None) -> str:
        """Put a branch on a new commit of one file, README.md."""
        blob = self.git("hash-object", "-w", "--stdin", given=text)
        tree = self.git("mktree", given=f"100644 blob {blob}\tREADME.md\n")
        made = self.git("commit-tree", tree, *(("-p", parent) if parent else ()), "-m", text)
        self.git("update-ref", f"refs/heads/{branch}", made)
        return made

    def git(self, *arguments: str, given: str = "") -> str:
        return self._run(*arguments, given=given, check=True).stdout.strip()

    def _run(self, *arguments: str, given: str = "", check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "--git-dir", str(self.folder), *arguments],
            env=os.environ | IDENTITY | ALONE,
            input=given,
            text=True,
            capture_output=True,
            check=check,
        )

    def head(self, branch: str) -> str | None:
        found = self._run("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
        return found.stdout.strip() or None

    def heads(self) -> dict[str, str]:
        """Every branch with its commit."""
        listed = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads").splitlines()
        return dict(line.split() for line in listed)

    def contains(self, tip: str, commit: str) -> bool:
        """Whether the commit is the tip or one of its ancestors."""
        return self._run("merge-base", "--is-ancestor", commit, tip).returncode == 0

    def merge(self, head: str, base: str, message: str, squash: bool) -> str:
        """Merge a commit into a branch, as the button does; returns the commit made."""
        into = self.head(base)
        tree = self.git("merge-tree", "--write-tree", into, head).splitlines()[0]
        parents = ["-p", into] if squash else ["-p", into, "-p", head]
        made = self.git("commit-tree", tree, *parents, "-m", message)
        self.git("update-ref", f"refs/heads/{base}", made, into)
        return made

    def delete(self, branch: str) -> None:
        self.git("update-ref", "-d", f"refs/heads/{branch}")
