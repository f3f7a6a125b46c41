"""Rate limits: which answers are one, and how long each lasts."""

from __future__ import annotations

import pytest

from cardgen.publisher.limits import limit_wait

NOW = 1_767_600_000.0
SPENT = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767600090"}
LEFT = {"x-ratelimit-remaining": "12", "x-ratelimit-reset": "1767600090"}


@pytest.mark.parametrize(
    ("status", "headers", "words", "wait"),
    [
        (429, {"retry-after": "7"}, "", 7.0),
        (403, {"retry-after": "7"}, "", 7.0),
        (403, {"retry-after": "7"} | SPENT, "", 7.0),
        (403, SPENT, "", 90.0),
        (429, SPENT, "", 90.0),
        (429, LEFT, "", 60.0),
        (429, {}, "", 60.0),
        (403, LEFT, "You have exceeded a secondary rate limit", 60.0),
        (403, {}, "You have triggered an abuse detection mechanism", 60.0),
        (403, {"x-ratelimit-remaining": "0"}, "", 60.0),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767599000"}, "", 1.0),
        (429, {"retry-after": "0"}, "", 1.0),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, "", 60.0),
        (429, {"retry-after": "-5"}, "", 60.0),
        (429, {"retry-after": "nan"}, "", 60.0),
        (429, {"retry-after": "inf"}, "", 60.0),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, "", 60.0),
    ],
)
def test_a_limit_lasts_as_long_as_its_headers_say_else_a_minute(status, headers, words, wait) -> None:
    assert limit_wait(status, headers, words, NOW) == wait


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (403, LEFT, "Resource not accessible by integration"),
        (403, {}, ""),
        (401, SPENT, "Bad credentials"),
        (404, SPENT, "Not Found"),
        (422, {"retry-after": "7"}, "rate limit"),
        (200, SPENT, ""),
        (503, {"retry-after": "7"}, ""),
    ],
)
def test_a_refusal_is_no_limit(status, headers, words) -> None:
    assert limit_wait(status, headers, words, NOW) is None
