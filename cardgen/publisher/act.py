"""Carrying out a decision: push with a lease, then the pull request, then what is best effort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cardgen.publisher.body import TITLE, marker, pull_body, read_marker, with_block
from cardgen.publisher.decide import REBUILD, Action, Seen
from cardgen.publisher.forge import Forge, ForgeError, Pull
from cardgen.publisher.git import RemoteMoved, Repository
from cardgen.publisher.outcome import Outcome
from cardgen.publisher.overlay import Overlay

OBSOLETE = "<!-- cardgen:v1 obsolete -->"
"""In place of the marker where cardgen itself closed a pull request, so that its content does not count as declined."""
SAID = "<!-- cardgen:said {what} -->"
BLOCKED = (
    "This branch holds commits that cardgen did not make, so it is left alone from now on, and this pull request no longer "
    f"follows the records. To have it rebuilt, which drops those commits, add the label `{REBUILD}`; or merge it, or close it."
)
UNNEEDED = (
    "The base branch now says what the records say, so cardgen would close this pull request. Since its branch holds commits "
    "that cardgen did not make, it is left alone; close it when you are done with it."
)


@dataclass(frozen=True)
class Work:
    """Where to act, and with what; without a forge only the branch is pushed."""

    forge: Forge | None
    repository: Repository
    remote: str
    base: str
    branch: str
    seen: Seen
    over: Overlay
    made: Mapping[str, str]
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()


def carry_out(action: Action, work: Work, outcome: Outcome) -> Outcome:
    """Do it; the outcome with what came of it.

    Raises:
        RemoteMoved: the branch moved since it was seen.
        ForgeError: the forge refuses, or does not answer; the next run goes on from there.
    """
    return STEPS[action.kind](action, work, _about(outcome, action.pull))


def nothing(action: Action, work: Work, outcome: Outcome) -> Outcome:
    """No write at all."""
    return replace(outcome, outcome=action.kind)


def create(action: Action, work: Work, outcome: Outcome) -> Outcome:
    """Push unless the branch holds this already, then open a pull request, or take the one that another runner opened."""
    head = _push(action, work)
    if work.forge is None:
        return replace(outcome, outcome="pushed" if action.push else "unchanged", head=head)
    block = _block(work, head)
    pull = work.forge.create_pull(head=work.branch, base=work.base, title=TITLE, body=block)
    if read_marker(pull.body) != (work.seen.digest, head):
        pull = work.forge.update_pull(pull.number, body=with_block(pull.body, block))
    made = replace(_about(outcome, pull), outcome="created" if action.push else "adopted", head=head)
    return made.warned(*_extras(work.forge, pull, work))


def update(action: Action, work: Work, outcome: Outcome) -> Outcome:
    """Push unless the branch holds this already, then write our own block of the body; its title and the rest are people's."""
    forge, pull = _met(action, work)
    head = _push(action, work)
    forge.update_pull(pull.number, body=with_block(pull.body, _block(work, head)))
    return replace(outcome, outcome="updated", head=head)


def blocked(action: Action, work: Work, outcome: Outcome) -> Outcome:
    """Say so once, on the pull request if there is one, and leave the branch alone."""
    if action.pull and work.forge:
        what, text = ("blocked", BLOCKED) if work.seen.wanted else ("unneeded", UNNEEDED)
        _say_once(work.forge, action.pull.number, what, text)
    return replace(outcome, outcome="blocked", head=work.seen.branch or "")


def close(action: Action, work: Work, outcome: Outcome) -> Outcome:
    """Close, with a body that says that nobody declined this, then remove the branch."""
    forge, pull = _met(action, work)
    forge.update_pull(pull.number, body=_unmarked(pull.body), state="closed")
    return replace(_clean(work, outcome), outcome="closed")


def clean(action: Action, work: Work, outcome: Outcome) -> Outcome:
    """Remove the own branch, which is merged or holds nothing of worth."""
    return replace(_clean(work, outcome), outcome="merged")


STEPS: Mapping[str, Callable[[Action, Work, Outcome], Outcome]] = {
    "nothing": nothing,
    "unchanged": nothing,
    "declined": nothing,
    "create": create,
    "update": update,
    "blocked": blocked,
    "close": close,
    "clean": clean,
}


def _about(outcome: Outcome, pull: Pull | None) -> Outcome:
    return replace(outcome, pull=pull.number, url=pull.url) if pull else outcome


def _met(action: Action, work: Work) -> tuple[Forge, Pull]:
    if work.forge is None or action.pull is None:
        raise TypeError(f"{action.kind} without a pull request")
    return work.forge, action.pull


def _push(action: Action, work: Work) -> str:
    """The branch's head afterwards; another runner that pushed the very same commit has done our work."""
    if not action.push:
        return work.seen.branch or ""
    planned, git = work.seen.planned or "", work.repository
    try:
        git.push(work.remote, planned, work.branch, work.seen.branch)
    except RemoteMoved:
        if git.heads(work.remote, work.branch).get(work.branch) != planned:
            raise
    return planned


def _block(work: Work, head: str) -> str:
    text = pull_body(work.over.changes, work.over.skipped, work.made)
    return f"{text.rstrip()}\n\n{marker(work.seen.digest, head)}"


def _extras(forge: Forge, pull: Pull, work: Work) -> list[str]:
    """Labels and reviewers; what fails is a warning, and the pull request stands."""
    found = []
    for what, names, ask in (
        ("labels", work.labels, forge.add_labels),
        ("reviewers", work.reviewers, forge.request_reviewers),
    ):
        try:
            if names:
                ask(pull.number, names)
        except ForgeError as error:
            found.append(f"{what} {', '.join(names)} were not added: {error}")
    return found


def _say_once(forge: Forge, number: int, what: str, text: str) -> None:
    sign = SAID.format(what=what)
    if not any(comment.body.rstrip().endswith(sign) for comment in forge.comments(number)):
        forge.create_comment(number, f"{text}\n\n{sign}")


def _unmarked(body: str) -> str:
    lines = body.rstrip().split("\n")
    return "\n".join([*lines[:-1], OBSOLETE] if read_marker(body) else [*lines, "", OBSOLETE])


def _clean(work: Work, outcome: Outcome) -> Outcome:
    if work.seen.branch:
        work.repository.delete(work.remote, work.branch, work.seen.branch)
    return outcome
