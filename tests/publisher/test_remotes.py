"""The repository behind a remote, and remotes that have none."""

from __future__ import annotations

import pytest

from cardgen.errors import CardgenError
from cardgen.publisher.github import repository_of


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/octo/cards",
        "https://github.com/octo/cards.git",
        "https://github.com/octo/cards/",
        "https://www.GitHub.com/octo/cards",
        "https://x-access-token:secret@github.com/octo/cards.git",
        "http://github.com:80/octo/cards",
        "git@github.com:octo/cards.git",
        "github.com:octo/cards",
        "ssh://git@github.com/octo/cards.git",
        "ssh://git@ssh.github.com:443/octo/cards.git",
        "git://github.com/octo/cards.git",
    ],
)
def test_every_form_of_a_remote_names_its_repository(url: str) -> None:
    assert repository_of(url) == "octo/cards"


def test_names_keep_their_dots_and_dashes_and_another_host_can_be_asked_for() -> None:
    assert repository_of("https://github.com/my-team/a.b_c-d.git") == "my-team/a.b_c-d"
    assert repository_of("git@git.example.org:octo/cards.git", "git.example.org") == "octo/cards"


@pytest.mark.parametrize(
    "url",
    [
        "/srv/cards.git",
        "../cards.git",
        "C:\\cards",
        "C:/octo/cards",
        "file:///srv/octo/cards.git",
        "https://gitlab.com/octo/cards",
        "https://github.com.example.org/octo/cards",
        "https://github.com@example.org/octo/cards",
        "https://github.com/octo",
        "https://github.com/octo/cards/tree/main",
        "https://github.com/octo/..",
        "https://github.com/../cards",
        "https://github.com/octo/ca rds",
        "https://github.com/octo/cards?x=1",
        "https://github.com/octo/cards#x",
        "git@github.com:/octo/cards",
        "git@github.com:octo/cards\n",
        "ext::sh -c octo/cards",
    ],
)
def test_others_are_refused(url: str) -> None:
    with pytest.raises(CardgenError, match=r"not a repository on github\.com; expected a remote such as"):
        repository_of(url)


def test_the_message_says_what_to_do_and_holds_no_password() -> None:
    with pytest.raises(CardgenError) as error:
        repository_of("https://me:pass@word@gitlab.com/octo/cards\u202e\x1b")
    assert str(error.value) == (
        "https://gitlab.com/octo/cards: not a repository on github.com; expected a remote such as "
        "https://github.com/OWNER/NAME or git@github.com:OWNER/NAME.git; mend it with `git remote set-url`"
    )
    with pytest.raises(CardgenError, match=r"^an empty remote: not a repository"):
        repository_of("")
