"""The escaper, judged by what a Markdown parser makes of it; and the templates."""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from publishing_fixtures import catalogue, write_world

from cardgen.aggregator import load_all, verdicts
from cardgen.card import make_card
from cardgen.errors import CardgenError
from cardgen.facts import load_facts
from cardgen.overview import make_overview
from cardgen.paths import shipped
from cardgen.regions import parse
from cardgen.templater import Markdown, code, escape, link, paragraphs, render_card, render_overview

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = st.text(
    alphabet=st.one_of(st.sampled_from("\\`*_[]()<>|~$#@&+-=:.!1 \n\tabAZ\"'{}/"), st.characters(codec="utf-8")),
    max_size=40,
)


def visible(text: str) -> str:
    """The text without invisible characters, white space as single spaces."""
    kept = [c if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn") else "" for c in text]
    return " ".join("".join(kept).split())


def shown(html: str) -> str:
    return unescape(re.sub(r"</?p>\n?", "", html)).replace("\u200b", "").strip()


@given(NASTY)
def test_escaped_text_is_one_paragraph_that_shows_the_text(text: str) -> None:
    html = MARKDOWN.render(escape(text))
    assert not re.search(r"<(?!/?p>)", html), html
    assert shown(html) == visible(text)


@given(NASTY)
def test_escaped_text_stays_in_its_place(text: str) -> None:
    inside = MARKDOWN.render(f"- **{escape(text) or 'x'}**: end")
    assert inside.count("<li>") == 1
    assert not re.search(r"<(?!/?(ul|li|strong)>)", inside), inside
    table = MARKDOWN.render(f"| a | b |\n| --- | --- |\n| {escape(text)} | end |\n")
    assert (table.count("<tr>"), table.count("<td>")) == (2, 2)
    assert "<td>end</td>" in table


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a | b", r"a \| b"),
        ("`rm`", r"\`rm\`"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("&lt;", "&amp;lt;"),
        ("thanks @someone", "thanks @&#8203;someone"),
        ("fixes #12", "fixes #&#8203;12"),
        ("a @ b", "a @ b"),
        ("# big", r"\# big"),
        ("1. one", r"1\. one"),
        ("0.5 of it", "0.5 of it"),
        ("- item", r"\- item"),
        ("snake_case and _it_", r"snake_case and \_it\_"),
        ("left\u202eright\u200b\x07", "leftright"),
        ("two\n\nparts", "two parts"),
        ("<!-- cardgen:keep x -->", "&lt;!-- cardgen:keep x --&gt;"),
    ],
)
def test_what_is_escaped_and_how(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_paragraphs_are_escaped_one_by_one() -> None:
    assert paragraphs("one\ntwo\n\n# three\n") == "one two\n\n\\# three"


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("https://a.org/x_(1)", "[T\\*](https://a.org/x_%281%29)"),
        ("https://a.org/?a=1&b=%20#c", "[T\\*](https://a.org/?a=1&b=%20#c)"),
        ("https://a.org/<b> |", "[T\\*](https://a.org/%3Cb%3E%20%7C)"),
        ("javascript:alert(1)", "T\\*"),
        ("", "T\\*"),
    ],
)
def test_links_lead_only_to_the_web(url: str, made: str) -> None:
    assert link("T*", url) == made


@given(st.text(alphabet="`~<!->\n abc", max_size=40))
def test_a_code_block_cannot_be_ended_from_within(text: str) -> None:
    tokens = MARKDOWN.parse(f"{code(text)}\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]


def test_a_code_block_holds_no_mark_of_a_kept_region() -> None:
    assert parse(code("<!-- cardgen:keep x -->"), "here").inside == {}


def small(tmp_path: Path, card: str) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "card.md.j2").write_text(card)
    return folder


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ card.nothing }}", "has no attribute 'nothing'"),
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ card.facts }}", "template: expected text or a count, got None; mend the template"),
        ("{{ card.counts }}", "template: expected text or a count, got {'pass'"),
        ("{% if %}", "expected a template that fits this version; mend the template"),
    ],
)
def test_a_template_that_asks_for_what_is_not_there(template: str, message: str, tmp_path: Path) -> None:
    evidence = load_all(write_world(tmp_path / "world"), catalogue())
    card = make_card("grad_cam", evidence, verdicts(evidence.records), None)
    with pytest.raises(CardgenError, match=re.escape(message)):
        render_card(card, small(tmp_path, template))


def test_a_missing_template_names_the_folder(tmp_path: Path) -> None:
    evidence = load_all(write_world(tmp_path / "world"), catalogue())
    overview = make_overview(evidence, verdicts(evidence.records))
    with pytest.raises(CardgenError) as caught:
        render_overview(overview, tmp_path)
    assert str(caught.value) == f"{tmp_path}: no template overview.md.j2; expected it beside the others; add it"


@pytest.fixture
def text(tmp_path: Path) -> str:
    evidence = load_all(write_world(tmp_path), catalogue())
    return render_card(
        make_card("grad_cam", evidence, verdicts(evidence.records), load_facts("grad_cam")), shipped("templates")
    )


def test_the_headings_of_a_card_in_their_order(text: str) -> None:
    assert re.findall(r"^#+ .*", text, re.M) == [
        "# Grad-CAM Saliency Card",
        "## Methodology",
        "### Determinism",
        "### Hyperparameter Dependence",
        "### Model Agnosticism",
        "### Computational Efficiency",
        "### Semantic Directness",
        "## Sensitivity Testing",
        "### Input Sensitivity",
        "### Label Sensitivity",
        "### Model Sensitivity",
        "## Perceptibility Testing",
        "### Minimality",
        "### Perceptual Correspondence",
        "## Citation",
    ]


def test_the_front_matter_is_yaml(text: str) -> None:
    assert yaml.safe_load(text.split("---\n")[1]) == {
        "method": "grad_cam",
        "schema": 1,
        "subjects": ["digits-cnn", "resnet-photos"],
        "verdicts": {"pass": 1, "inconclusive": 2, "fail": 2, "descriptive": 3, "skipped": 1, "error": 1},
    }


def test_a_card_says_nothing_that_is_not_for_readers(text: str) -> None:
    before_bibtex = text.split("## Citation")[0]
    assert not re.search(r"\bNone\b|\bnull\b|\b[nN]a[nN]\b|[{}]|Undefined|\[\]|\(\)", before_bibtex)
    assert "\n\n\n" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_hostile_text_of_a_record_does_nothing(text: str) -> None:
    assert r"RuntimeError: \`x\` &lt;b&gt;failed&lt;/b&gt; for @&#8203;someone." in text


def test_every_block_of_a_card_is_set_apart(text: str) -> None:
    """No list, heading or paragraph runs into its neighbour: the parser finds as many paragraphs as the eye."""
    body = text.split("---\n", 2)[2]
    html = MARKDOWN.render(body)
    assert "**" not in html.replace("&#42;", "")
    assert html.count("<h3>") == 10
    assert len(re.findall(r"^\*\*Published", body, re.M)) == len(re.findall(r"^<p><strong>Published", html, re.M))


def test_the_overviews_tables_are_tables(tmp_path: Path) -> None:
    evidence = load_all(write_world(tmp_path), catalogue())
    html = MARKDOWN.render(render_overview(make_overview(evidence, verdicts(evidence.records)), shipped("templates")))
    # one by attribute, and one each for methodology and the attributes with anything measured: input, model, minimality, perception
    assert html.count("<table>") == 6
    assert html.count('<a href="grad_cam/README.md">Grad-CAM</a>') == 6


def test_markdown_is_not_escaped_twice() -> None:
    assert escape("<") == "&lt;"
    assert isinstance(escape("<"), Markdown)
