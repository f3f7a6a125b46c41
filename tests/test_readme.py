"""What the README shows of a card is what the card says, and what it says can be run."""

import re
from pathlib import Path

from click.testing import CliRunner

from cardgen.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_quoted_lines_stand_in_the_card():
    card = (ROOT / "cards/rise/README.md").read_text(encoding="utf-8").splitlines()
    quoted = [line.removeprefix("> ") for line in README.splitlines() if line.startswith("> ") and line != "> "]
    assert len(quoted) >= 4
    assert [line for line in quoted if line not in card] == []


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_commands_exist():
    for name, *flags in re.findall(r"^cardgen (\w+)((?: --[\w-]+)*)", README, re.MULTILINE):
        shown = CliRunner().invoke(main, [name, "--help"]).output
        assert [flag for flag in "".join(flags).split() if flag not in shown] == [], name
