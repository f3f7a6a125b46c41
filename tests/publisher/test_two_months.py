"""Two months of a repository's life: one line an event says what was pushed and which calls were made."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract import assert_contract
from fake_github import FakeGitHub
from repository_life import BRANCH, READS, Life, at_home, git, read_once

from cardgen.errors import CardgenError
from cardgen.publisher.gitwords import EMAIL

CARD = "cards/grad_cam/README.md"
KEPT = "<!-- cardgen:keep notes -->\n"
OURS = BRANCH


class Diary:
    """Runs the publisher, and writes down what came of it."""

    def __init__(self, life: Life, fake: FakeGitHub) -> None:
        self.life, self.fake, self.lines = life, fake, []

    def event(self, day: str, what: str, run=None, **options) -> str:
        """One run after something happened; the line that says what it did."""
        pushed, called = len(self.life.pushes), len(self.fake.calls)
        told = (run or self._publish)(**options)
        pushes = ", ".join(ref.replace("refs/heads/", "") for ref in self.life.pushes[pushed:]) or "nothing"
        calls = ", ".join(self.fake.calls[called:]) or "none"
        self.lines.append(f"{day}  {what}: {told} | pushed {pushes} | calls {calls}")
        return f"{told} | {pushes} | {calls}"

    def _publish(self, **options) -> str:
        try:
            outcome = self.life.publish(self.fake, **options)
        except CardgenError as error:
            return f"error: {str(error).partition(';')[0]}"
        number = f" #{outcome.pull}" if outcome.pull else ""
        waited = f" after {self.life.naps[0]:g} s" if self.life.naps else ""
        return f"{outcome.outcome}{number}{waited}"

    def at_once(self) -> str:
        """Two runners, each in its own clone."""
        clones = [self.life.folder / name for name in ("one", "two")]
        for clone in clones:
            shutil.copytree(self.life.clone, clone)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda clone: self.life.publish(self.fake, clone=clone).outcome, clones))
        return " and ".join(sorted(found))


def noted(life: Life, words: str) -> str:
    return f"{life.show(CARD, 'main').replace(KEPT, f'{KEPT}{words}')}\n"


def calls(*names: str) -> str:
    return ", ".join([*READS, *names])


@pytest.fixture
def life(tmp_path, monkeypatch):
    at_home(monkeypatch)
    read_once(monkeypatch)
    return Life(tmp_path / "life")


def test_two_months(life, capsys):
    with FakeGitHub(life.bare) as fake:
        diary = Diary(life, fake)
        event = diary.event

        assert event("Mar  2", "first cards") == f"created #1 | {OURS} | {calls('POST /pulls')}"
        assert event("Mar  3", "the run is started again") == f"unchanged #1 | nothing | {calls()}"
        fake.merge(1, squash=True)
        assert event("Mar  4", "squash-merged, the branch left behind") == f"merged | -{OURS} | {calls()}"
        assert event("Mar  9", "a week without news") == f"nothing | nothing | {calls()}"

        life.human("main", {CARD: noted(life, "Trust it at dusk.\n")}, date="2026-03-10T09:00:00Z")
        assert event("Mar 10", "somebody writes in a kept region") == f"nothing | nothing | {calls()}"
        life.retrained("b")
        assert event("Mar 16", "new weights, Deletion fails") == f"created #2 | {OURS} | {calls('POST /pulls')}"
        assert "Trust it at dusk." in life.show(CARD)
        assert "| weights |" in fake.pull(2).body
        life.retrained("c")
        assert (
            event("Mar 17", "weights again, the pull request is open")
            == f"updated #2 | {OURS} | {calls('PATCH /pulls/2')}"
        )
        fake.merge(2, delete_branch=True)
        assert event("Mar 18", "merged, the branch removed by GitHub") == f"nothing | nothing | {calls()}"
        assert life.show("evaluations/digits-cnn/grad_cam/history.jsonl", "main") == (
            '{"date":"2026-03-10","metric":"deletion","old":"pass","new":"fail","parts":["weights"]}'
        )

        edited = life.show(CARD, "main").replace("Grad-CAM", "Our Grad-CAM", 1)
        life.human("main", {CARD: f"{edited}\n"}, date="2026-03-20T09:00:00Z")
        life.retrained("d")
        assert event("Mar 23", "somebody wrote outside kept regions, new weights") == (
            f"created #3 | {OURS} | {calls('POST /pulls')}"
        )
        assert life.show(CARD) == edited
        assert "- grad_cam/README.md" in fake.pull(3).body
        fake.close(3)
        assert event("Mar 24", "declined") == f"declined #3 | nothing | {calls()}"
        assert event("Mar 30", "declined, a week later") == f"declined #3 | nothing | {calls()}"
        life.human("main", {CARD: f"{edited.replace('Our Grad-CAM', 'Grad-CAM', 1)}\n"}, date="2026-04-01T09:00:00Z")

        life.retrained("e")
        fake.fail("POST", "/pulls$", status=502, times=3)
        assert event("Apr  6", "new weights, and no answer between push and pull request") == (
            f"unreachable after {life.naps[0]:g} s | {OURS} | {calls(*['POST /pulls', 'GET /pulls'] * 3)}"
        )
        assert [pull.state for pull in fake.pulls] == ["closed"] * 3
        assert event("Apr  7", "the next run takes it up") == f"adopted #4 | nothing | {calls('POST /pulls')}"
        fake.merge(4, squash=True, delete_branch=True)

        life.retrained("f")
        told = event("Apr 13", "two runners at once", diary.at_once)
        assert told.split(" | ")[1].split(", ") in ([OURS], [OURS, OURS])
        assert [pull.number for pull in fake.pulls if pull.state == "open"] == [5]
        assert git(life.bare, "log", "-1", "--format=%ae", OURS) == EMAIL
        life.human(OURS, {CARD: "Our own words.\n"})
        life.retrained("g")
        comments = "GET /issues/5/comments"
        assert event("Apr 14", "somebody pushed to the branch") == (
            f"blocked #5 | nothing | {calls(comments, 'POST /issues/5/comments')}"
        )
        assert event("Apr 15", "the same again, and no second comment") == f"blocked #5 | nothing | {calls(comments)}"
        fake.label(5, "cardgen:rebuild")
        assert event("Apr 16", "the label cardgen:rebuild") == f"updated #5 | {OURS} | {calls('PATCH /pulls/5')}"
        fake.merge(5, squash=True, delete_branch=True)

        life.retrained("h")
        fake.fail("POST", "/pulls$", status=403, headers={"retry-after": "42"})
        assert event("Apr 20", "secondary rate limit, short") == (
            f"created #6 after 42 s | {OURS} | {calls('POST /pulls', 'POST /pulls')}"
        )
        fake.fail("PATCH", "/pulls/6", status=429, headers={"retry-after": "3600"})
        life.retrained("i")
        assert event("Apr 21", "secondary rate limit, an hour") == f"limited | {OURS} | {calls('PATCH /pulls/6')}"
        assert event("Apr 21", "an hour later") == f"updated #6 | nothing | {calls('PATCH /pulls/6')}"
        fake.merge(6, squash=True, delete_branch=True)

        life.retrained("j")
        fake.permissions["pull_requests"] = "read"
        assert event("Apr 27", "a token without scope") == (
            "error: POST /repos/octo/cards/pulls: refused (403: Resource not accessible by integration)"
            f" | {OURS} | {calls('POST /pulls')}"
        )
        fake.permissions["pull_requests"] = "write"
        assert event("Apr 27", "the scope is granted") == f"adopted #7 | nothing | {calls('POST /pulls')}"
        life.retrained("i")
        assert event("Apr 28", "the old weights are back") == f"closed #7 | -{OURS} | {calls('PATCH /pulls/7')}"
        assert event("Apr 30", "the last week") == f"nothing | nothing | {calls()}"

        assert [pull.merged for pull in fake.pulls] == [True, True, False, True, True, True, False]
        assert set(fake.bare.git("for-each-ref", "--format=%(refname)").split()) == {"refs/heads/main"}
        assert_contract(fake)
        assert fake.token not in "\n".join(diary.lines)
    with capsys.disabled():
        print("", *diary.lines, sep="\n")
