"""What publishing did, as one JSON line, one sentence, and an exit status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

DONE, AGAIN = 0, 75
"""Exit statuses; 75 is EX_TEMPFAIL: nothing is wrong, and the same command goes on from there."""
RESUMABLE = ("remote-moved", "limited", "unreachable")
SENTENCES = {
    "nothing": "The cards on {base} are what the records say; nothing to do.",
    "unchanged": "{pull} says the same already; nothing to do.",
    "pushed": "Pushed {files} to {branch}.",
    "created": "Opened {pull} with {files}.",
    "adopted": "Opened {pull} for {branch}, which was there already.",
    "updated": "Updated {pull} to {files}.",
    "declined": "This content was declined by closing {pull}; new content opens a new one, --reopen overrides.",
    "blocked": "{branch} holds commits that cardgen did not make; left alone.",
    "closed": "Closed {pull}, which became unnecessary, and removed {branch}.",
    "merged": "Removed {branch}, which is merged or empty.",
    "remote-moved": "Somebody else pushed meanwhile; nothing was overwritten. Run the same command again.",
    "limited": "The forge's rate limit lasts longer than a run may wait. Run the same command again later.",
    "unreachable": "The forge does not answer. Run the same command again later.",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one branch. With `dry_run` nothing was written, and `outcome` is what would have become of it.

    `files` differ from the base; `skipped` cards were edited by hand outside kept regions; `held` evaluations flipped though
    nothing they rest on moved, and wait for a second run. `plan` is for people's eyes and no part of the line.
    """

    outcome: str
    branch: str
    base: str
    dry_run: bool = False
    head: str = ""
    digest: str = ""
    pull: int | None = None
    url: str = ""
    files: int = 0
    skipped: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    message: str = ""
    plan: str = ""

    @property
    def line(self) -> str:
        """One line of JSON."""
        fields = {name: value for name, value in asdict(self).items() if name != "plan"}
        return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))

    @property
    def sentence(self) -> str:
        """The same for people."""
        pull = f"pull request #{self.pull} {self.url}".strip() if self.pull else self.branch
        files = f"{self.files} {'file' if self.files == 1 else 'files'}"
        text = SENTENCES[self.outcome].format(base=self.base, branch=self.branch, pull=pull, files=files)
        return f"Dry run, nothing was written. Would be: {text}" if self.dry_run else text

    def warned(self, *warnings: str) -> Outcome:
        """The same with more warnings."""
        return replace(self, warnings=(*self.warnings, *warnings))


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """75 where any outcome asks for another run, else 0."""
    return AGAIN if any(outcome.outcome in RESUMABLE for outcome in outcomes) else DONE
