"""Git, by GitPython and only here. Of the user's repository nothing is touched.

New objects go to a folder of our own that borrows from the repository's, trees are made in an index of our own, and no
reference, work tree or file below `.git` is written: a dirty tree, staged files, a detached HEAD and a shallow clone make no
difference. What goes out goes by `git push` with a lease on the sha seen.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType

import git

from cardgen.errors import CardgenError
from cardgen.publisher.credentials import header_settings, scrub
from cardgen.publisher.gitwords import EMAIL, MOVED, NAME, SETTINGS, Commit, entry, reasons, safe, verb

FILE = "100644"
PLAIN = ("100644", "100755", "100664")


class RemoteMoved(CardgenError):
    """A branch is no longer where it was seen; nothing was overwritten, and the same command starts afresh."""


class Repository:
    """The repository around a folder, for as long as a `with` lasts.

    Args:
        root: the repository's folder, or one below it.
        token: sent to an https remote on `host`, in a header; no argument, address or message ever holds it.
        host: the forge's.

    Raises:
        CardgenError: `root` is in no repository, or there is no git.
    """

    def __init__(self, root: Path, *, token: str = "", host: str = "github.com") -> None:
        try:
            self._repo = git.Repo(root, search_parent_directories=True)
        except (git.InvalidGitRepositoryError, git.NoSuchPathError):
            raise CardgenError(
                f"{root}: not in a git repository; expected a clone of the repository that holds the cards; "
                f"clone it, and run this inside it"
            ) from None
        self.root = Path(self._repo.working_tree_dir or self._repo.git_dir)
        self._token, self._host = token, host
        self._scratch = tempfile.TemporaryDirectory(prefix="cardgen-")
        (self._own / "objects").mkdir()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._scratch.cleanup()

    def remote_url(self, name: str) -> str:
        """Where a remote lies.

        Raises:
            CardgenError: there is no such remote, or it is read from one place and written to another.
        """
        known = [remote.name for remote in self._repo.remotes]
        if name not in known:
            raise CardgenError(
                f"no remote {name!r}; expected one of {known}; add it by `git remote add`, or choose another with --remote"
            )
        read, write = (self._text("remote", "get-url", *push, "--", name).strip() for push in ([], ["--push"]))
        if read != write:
            raise CardgenError(
                f"remote {name!r} is read from {self._clean(read)} and written to {self._clean(write)}; expected one "
                f"address for both; choose a remote that has one with --remote"
            )
        return read

    def default_branch(self, remote: str) -> str:
        """The branch that the remote's HEAD names."""
        found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", self._listed(remote, "HEAD", "--symref"), re.MULTILINE)
        if not found:
            raise CardgenError(f"remote {remote!r} names no default branch; expected one; give it with --base")
        return found[1]

    def refs(self, remote: str, *patterns: str) -> dict[str, str]:
        """Full names → shas of the remote's references, each named whole or up to a `*`."""
        lines = [line.split("\t") for line in self._listed(remote, *patterns).splitlines()]
        return {name: sha for sha, name in lines if any(fnmatchcase(name, pattern) for pattern in patterns)}

    def heads(self, remote: str, *branches: str) -> dict[str, str]:
        """Branches → shas, of those that the remote has."""
        found = self.refs(remote, *(f"refs/heads/{branch}" for branch in branches))
        return {name.removeprefix("refs/heads/"): sha for name, sha in found.items()}

    def fetch(self, remote: str, *shas: str) -> None:
        """Bring commits here, into our own folder; no reference of the user's moves.

        Raises:
            RemoteMoved: the remote has one of them no longer.
        """
        quiet = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-prune", "--no-recurse-submodules", "--refmap="]
        follow = ["-c", f"remote.{remote}.followRemoteHEAD=never"]
        self._remotely(remote, *follow, "fetch", *quiet, "--", remote, *shas)

    def read(self, sha: str, path: str) -> bytes | None:
        """A file's bytes in a commit; None where it has none."""
        found = self.tree(sha, path).get(path)
        return None if found is None else self._blobs([found])[0]

    def tree(self, sha: str, *prefixes: str) -> dict[str, str]:
        """Path → blob of every file of a commit below the prefixes.

        Raises:
            CardgenError: a symbolic link, a submodule, or a name that leads elsewhere stands there.
        """
        listed = self._text("ls-tree", "-r", "-z", "--full-tree", sha, "--", *prefixes)
        found = {}
        for mode, blob, path in (entry(line) for line in listed.split("\0") if line):
            if mode not in PLAIN or not safe(path):
                raise CardgenError(
                    f"{path!r} in commit {sha[:12]}: mode {mode}; expected a plain file, no link, no submodule, no `..`; "
                    f"remove it from the base branch"
                )
            found[path] = blob
        return found

    def files(self, sha: str, *prefixes: str) -> dict[str, bytes]:
        """Path → bytes of every file of a commit below the prefixes. Raises as `tree` does."""
        tree = self.tree(sha, *prefixes)
        return dict(zip(tree, self._blobs(list(tree.values())), strict=True))

    def export(self, sha: str, prefixes: Sequence[str], to: Path) -> None:
        """Write every file of a commit below the prefixes into a folder. Raises as `tree` does."""
        for path, data in self.files(sha, *prefixes).items():
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (to / path).write_bytes(data)

    def commit(self, base: str, files: Mapping[str, bytes | None], message: str) -> str:
        """A commit upon `base` with files put in or, where None, taken out; the same input gives the same sha everywhere."""
        return self._commit(files, message, self._date(base), base)

    def root_commit(self, files: Mapping[str, bytes | None], message: str, dated: str) -> str:
        """A commit without a parent that holds these files alone, dated as commit `dated` is."""
        return self._commit(files, message, self._date(dated), None)

    def date(self, sha: str) -> str:
        """The day of a commit, as 2026-03-02, in UTC."""
        return datetime.fromtimestamp(int(self._date(sha)[1:].split()[0]), UTC).date().isoformat()

    def show(self, sha: str) -> Commit:
        """One commit."""
        return self._commits("-1", sha)[0]

    def commits_between(self, base: str, head: str) -> list[Commit]:
        """What a branch has beyond its base, newest first.

        Commits of ours stand upon the base by their making, so whatever lies below one is none of the branch's, also
        where a shallow clone no longer knows that.
        """
        found = self._commits(head, f"^{base}")
        below = [f"^{parent}" for commit in found if commit.ours for parent in commit.parents]
        return self._commits(head, f"^{base}", *below) if below else found

    def diff(self, base: str, sha: str) -> str:
        """A summary and the changes, as text."""
        return self._text("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--stat", "--patch", base, sha, "--")

    def push(self, remote: str, sha: str, branch: str, expected: str | None) -> None:
        """Put a branch to a commit, if the remote still has it at `expected` (None: not at all).

        Raises:
            RemoteMoved: it is elsewhere.
            CardgenError: refused; git's own reason.
        """
        self.push_ref(remote, sha, f"refs/heads/{branch}", expected)

    def delete(self, remote: str, branch: str, expected: str) -> None:
        """Remove a branch, if the remote still has it at `expected`. Raises as `push` does."""
        self.push_ref(remote, "", f"refs/heads/{branch}", expected)

    def push_ref(self, remote: str, sha: str, ref: str, expected: str | None) -> None:
        """The same for a reference by its full name; an empty `sha` removes it."""
        quiet = ["--porcelain", "--no-follow-tags", "--recurse-submodules=no"]
        lease = f"--force-with-lease={ref}:{expected or ''}"
        url = self.remote_url(remote)  # not by name: git would then move the user's remote-tracking branch
        self._remotely(remote, "push", *quiet, lease, "--", url, f"{sha}:{ref}")

    @property
    def _own(self) -> Path:
        return Path(self._scratch.name)

    def _listed(self, remote: str, *arguments: str) -> str:
        flags = [argument for argument in arguments if argument.startswith("--")]
        names = [argument for argument in arguments if not argument.startswith("--")]
        return self._remotely(remote, "ls-remote", "--quiet", *flags, "--", remote, *names)

    def _remotely(self, remote: str, *arguments: str) -> str:
        url = self.remote_url(remote)
        status, out, err = self._run(arguments, header_settings(url, self._token, self._host))
        text = out.decode(errors="replace")
        if status == 0:
            return text
        said = self._clean(" ".join(reasons(text, err)))
        if MOVED.search(said):
            raise RemoteMoved(
                f"remote-moved: {remote!r} is no longer as it was seen a moment ago: {said}; "
                f"nothing was overwritten; run the same command again"
            )
        raise CardgenError(f"git {verb(arguments)} with remote {remote!r} failed: {said}; mend that, and run it again")

    def _text(self, *arguments: str, given: bytes = b"", **environment: str) -> str:
        return self._bytes(*arguments, given=given, **environment).decode(errors="surrogateescape")

    def _bytes(self, *arguments: str, given: bytes = b"", **environment: str) -> bytes:
        status, out, err = self._run(arguments, environment, given)
        if status:
            raise CardgenError(
                f"git {verb(arguments)} failed in {self.root}: {self._clean(' '.join(err.split()))}; "
                f"expected a repository in order; try `git fsck`"
            )
        return out

    def _run(
        self, arguments: Sequence[str], environment: Mapping[str, str], given: bytes = b""
    ) -> tuple[int, bytes, str]:
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with tempfile.TemporaryFile() as file:
            file.write(given)
            file.seek(0)
            status, out, err = self._repo.git.execute(
                ["git", *settings, *arguments], istream=file, env={**self._environment(), **environment},
                with_extended_output=True, with_exceptions=False, stdout_as_string=False, strip_newline_in_stdout=False,
            )  # fmt: skip
        return int(status), bytes(out), str(err)

    def _environment(self) -> dict[str, str]:
        own = self._own
        return {
            "GIT_DIR": str(self._repo.git_dir),
            "GIT_INDEX_FILE": str(own / "index"),
            "GIT_OBJECT_DIRECTORY": str(own / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(Path(self._repo.common_dir).resolve() / "objects"),
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_TRACE_REDACT": "1",
            "LC_ALL": "C",
        }

    def _clean(self, text: str) -> str:
        return scrub(text, self._token)

    def _blobs(self, blobs: list[str]) -> list[bytes]:
        """The bytes of blobs, in order."""
        out, found = self._bytes("cat-file", "--batch", given="\n".join(blobs).encode()) if blobs else b"", []
        while out:
            head, _, rest = out.partition(b"\n")
            size = int(head.rsplit(b" ", 1)[1])
            found.append(rest[:size])
            out = rest[size + 1 :]
        return found

    def _date(self, sha: str) -> str:
        return "@" + self._text("log", "-1", "--format=%cd", "--date=raw", sha, "--").strip()

    def _commits(self, *revisions: str) -> list[Commit]:
        out = self._text("log", "-z", "--format=%H%n%ae%n%ce%n%P%n%B", *revisions, "--")
        parts = [part.split("\n", 4) for part in out.split("\0") if part]
        return [Commit(sha, a, c, tuple(parents.split()), text) for sha, a, c, parents, text in parts]

    def _commit(self, files: Mapping[str, bytes | None], message: str, date: str, base: str | None) -> str:
        (self._own / "index").unlink(missing_ok=True)
        if base:
            self._text("read-tree", base)
        self._text("update-index", "-z", "--index-info", given=self._index_lines(files))
        who = {
            f"GIT_{role}_{field}": value
            for role in ("AUTHOR", "COMMITTER")
            for field, value in {"NAME": NAME, "EMAIL": EMAIL, "DATE": date}.items()
        }
        parents = ["-p", base] if base else []
        tree = self._text("write-tree").strip()
        return self._text("commit-tree", tree, *parents, given=message.encode(), **who).strip()

    def _index_lines(self, files: Mapping[str, bytes | None]) -> bytes:
        for path in files:
            if not safe(path):
                raise CardgenError(f"{path!r}: not a name to commit; expected a plain path; rename the file")
        kept = {path: data for path, data in files.items() if data is not None}
        blobs = dict(zip(kept, self._stored(list(kept.values())), strict=True))
        lines = [f"{FILE} {blobs[path]}\t{path}" if path in blobs else f"0 {'0' * 40}\t{path}" for path in files]
        return "".join(f"{line}\0" for line in lines).encode()

    def _stored(self, contents: list[bytes]) -> list[str]:
        """Blobs of contents, word for word: no filter, no change of line ends."""
        places = [self._own / f"blob-{at}" for at in range(len(contents))]
        for place, data in zip(places, contents, strict=True):
            place.write_bytes(data)
        names = "".join(f"{place}\n" for place in places).encode()
        return self._text("hash-object", "-w", "--no-filters", "--stdin-paths", given=names).split() if places else []
