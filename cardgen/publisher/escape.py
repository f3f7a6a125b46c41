"""The one escaper for what data put into a pull request: table cells and inline text on GitHub."""

from __future__ import annotations

import re
import unicodedata

from cardgen.templater import BREAK, Markdown, escape

LONGEST = 200
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""What shows nothing, though Unicode does not call it invisible: fillers and variation selectors."""
AUTOMATIC = re.compile(
    r"(?<=https)(?=:)|(?<=http)(?=:)|(?<=ftp)(?=:)|(?<=www)(?=\.)|(?<=gh)(?=-\d)|(?<=:)(?=[\w+-]+:)", re.IGNORECASE
)
COMMIT = re.compile(r"(?<![0-9a-z])([0-9a-f]{6})(?=[0-9a-f]{1,34}(?![0-9a-z]))", re.IGNORECASE)
ACCENTS = 2
"""Signs that may sit on one letter; no writing needs more, and a hundred of them cover the lines around."""


def inline(text: str, longest: int = LONGEST) -> Markdown:
    """Text as one line that GitHub shows as it is: no markup, HTML, mention, reference, link, emoji code or kept region.

    On top of the cards' escaper, this breaks up what GitHub makes links of by itself: addresses, `GH-12`, commit shas. What
    shows nothing goes, heaps of accents as well; what is longer than `longest` characters ends in `…`.
    """
    line = " ".join(BLANK.sub("", _thinned(text)).split())
    short = line if len(line) <= longest else f"{line[: longest - 1]}…"
    return Markdown(COMMIT.sub(rf"\1{BREAK}", AUTOMATIC.sub(BREAK, escape(short))))


def _thinned(text: str) -> str:
    kept, run = [], 0
    for char in unicodedata.normalize("NFC", text):
        run = run + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if run <= ACCENTS:
            kept.append(char)
    return "".join(kept)
