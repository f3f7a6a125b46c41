"""Which repository of the forge a git remote points at."""

from __future__ import annotations

import re

from cardgen.errors import CardgenError

FULL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/(?!\.{1,2}$)[A-Za-z0-9._-]+")
URL = re.compile(r"(?:https?|ssh|git)://(?:[^@/]*@)?([^@/:]+)(?::\d+)?/(.+)")
LIKE_SCP = re.compile(r"(?:[^@/:]+@)?([^@/:]+):(?!/)(.+)")
CREDENTIALS = re.compile(r"//.*@")


def repository_of(url: str, host: str = "github.com") -> str:
    """`owner/name` of an https, ssh, git or scp-like remote on that host.

    Raises:
        CardgenError: it is a path, another host, or has no owner and name. Credentials in it are never shown.
    """
    found = URL.fullmatch(url) or LIKE_SCP.fullmatch(url)
    name = found[2].removesuffix("/").removesuffix(".git") if found else ""
    if not found or found[1].lower().removeprefix("ssh.").removeprefix("www.") != host or not FULL_NAME.fullmatch(name):
        shown = "".join(sign for sign in CREDENTIALS.sub("//", url) if sign.isprintable())
        raise CardgenError(
            f"{shown[:200] or 'an empty remote'}: not a repository on {host}; expected a remote such as "
            f"https://{host}/OWNER/NAME or git@{host}:OWNER/NAME.git; mend it with `git remote set-url`"
        )
    return name
