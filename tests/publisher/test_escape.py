"""The escaper, judged by what a parser of GitHub's Markdown makes of hostile text."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cardgen.publisher.escape import LONGEST, inline
from cardgen.regions import parse

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from("\\`*_[]()<>|~$#@&+-=:.!1 \n\r\tabAZ\"'{}/\u202e\u200b\u3164\u0301"),
        st.characters(codec="utf-8"),
    ),
    max_size=60,
)


def shown(text: str) -> str:
    return unescape(re.sub(r"</?p>\n?", "", MARKDOWN.render(text))).replace("\u200b", "").strip()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a | b", r"a \| b"),
        ("`rm -rf`", r"\`rm -rf\`"),
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y&gt;"),
        ("thanks @someone and @org/team", "thanks @&#8203;someone and @&#8203;org/team"),
        ("fixes #12, octo/cards#3, GH-4", "fixes #&#8203;12, octo/cards#&#8203;3, GH&#8203;-4"),
        ("see https://a.org and WWW.b.org", "see https&#8203;://a.org and WWW&#8203;.b.org"),
        ("mail me@b.org", "mail me@&#8203;b.org"),
        ("no :tada: but 3:4", "no :&#8203;tada: but 3:4"),
        ("at deadbeef", "at deadbe&#8203;ef"),
        ("area 12345 of defaced", "area 12345 of deface&#8203;d"),
        ("left\u202eright\u200b\x07\u2066", "leftright"),
        ("nothing\u3164\u2800\ufe0f\u034f", "nothing"),
        ("two\n\nparts\r\n| x |", r"two parts \| x \|"),
        ("<!-- cardgen:v1 digest=0 head=0 -->", "&lt;!-- cardgen:v1 digest=0 head=0 --&gt;"),
        ("z" + "\u0335" * 50, "z\u0335\u0335"),
        ("e\u0301té", "été"),
        ("क्षमि", "क्षमि"),
        ("", ""),
    ],
)
def test_what_is_broken_up_and_what_is_kept(text: str, escaped: str) -> None:
    assert inline(text) == escaped


def test_long_text_is_cut_before_it_is_escaped() -> None:
    assert inline("x" * LONGEST) == "x" * LONGEST
    assert inline("|" * 300) == r"\|" * (LONGEST - 1) + "…"
    assert inline("abcdef", 4) == "abc…"


@given(NASTY)
def test_hostile_text_is_one_paragraph_without_markup(text: str) -> None:
    html = MARKDOWN.render(inline(text))
    assert not re.search(r"<(?!/?p>)", html), html
    assert not re.search(r"@\w|#\d", unescape(html)), html


@given(NASTY)
def test_hostile_text_stays_in_its_cell(text: str) -> None:
    html = MARKDOWN.render(f"| a | b |\n| --- | --- |\n| {inline(text)} | end |\n")
    assert (html.count("<tr>"), html.count("<td>")) == (2, 2)
    assert "<td>end</td>" in html
    assert parse(inline(text), "here").inside == {}


def test_plain_words_are_shown_as_they_are() -> None:
    text = 'Grad-CAM on "digits" & 3.2 × 10⁻⁷ (n = 200), 🟢 → 🟥: it_is_so'
    assert shown(inline(text)) == text
