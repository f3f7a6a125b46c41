"""Kept regions: word for word, or a clear error."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cardgen.errors import CardgenError
from cardgen.regions import edited, merge, parse, sign

NEW = "# Card\n\n<!-- cardgen:keep notes -->\n<!-- /cardgen:keep -->\n\nend\n"


def with_notes(words: str, name: str = "notes") -> str:
    return f"before\n<!-- cardgen:keep {name} -->\n{words}\n<!-- /cardgen:keep -->\nafter\n"


@given(st.text(max_size=80))
def test_kept_words_come_over_word_for_word(words: str) -> None:
    assume("cardgen:keep" not in words)
    merged = merge(NEW, parse(with_notes(words), "old").inside, "new")
    assert merged == NEW.replace("notes -->\n", f"notes -->\n{words}\n", 1)
    assert merge(NEW, parse(merged, "again").inside, "new") == merged


@given(st.text(max_size=40), st.text(max_size=40))
def test_only_words_in_regions_may_change_unseen(kept: str, generated: str) -> None:
    assume("cardgen:" not in kept + generated)
    signed = sign(NEW, "new")
    assert not edited(signed, "new")
    assert not edited(signed.replace("notes -->\n", f"notes -->\n{kept}\n", 1), "new")
    if generated:
        assert edited(signed.replace("# Card", f"# Card{generated}", 1), "new")


@pytest.mark.parametrize("change", ["\n", " ", "more\n", "<!-- another -->\n"])
def test_anything_after_the_digest_is_an_edit(change: str) -> None:
    assert edited(sign(NEW, "new") + change, "new")


def test_a_file_without_a_digest_counts_as_edited() -> None:
    assert edited("# By hand\n", "old")
    assert edited("", "old")


def test_a_region_that_the_template_no_longer_has_goes_to_the_end() -> None:
    merged = merge(NEW, parse(with_notes("words", "gone"), "old").inside, "new")
    assert merged == f"{NEW}\n<!-- cardgen:keep gone -->\nwords\n<!-- /cardgen:keep -->\n"
    assert merge(NEW, parse(merged, "again").inside, "new") == merged


def test_a_region_that_somebody_adds_is_no_edit_of_the_rest() -> None:
    added = sign(NEW, "new").replace("end\n", "end\n<!-- cardgen:keep mine -->\nwords\n<!-- /cardgen:keep -->\n", 1)
    assert not edited(added, "new")
    assert parse(added, "new").inside == {"notes": [], "mine": ["words"]}


TAIL = "; mend the marks by hand"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<!-- cardgen:keep a -->\nwords\n",
            "f: line 3: kept regions do not match up; expected `<!-- /cardgen:keep -->` for region 'a', got the end of the file",
        ),
        (
            "<!-- /cardgen:keep -->",
            "f: line 1: kept regions do not match up; expected an opening mark before this closing one, "
            "got <!-- /cardgen:keep -->",
        ),
        (
            "<!-- cardgen:keep a -->\n<!-- cardgen:keep b -->",
            "f: line 2: kept regions do not match up; expected `<!-- /cardgen:keep -->` for region 'a' before the next one "
            "opens, got <!-- cardgen:keep b -->",
        ),
        (
            "<!-- cardgen:keep a -->\n<!-- /cardgen:keep -->\n<!-- cardgen:keep a -->\n<!-- /cardgen:keep -->",
            "f: line 3: kept regions do not match up; expected each region's name once, got <!-- cardgen:keep a -->",
        ),
        (
            "words <!-- cardgen:keep a -->",
            "f: line 1: kept regions do not match up; expected a mark `<!-- cardgen:keep NAME -->` or "
            "`<!-- /cardgen:keep -->` alone on its line, got words <!-- cardgen:keep a -->",
        ),
        (
            "<!--cardgen:keep a-->",
            "f: line 1: kept regions do not match up; expected a mark `<!-- cardgen:keep NAME -->` or "
            "`<!-- /cardgen:keep -->` alone on its line, got <!--cardgen:keep a-->",
        ),
    ],
)
def test_marks_that_do_not_match_up(text: str, message: str) -> None:
    with pytest.raises(CardgenError) as caught:
        parse(text, "f")
    assert str(caught.value) == f"{message}{TAIL}"
