"""Records to a pull request: look, decide, act. Everything is validated and rendered before anything is written.

State lives in git and in the pull request alone, so a run that was cut off anywhere is taken up by the next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cardgen import __version__
from cardgen.errors import CardgenError
from cardgen.publisher.act import Work, carry_out
from cardgen.publisher.body import TITLE
from cardgen.publisher.branches import GROUPED, PENDING, branch_of, checked
from cardgen.publisher.decide import Seen, decide
from cardgen.publisher.forge import Forge, Limited, Unreachable
from cardgen.publisher.git import RemoteMoved, Repository
from cardgen.publisher.outcome import Outcome
from cardgen.publisher.overlay import PREFIXES, Overlay, hold, measured, methods_in, of_method, overlay

WAITING = "pending.json"
DIGEST = re.compile(r"^Cardgen-Digest: ([0-9a-f]{64})$", re.MULTILINE)
KINDS = {"create": "created", "update": "updated", "close": "closed", "clean": "merged"}
"""Actions → the outcomes that they have where nothing goes wrong."""


@dataclass(frozen=True)
class Options:
    """What the command line says. `folder` is the place of evaluations/ and cards/ in the repository."""

    folder: str = ""
    base: str = ""
    remote: str = "origin"
    per_method: bool = False
    pull_request: bool = True
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    reopen: bool = False
    noise: bool = False
    dry_run: bool = True
    allow_mass_delete: bool = False
    templates: Path | None = None


@dataclass(frozen=True)
class Base:
    """The base branch as it was seen: its commit, the remote's references, and its files below the folder."""

    branch: str
    sha: str
    refs: Mapping[str, str]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Run:
    """One run's surroundings, and what it would publish once what is held back is left out."""

    options: Options
    forge: Forge | None
    repository: Repository
    base: Base
    new: Mapping[str, bytes]
    held: tuple[str, ...]


def publish(options: Options, forge: Forge | None, repository: Repository, evaluations: Path) -> list[Outcome]:
    """Propose what a run found: one pull request, or one a method.

    Args:
        options: of the command line.
        forge: None pushes the branch only, or in a dry run looks at no pull request.
        repository: the one around the cards' folder.
        evaluations: the run's records.

    Returns:
        One outcome a branch.

    Raises:
        CardgenError: before any write if records, cards, remote or base are not in order; after a push if the forge refuses.
    """
    new = measured(evaluations)
    base = _base(options, forge, repository)
    held, pending = _held(options, repository, base, new)
    new = {path: data for path, data in new.items() if path not in held}
    run = Run(options, forge, repository, base, new, tuple(sorted(held)))
    whole = _overlay(run)
    if not options.allow_mass_delete:
        whole.refuse_mass_deletion()
    groups = _groups(run, whole) if options.per_method else {GROUPED: whole}
    outcomes = _each(run, groups)
    if pending is not None and not options.dry_run:
        outcomes[-1] = _keep_pending(run, pending, outcomes[-1])
    return outcomes


def _base(options: Options, forge: Forge | None, repository: Repository) -> Base:
    remote = options.remote
    repository.remote_url(remote)
    default = forge.repository().default_branch if forge else ""
    branch = checked(options.base or default or repository.default_branch(remote))
    refs = repository.refs(remote, f"refs/heads/{branch}", "refs/heads/cardgen/*", PENDING)
    sha = refs.get(f"refs/heads/{branch}")
    if sha is None:
        raise CardgenError(
            f"no branch {branch!r} at remote {remote!r}; expected the one to propose changes to; mend --base"
        )
    repository.fetch(remote, sha)
    files = repository.files(sha, *(_inside(options.folder, prefix) for prefix in PREFIXES))
    return Base(branch, sha, refs, {_outside(options.folder, path): data for path, data in files.items()})


def _inside(folder: str, path: str) -> str:
    return (PurePosixPath(folder) / path).as_posix()


def _outside(folder: str, path: str) -> str:
    return PurePosixPath(path).relative_to(folder).as_posix()


def _held(
    options: Options, repository: Repository, base: Base, new: Mapping[str, bytes]
) -> tuple[set[str], dict[str, Any] | None]:
    """Paths to hold back; and what is pending now, None where that is what was pending before."""
    if options.noise:
        return set(), None
    before = _pending(options, repository, base)
    held, now = hold(base.files, new, before)
    return held, None if now == before else now


def _pending(options: Options, repository: Repository, base: Base) -> dict[str, Any]:
    if PENDING not in base.refs:
        return {}
    repository.fetch(options.remote, base.refs[PENDING])
    try:
        found = json.loads(repository.read(base.refs[PENDING], WAITING) or b"{}")
        return {str(place): {str(k): str(v) for k, v in seen.items()} for place, seen in found.items()}
    except (ValueError, AttributeError):
        return {}


def _keep_pending(run: Run, pending: Mapping[str, Any], outcome: Outcome) -> Outcome:
    """Put what is pending onto its reference; where that fails, the next run asks for one agreement more."""
    git, ref, remote = run.repository, PENDING, run.options.remote
    text = json.dumps(pending, indent=1, sort_keys=True) + "\n"
    sha = (
        git.root_commit({WAITING: text.encode()}, "Verdicts that wait for a second run\n", run.base.sha)
        if pending
        else ""
    )
    try:
        git.push_ref(remote, sha, ref, run.base.refs.get(ref))
    except CardgenError as error:
        return outcome.warned(f"what is pending was not stored: {error}")
    return outcome


def _overlay(run: Run, only: str = "") -> Overlay:
    new = of_method(run.new, only) if only else run.new
    date = run.repository.date(run.base.sha)
    return overlay(run.base.files, new, date, only=only, templates=run.options.templates)


def _groups(run: Run, whole: Overlay) -> dict[str, Overlay]:
    """One branch a method with changes, or with a branch; changes of no method go together."""
    known = methods_in({**run.base.files, **{f"evaluations/{path}": None for path in run.new}})
    changed = methods_in(whole.files)
    mine = [key for key in known if key in changed or f"refs/heads/{branch_of(key)}" in run.base.refs]
    found = {branch_of(key): _overlay(run, key) for key in mine}
    return found if changed or (found and not whole.files) else {GROUPED: whole, **found}


def _each(run: Run, groups: Mapping[str, Overlay]) -> list[Outcome]:
    """Every branch in turn; a moved one does not stop the others, a forge that says no more does."""
    found = []
    for branch, over in groups.items():
        start = Outcome(
            "nothing", branch, run.base.branch, run.options.dry_run, digest=over.digest, files=len(over.files),
            skipped=over.skipped, held=run.held, warnings=tuple(f"not measured to its end: {name}" for name in over.unfinished),
        )  # fmt: skip
        try:
            found.append(_one(run, branch, over, start))
        except RemoteMoved as error:
            found.append(replace(start, outcome="remote-moved", message=str(error)))
        except (Limited, Unreachable) as error:
            kind = "limited" if isinstance(error, Limited) else "unreachable"
            return [*found, replace(start, outcome=kind, message=str(error))]
    return found


def _one(run: Run, branch: str, over: Overlay, start: Outcome) -> Outcome:
    options, base = run.options, run.base
    files = {_inside(options.folder, path): data for path, data in over.files.items()}
    planned = run.repository.commit(base.sha, files, f"{TITLE}\n\nCardgen-Digest: {over.digest}\n") if files else None
    seen = _look(run, branch, over, planned, set(files))
    action = decide(seen)
    if options.dry_run:
        return _planned(run, action.kind, planned, replace(start, pull=action.pull.number if action.pull else None))
    made = {"base": base.branch, "cardgen": __version__}
    work = Work(
        run.forge,
        run.repository,
        options.remote,
        base.branch,
        branch,
        seen,
        over,
        made,
        options.labels,
        options.reviewers,
    )
    return carry_out(action, work, start)


def _look(run: Run, branch: str, over: Overlay, planned: str | None, paths: set[str]) -> Seen:
    git, head = run.repository, run.base.refs.get(f"refs/heads/{branch}")
    pulls = tuple(run.forge.pulls(branch, run.base.branch)) if run.forge else ()
    seen = Seen(planned is not None, over.digest, planned, head, pulls=pulls, reopen=run.options.reopen)
    if head is None or head == planned:
        return seen
    git.fetch(run.options.remote, head)
    commits = git.commits_between(run.base.sha, head)
    others = any(not commit.ours for commit in commits)
    if others or len(commits) != 1:
        return replace(seen, others=others)
    written = DIGEST.search(commits[0].message)
    behind = _behind(run, commits[0].parents, paths)
    return replace(seen, written=written[1] if written else "", behind=behind)


def _behind(run: Run, parents: tuple[str, ...], paths: set[str]) -> bool:
    """Whether the base changed a file that would be committed since the branch was made."""
    prefixes = [_inside(run.options.folder, prefix) for prefix in PREFIXES]
    now = run.repository.tree(run.base.sha, *prefixes)
    then = [run.repository.tree(parent, *prefixes) for parent in parents]
    return any(tree.get(path) != now.get(path) for tree in then for path in paths)


def _planned(run: Run, kind: str, planned: str | None, outcome: Outcome) -> Outcome:
    diff = run.repository.diff(run.base.sha, planned) if planned else ""
    told = KINDS.get(kind, kind) if run.options.pull_request or kind != "create" else "pushed"
    return replace(outcome, outcome=told, head=planned or "", plan=diff)
