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

    def git(self, *arguments: str) -> str:
        return self._run(*arguments, check=True).stdout.strip()

    def _run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "--git-dir", str(self.folder), *arguments],
            env=os.environ | IDENTITY | ALONE,
            text=True,
            capture_output=True,
            check=check,
        )

    def head(self, branch: str) -> str | None:
        found = self._run("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
        return found.stdout.strip() or None

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
