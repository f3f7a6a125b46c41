"""Card → Markdown. Every value is escaped on its way out, undefined names and missing values are errors."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import yaml

from cardgen.card import Card
from cardgen.errors import CardgenError
from cardgen.model_card import ModelCard
from cardgen.overview import Overview
from cardgen.paths import shipped
from cardgen.words import LEGEND, MARKS

INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn")
BREAK = "&#8203;"
"""A zero-width space as an entity: it keeps a mention or a reference from being one, and can be seen in the source."""


class Markdown(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


def escape(text: str) -> Markdown:
    """User text as one line of Markdown that shows exactly its visible characters and does nothing.

    Control, bidirectional and zero-width characters go; runs of white space become one space; everything that Markdown
    or HTML would take as markup is escaped; mentions and issue references are broken up; nothing at the start makes a
    block.
    """
    kept = "".join(
        " " if char.isspace() or unicodedata.category(char) in ("Zl", "Zp") else char
        for char in text
        if char.isspace() or unicodedata.category(char) not in INVISIBLE
    )
    line = " ".join(kept.split())
    line = re.sub(r"[\\`*\[\]|~$]", r"\\\g<0>", line)
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"@(?=\w)|#(?=\d)", rf"\g<0>{BREAK}", line)
    line = re.sub(r"^(#|\+|-|=|:)", r"\\\1", line)
    return Markdown(re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", line))


def finalize(value: object) -> str:
    """What Jinja writes for `{{ value }}`: escaped text; anything but text and counts is an error."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, and names it
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise CardgenError(f"template: expected text or a count, got {value!r:.80}; mend the template")


def link(title: str, url: str) -> Markdown:
    """A Markdown link; only the title where the address is not http or https."""
    if not re.match(r"https?://[^/]", url):
        return escape(title)
    return Markdown(f"[{escape(title)}]({quote(url, safe='%/:?#&=+,;@!~-._*')})")


def paragraphs(text: str) -> Markdown:
    """Text with blank lines between its paragraphs, each escaped."""
    return Markdown("\n\n".join(escape(part) for part in re.split(r"\n\s*\n", text.strip())))


def code(text: str, language: str = "") -> Markdown:
    """A fenced block that its content cannot end, and that holds no mark of a kept region."""
    clean = "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in INVISIBLE)
    clean = clean.replace("<!--", "<! --").rstrip()
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", clean)), default=0))
    return Markdown(f"{fence}{language}\n{clean}\n{fence}")


def keep(name: str) -> Markdown:
    """An empty kept region."""
    return Markdown(f"<!-- cardgen:keep {name} -->\n<!-- /cardgen:keep -->")


def front_matter(card: Card) -> Markdown:
    """The card's YAML header."""
    fields = {"method": card.key, "schema": card.schema, "subjects": list(card.subjects), "verdicts": card.counts}
    return yaml_header(fields)


def yaml_header(fields: dict[str, Any]) -> Markdown:
    """Fields as a header between two lines of dashes."""
    return Markdown(f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---")


@cache
def environment(templates: Path) -> jinja2.Environment:
    """Jinja with strict names, our escaper on every value, and the marks."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    env.filters |= {"paragraphs": paragraphs, "code": code}
    env.globals |= {
        "link": link,
        "keep": keep,
        "front_matter": front_matter,
        "yaml_header": yaml_header,
        "legend": Markdown(" · ".join(f"{MARKS[key]} {text}" for key, text in LEGEND)),
    }
    return env


def render_card(card: Card, templates: Path) -> str:
    """The card's Markdown, its kept regions empty."""
    return _render(templates, "card.md.j2", card=card)


def render_overview(overview: Overview, templates: Path) -> str:
    """The overview's Markdown, its kept regions empty."""
    return _render(templates, "overview.md.j2", overview=overview)


def render_model_card(card: ModelCard, templates: Path) -> str:
    """The section of a Hugging Face model card, with its metadata."""
    return _render(templates, "model_card.md.j2", card=card)


def render_agreement(view: object, templates: Path | None = None) -> str:
    """Measured against published verdicts, in Markdown."""
    return _render(templates or shipped("templates"), "agreement.md.j2", view=view)


def render_pull_request(pull: object, templates: Path) -> str:
    """The pull request's own block in Markdown; its values are escaped for GitHub already."""
    return _render(templates, "pull_request.md.j2", pull=pull)


def _render(templates: Path, name: str, **values: object) -> str:
    try:
        text = environment(templates).get_template(name).render(values)
    except jinja2.TemplateNotFound as error:
        raise CardgenError(f"{templates}: no template {error.name}; expected it beside the others; add it") from None
    except jinja2.TemplateError as error:
        raise CardgenError(
            f"{templates / name}: {error}; expected a template that fits this version; mend the template"
        ) from None
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"
