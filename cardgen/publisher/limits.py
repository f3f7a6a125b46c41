"""Rate limits: told apart from refusals, and how long each one lasts.

GitHub answers 403 or 429 for its primary limit (`x-ratelimit-remaining: 0`) and its secondary ones (`retry-after`, or
only words), and 403 also where a token may not do a thing. Waiting helps with the limits alone.
Source: GitHub's "Rate limits for the REST API" and "Best practices for using the REST API".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

PATIENCE = 300.0
UNSAID = 60.0
SHORTEST = 1.0
WORDS = re.compile(r"rate limit|abuse detection", re.IGNORECASE)


def limit_wait(status: int, headers: Mapping[str, str], message: str, now: float) -> float | None:
    """Seconds until the limit is over: `retry-after`, else `x-ratelimit-reset`, else a minute; None where it is none.

    Args:
        headers: the answer's; their names in lower case, or in a mapping that takes any case.
        message: GitHub's own words; secondary limits are sometimes told by them alone.
        now: seconds since 1970, the clock of `x-ratelimit-reset`.
    """
    after, spent = _seconds(headers.get("retry-after")), headers.get("x-ratelimit-remaining") == "0"
    if status != 429 and (status != 403 or (after is None and not spent and not WORDS.search(message))):
        return None
    reset = _seconds(headers.get("x-ratelimit-reset")) if spent else None
    wait = after if after is not None else UNSAID if reset is None else reset - now
    return max(wait, SHORTEST)


def _seconds(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
