"""The token: where it goes, and where it never does.

git gets it by settings in the environment of its own process, for the forge's host alone; argument lists, addresses and
configuration files never hold it, and what is said to people is cleaned of it.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from urllib.parse import urlsplit


def header_settings(url: str, token: str, host: str) -> dict[str, str]:
    """Environment for git that sends the token as a header to an https address on `host`; empty for any other.

    An empty value first drops the header that a checkout may have left in the repository's configuration: two would be refused.
    """
    parts = urlsplit(url)
    if not token or parts.scheme != "https" or parts.hostname != host:
        return {}
    name = f"http.https://{parts.netloc.rpartition('@')[2]}/.extraheader"
    count = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    found = {"GIT_CONFIG_COUNT": str(count + 2)}
    for at, value in enumerate(("", f"AUTHORIZATION: basic {_basic(token)}"), start=count):
        found |= {f"GIT_CONFIG_KEY_{at}": name, f"GIT_CONFIG_VALUE_{at}": value}
    return found


def scrub(text: str, token: str) -> str:
    """Text without the token, and without names and passwords in addresses."""
    for secret in (token, _basic(token)) if token else ():
        text = text.replace(secret, "***")
    return re.sub(r"(?<=://)[^/\s@]+@", "", text)


def _basic(token: str) -> str:
    return b64encode(f"x-access-token:{token}".encode()).decode()
