"""The decision, row by row: every situation, and what is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cardgen.publisher.body import marker
from cardgen.publisher.decide import REBUILD, Action, Seen, decide
from cardgen.publisher.forge import Pull

NEW, OLD = "a" * 64, "b" * 64
PLANNED, PUSHED, THEIRS = "1" * 40, "2" * 40, "3" * 40
NOT_WANTED = {"wanted": False, "planned": None}


def pull(digest=OLD, head=PUSHED, sha=PUSHED, number=1, state="open", merged=False, labels=(), body=None):
    text = f"Words\n\n{marker(digest, head)}" if body is None else body
    return Pull(number, state, merged, "Title", text, "cardgen/update", sha, "main", tuple(labels), "")


def closed(**fields):
    return pull(state="closed", **fields)


def merged(**fields):
    return pull(state="closed", merged=True, **fields)


def seen(*pulls, **fields):
    return Seen(**{"wanted": True, "digest": NEW, "planned": PLANNED, "pulls": pulls} | fields)


OURS = {"branch": PUSHED, "written": OLD}
ROWS = {
    # nothing wanted
    "no change, no pull request": (seen(**NOT_WANTED), "nothing", False),
    "no change, an old decline": (seen(closed(), **NOT_WANTED), "nothing", False),
    "no change, a declined branch left": (seen(closed(), **OURS, **NOT_WANTED), "nothing", False),
    "no change, the merged branch left": (seen(merged(), **OURS, **NOT_WANTED), "clean", False),
    "no change, merged with commits of people": (seen(merged(), branch=PUSHED, others=True, **NOT_WANTED), "clean", False),
    "no change, merged, then pushed to by people": (
        seen(merged(), branch=THEIRS, others=True, **NOT_WANTED), "nothing", False,
    ),
    "no change, a branch without pull request": (seen(**OURS, **NOT_WANTED), "clean", False),
    "no change, people's branch without pull request": (seen(branch=THEIRS, others=True, **NOT_WANTED), "nothing", False),
    "unnecessary": (seen(pull(), **OURS, **NOT_WANTED), "close", False),
    "unnecessary, with commits of people": (seen(pull(), branch=THEIRS, others=True, **NOT_WANTED), "blocked", False),
    "unnecessary, with a head that we did not push": (seen(pull(), branch=THEIRS, written=OLD, **NOT_WANTED), "blocked", False),
    "unnecessary, with commits of people, to be rebuilt": (
        seen(pull(labels=[REBUILD]), branch=THEIRS, others=True, **NOT_WANTED), "close", False,
    ),
    # wanted, no pull request is open
    "first": (seen(), "create", True),
    "crash between push and pull request": (seen(branch=PLANNED), "create", False),
    "the same, and the base moved elsewhere": (seen(branch=PUSHED, written=NEW), "create", False),
    "the same, and the base moved under it": (seen(branch=PUSHED, written=NEW, behind=True), "create", True),
    "an old branch of ours without pull request": (seen(**OURS), "create", True),
    "people's branch without pull request": (seen(branch=THEIRS, others=True), "blocked", False),
    "declined": (seen(closed(digest=NEW), **OURS), "declined", False),
    "declined, the branch removed": (seen(closed(digest=NEW)), "declined", False),
    "declined long ago": (seen(closed(digest=OLD, number=2), closed(digest=NEW)), "declined", False),
    "declined, and reopened by flag": (seen(closed(digest=NEW), **OURS, reopen=True), "create", True),
    "other content declined": (seen(closed(digest=OLD), **OURS), "create", True),
    "closed without a marker": (seen(closed(body="Words")), "create", True),
    "the marker not in the last line": (seen(closed(body=f"{marker(NEW, PUSHED)}\nWords")), "create", True),
    "merged before, its branch left": (seen(merged(), **OURS), "create", True),
    "merged with commits of people, its branch left": (seen(merged(), branch=PUSHED, others=True), "create", True),
    "merged, then pushed to by people": (seen(merged(), branch=THEIRS, others=True), "blocked", False),
    "the same content merged and reverted": (seen(merged(digest=NEW)), "create", True),
    # wanted, a pull request is open
    "the same again": (seen(pull(digest=NEW), branch=PUSHED, written=NEW), "unchanged", False),
    "the same again, by sha": (seen(pull(digest=NEW, head=PLANNED), branch=PLANNED), "unchanged", False),
    "the same, but the base moved under it": (seen(pull(digest=NEW), branch=PUSHED, written=NEW, behind=True), "update", True),
    "new content": (seen(pull(), **OURS), "update", True),
    "crash between push and update": (seen(pull(), branch=PLANNED), "update", False),
    "the same, and the base moved": (seen(pull(), branch=THEIRS, written=NEW), "update", False),
    "the body emptied by people": (seen(pull(body=""), branch=PUSHED, written=NEW), "update", False),
    "the body emptied, and new content": (seen(pull(body=""), **OURS), "blocked", False),
    "commits of people": (seen(pull(head=PUSHED), branch=THEIRS, others=True), "blocked", False),
    "commits of people, the marker forged": (seen(pull(head=THEIRS), branch=THEIRS, others=True), "blocked", False),
    "the branch reset by people": (seen(pull(head=PLANNED), branch=PUSHED, written=OLD), "blocked", False),
    "commits of people, to be rebuilt": (seen(pull(labels=["x", REBUILD]), branch=THEIRS, others=True), "update", True),
    "declined before, and open now": (seen(pull(), closed(digest=NEW), **OURS), "update", True),
}  # fmt: skip


@pytest.mark.parametrize(("situation", "kind", "push"), ROWS.values(), ids=ROWS)
def test_every_situation(situation, kind, push):
    opened = [found for found in situation.pulls if found.state == "open"]
    found = decide(situation)
    assert (found.kind, found.push) == (kind, push)
    if opened:
        assert found.pull == opened[0]


@pytest.mark.parametrize("situation", [row[0] for row in ROWS.values()], ids=ROWS)
def test_whatever_is_seen_people_s_commits_go_only_by_label_or_after_a_merge(situation):
    theirs = replace(situation, branch=THEIRS, others=True)
    action = decide(theirs)
    allowed = any(REBUILD in found.labels for found in situation.pulls if found.state == "open")
    assert allowed or theirs.merged or (action.kind not in ("close", "clean") and not action.push)


@pytest.mark.parametrize("situation", [row[0] for row in ROWS.values()], ids=ROWS)
def test_what_was_done_is_not_done_again(situation):
    """After creating or updating, the next look finds the same content in place."""
    action = decide(situation)
    if action.kind in ("create", "update"):
        head = PLANNED if action.push else situation.branch
        there = pull(digest=NEW, head=head, sha=head)
        pulls = (there, *(found for found in situation.pulls if found.state == "closed"))
        after = replace(situation, branch=head, written=NEW, others=False, behind=False, pulls=pulls)
        assert decide(after) == Action("unchanged", there)


def test_the_declined_pull_request_is_named():
    declined = closed(digest=NEW, number=7)
    assert decide(seen(closed(number=8), declined)).pull == declined
