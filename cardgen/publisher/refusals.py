"""What an answer that is an error means, and what the caller can do about it."""

from __future__ import annotations

from collections.abc import Mapping

from cardgen.publisher.forge import Denied, ForgeError

FORBIDDING = "not permitted to create or approve pull requests"
SETTING = "Settings → Actions → General → Allow GitHub Actions to create and approve pull requests"


def refusal(call: str, status: int, headers: Mapping[str, str], words: str) -> ForgeError:
    """The error for a status of 300 to 499 that is no rate limit.

    Args:
        call: what was asked, as `POST /repos/octo/cards/pulls`.
        words: GitHub's own message.
    """
    said = f"{status}: {words}" if words else str(status)
    if status < 400:
        return ForgeError(
            f"{call}: the repository was renamed or moved ({said}); expected its present name; "
            f"mend the remote with `git remote set-url` and run again",
            status,
        )
    if status == 401:
        return Denied(
            f"{call}: the token is not accepted ({said}); expected a valid one; renew it and run again", status
        )
    if status == 404:
        return Denied(
            f"{call}: nothing here that the token may see ({said}); expected an existing repository and a token with "
            f"{needed(call, headers)}; mend the remote or the token and run again",
            status,
        )
    if status == 403 and FORBIDDING in words:
        return Denied(
            f"{call}: refused ({said}); expected that workflows may; allow it in {SETTING}, and run again", status
        )
    if status == 403:
        return Denied(
            f"{call}: refused ({said}); expected a token with {needed(call, headers)}; grant it (`permissions:` in a "
            f"workflow, else the token's own settings) and run again",
            status,
        )
    return ForgeError(
        f"{call}: not accepted ({said}); expected what GitHub takes; mend what it names and run again", status
    )


def needed(call: str, headers: Mapping[str, str]) -> str:
    """The permissions that GitHub says would do: of a fine-grained token, else of a classic one, else the usual one."""
    permissions = headers.get("x-accepted-github-permissions", "")
    scopes = headers.get("x-accepted-oauth-scopes", "")
    if permissions:
        return " or ".join(_all(each) for each in permissions.split(";"))
    if scopes:
        return f"the scope {_all(scopes, ' or ')}"
    return "`pull_requests: read`" if call.startswith("GET") else "`pull_requests: write`"


def _all(listed: str, word: str = " and ") -> str:
    names = (name.strip().replace("=", ": ") for name in listed.split(",") if name.strip())
    return word.join(f"`{name}`" for name in names)
