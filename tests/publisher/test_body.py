"""The pull request's words and its marker."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from publishing_fixtures import bare, metric_entry, record

from cardgen.publisher.body import BEGIN, LIMIT, TITLE, marker, pull_body, read_marker, with_block
from cardgen.publisher.changes import Change, changes

MARKDOWN = MarkdownIt("commonmark").enable("table")
DIGEST, HEAD = "a" * 64, "b" * 40
LAST = "Push your own commits and this branch is left alone; close it to decline this content.\n"


def some() -> list[Change]:
    before = [record("deletion"), record("insertion"), record("sparsity", verdict="descriptive")]
    after = [
        record("deletion", key="k", estimate=0.3, interval=(0.25, 0.35), key_parts={"weights": "new"}),
        record("insertion", key="k", verdict="fail", p=0.9, estimate=None, interval=None, versions={"metric": 2}),
        bare("infidelity", "skipped", "no gradients"),
    ]
    return changes(before, after)


def test_a_whole_body() -> None:
    assert pull_body(some(), ["rise/README.md"], {"base": "main", "cardgen": "0.1.0"}) == (
        f"""{BEGIN}
Measured again, and rendered from the records: 1 verdict moved, 1 score moved, 1 evaluation added and 1 evaluation removed.

| Card | Evaluation | Verdict | Score | Why |
| --- | --- | --- | --- | --- |
| grad_cam on digits-cnn | Insertion | 🟢 pass → 🟥 fail | 0.213, 95 % interval 0.187 to 0.240 → – | metric version |
| grad_cam on digits-cnn | Deletion | 🟢 pass | 0.213, 95 % interval 0.187 to 0.240 → 0.30, 95 % interval 0.25 to 0.35 | weights |
| grad_cam on digits-cnn | Infidelity | ▫️ untested → ➖ skipped | – | added |
| grad_cam on digits-cnn | Sparsity | ⚪ descriptive → ▫️ untested | 0.213, 95 % interval 0.187 to 0.240 → – | removed |

**Left alone**, since they were changed by hand outside kept regions:

- rise/README.md

Move the words into a kept region (`cardgen:keep`), or run `cardgen build --force` to drop them.

**How it was made:** base main, cardgen 0.1.0.

{LAST}"""
    )


def test_a_body_without_moved_verdicts_says_what_did_change() -> None:
    assert pull_body([], [], {}) == (
        f"{BEGIN}\nMeasured again, and rendered from the records: no verdict or score moved, only what cards say of them.\n"
        f"\n{LAST}"
    )


def many(count: int, title: str = "Deletion") -> list[Change]:
    entry = metric_entry("deletion", title=title)
    made = [record("deletion", f"m{at}", catalogue=entry) for at in range(count)]
    moved = [record("deletion", f"m{at}", catalogue=entry, key="k", estimate=0.5) for at in range(count)]
    return changes(made, moved)


def rows_of(body: str) -> int:
    return len(re.findall(r"^\| m\d", body, re.MULTILINE))


def test_a_long_body_is_cut_at_a_row_and_says_how_many_more() -> None:
    whole = many(600)
    body = pull_body(whole, [], {})
    shown = rows_of(body)
    assert len(body) + len(marker(DIGEST, HEAD)) < LIMIT
    assert len(body) > LIMIT - 600
    assert f"… and {600 - shown} more.\n" in body
    assert body.startswith(f"{BEGIN}\nMeasured again, and rendered from the records: 600 scores moved.")
    assert body.endswith(LAST)
    table = MARKDOWN.render(body)
    assert (table.count("<tr>"), table.count("<td>")) == (1 + shown, 5 * shown)


def test_a_body_that_fits_is_not_cut() -> None:
    body = pull_body(many(200), [], {})
    assert (rows_of(body), "more." in body) == (200, False)


def test_verdicts_stand_before_scores_when_rows_are_cut() -> None:
    moved = many(600)
    flip = changes([record("deletion", "zzz")], [record("deletion", "zzz", verdict="fail", p=0.9, key="k")])
    first = [line for line in pull_body([*moved, *flip], [], {}).splitlines() if line.startswith("| ")][2]
    assert first.startswith("| zzz on digits-cnn | Deletion | 🟢 pass → 🟥 fail |")


def test_many_cards_left_alone_are_counted() -> None:
    body = pull_body([], [f"m{at}/README.md" for at in range(53)], {})
    assert body.count("/README.md") == 50
    assert "\n- … and 3 more\n" in body


def test_hostile_words_stay_words() -> None:
    nasty = f"| x | <b> `@me` {marker(DIGEST, HEAD)} {BEGIN} <!-- cardgen:keep a -->\n# Fixes #1 https://evil.org"
    body = pull_body(many(1, nasty), [nasty], {nasty: nasty})
    html = MARKDOWN.render(body)
    assert (html.count("<tr>"), html.count("<td>"), html.count("<li>")) == (2, 5, 1)
    assert not re.search(r"<(b|h1|a)\b", html)
    assert body.count(BEGIN) == 1
    assert "@me" not in body
    assert read_marker(body) is None


def test_hostile_words_of_any_length_keep_the_body_short() -> None:
    nasty = "|" * 100_000
    body = pull_body(many(300, nasty), [nasty] * 300, {"base": nasty})
    assert len(body) + len(marker(DIGEST, HEAD)) < LIMIT
    assert rows_of(body) > 10


def test_the_marker_is_read_from_the_last_line_alone() -> None:
    mark = marker(DIGEST, HEAD)
    assert mark == f"<!-- cardgen:v1 digest={DIGEST} head={HEAD} -->"
    assert read_marker(f"{LAST}\n{mark}") == (DIGEST, HEAD)
    assert read_marker(f"{LAST}\r\n{mark}\r\n\r\n") == (DIGEST, HEAD)
    assert read_marker(mark) == (DIGEST, HEAD)


@pytest.mark.parametrize(
    "body",
    [
        "",
        LAST,
        f"{marker(DIGEST, HEAD)}\nsomebody's words",
        f"words {marker(DIGEST, HEAD)}",
        marker(DIGEST[1:], HEAD),
        marker(DIGEST, HEAD[1:]),
        marker(DIGEST.upper(), HEAD),
        marker(DIGEST, HEAD).replace("v1", "v2"),
    ],
)
def test_anything_else_is_no_marker(body: str) -> None:
    assert read_marker(body) is None


def test_only_our_own_block_is_replaced() -> None:
    old, new = f"{BEGIN}\nold\n{marker(DIGEST, HEAD)}", f"{BEGIN}\nnew\n{marker(HEAD + 'c' * 24, HEAD)}"
    assert with_block(old, new) == new
    assert with_block(f"Please read.\r\n\r\n{old}", new) == f"Please read.\n\n{new}"
    assert with_block(f"{old}\n\nThanks, looks good.", new) == f"Thanks, looks good.\n\n{new}"
    assert with_block("no block any more", new) == f"no block any more\n\n{new}"
    assert with_block("", new) == new
    assert read_marker(with_block(f"above\n{old}\nbelow", new)) == (HEAD + "c" * 24, HEAD)


def test_the_title_never_changes() -> None:
    assert TITLE == "Regenerate saliency cards"
