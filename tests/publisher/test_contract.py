"""GitHub's description is its own, whole for what is used, and catches what is wrong: in requests and in answers."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contract import SENT, Broken, assert_contract, check, check_answer, check_request
from fake_answers import DESCRIPTION, description, failed, refused, shaped
from fake_github import FakeGitHub
from fake_state import Answer, Exchange, Request

REPOSITORY = "/repos/octo/cards"
HEADERS = {**SENT, "user-agent": "cardgen/0"}
PULL = {"head": "cardgen/update", "base": "main", "title": "T", "body": "B"}


def request(method: str, path: str, body: Any = None, **query: str) -> Request:
    return Request(method, f"{REPOSITORY}{path}", query, body, HEADERS)


GOOD = (
    request("GET", ""),
    request("GET", "/pulls", state="all", head="octo:cardgen/update", base="main", per_page="100", page="2"),
    request("POST", "/pulls", PULL),
    request("PATCH", "/pulls/7", {"state": "closed"}),
    request("POST", "/issues/7/labels", {"labels": ["a"]}),
    request("GET", "/issues/7/comments", page="1"),
    request("POST", "/issues/7/comments", {"body": "words"}),
    request("POST", "/pulls/7/requested_reviewers", {"reviewers": ["maintainer"]}),
)


@pytest.mark.parametrize("good", GOOD, ids=str)
def test_each_operation_is_described(good: Request) -> None:
    check_request(good)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (request("GET", "/pulls", heads="octo:x"), r"no query parameter \['heads'\]"),
        (request("GET", "/pulls", state="merged"), r"'merged' is not one of \['open'"),
        (request("GET", "/pulls", page="two"), "Query parameter error: page"),
        (request("POST", "/pulls", {"base": "main", "title": "T"}), "'head' is a required property"),
        (request("POST", "/pulls", PULL | {"labels": ["a"]}), r"'labels' was unexpected"),
        (request("POST", "/pulls", PULL | {"title": None}), "title: None for not nullable"),
        (request("POST", "/pulls"), "Missing required request body"),
        (request("PATCH", "/pulls/7", {"state": "merged"}), "state: 'merged' is not one of"),
        (request("PATCH", "/pulls/seven", {"state": "open"}), "Path parameter error: pull_number"),
        (request("POST", "/issues/7/labels", ["a"]), r"value: \['a'\] is not valid under any"),
        (request("POST", "/issues/7/labels", {"labels": []}), "is not valid under any"),
        (request("POST", "/issues/7/comments", {"text": "words"}), "'body' is a required property"),
        (
            request("POST", "/pulls/7/requested_reviewers", {"reviewers": "maintainer"}),
            "reviewers: 'maintainer' is not",
        ),
        (request("DELETE", "/pulls/7"), "not one of the operations that cardgen uses"),
        (request("GET", "/git/refs/heads/cardgen/update"), "not one of the operations that cardgen uses"),
        (replace(GOOD[0], headers={**HEADERS, "x-github-api-version": "2099-01-01"}), "headers missing"),
        (replace(GOOD[0], headers={**HEADERS, "accept": "*/*"}), "headers missing"),
        (replace(GOOD[0], headers=SENT), "headers missing"),
    ],
)
def test_a_wrong_request_is_caught(bad: Request, reason: str) -> None:
    with pytest.raises(Broken, match=f"^{re.escape(str(bad))}: .*({reason})"):
        check_request(bad)


def _without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


REPLY = shaped("pull-request", number=7)


@pytest.mark.parametrize(
    ("asked", "answer", "reason"),
    [
        (GOOD[2], Answer(201, {}, _without(REPLY, "head")), "'head' is a required property"),
        (GOOD[2], Answer(201, {}, REPLY | {"number": "7"}), "number: '7' is not of type 'integer'"),
        (GOOD[2], Answer(201, {}, REPLY | {"is_merged": True}), "'is_merged' was unexpected"),
        (GOOD[2], Answer(201, {}, REPLY | {"state": "merged"}), "state: 'merged' is not one of"),
        (GOOD[2], Answer(201, {}, REPLY | {"created_at": "yesterday"}), "created_at: 'yesterday' is not a 'date-time'"),
        (GOOD[2], Answer(201, {}, b"<html>"), "deserialize"),
        (GOOD[2], Answer(200, {}, REPLY), "GitHub has no such answer: 200"),
        (GOOD[2], Answer(422, {}, {"message": "no"}), "'documentation_url' is a required property"),
        (GOOD[2], Answer(401, {}, {"error": "no"}), "GitHub has no such answer: 401"),
        (GOOD[1], Answer(200, {}, {"items": []}), "is not of type 'array'"),
    ],
)
def test_a_wrong_answer_is_caught(asked: Request, answer: Answer, reason: str) -> None:
    with pytest.raises(Broken, match=f"^{re.escape(str(asked))}: .*({reason})"):
        check_answer(asked, answer)


def test_right_answers_pass() -> None:
    check_answer(GOOD[2], Answer(201, {}, REPLY))
    check_answer(GOOD[2], Answer(422, {}, failed("Validation Failed", {"code": "custom", "message": "m"})))
    check_answer(GOOD[2], Answer(401, {}, refused("Bad credentials", 401)))


def test_an_injected_answer_is_not_judged_but_its_request_is() -> None:
    nonsense = Answer(200, {}, b"<html>")
    check(Exchange(GOOD[0], nonsense, injected=True))
    with pytest.raises(Broken):
        check(Exchange(GOOD[0], nonsense, injected=False))
    with pytest.raises(Broken):
        check(Exchange(request("GET", "/nowhere"), None, injected=True))


def test_one_wrong_exchange_among_right_ones_is_found(tmp_path: Path) -> None:
    fake = FakeGitHub(tmp_path)
    fake.exchanges = [Exchange(good, None, False) for good in GOOD]
    assert_contract(fake)
    fake.exchanges.insert(3, Exchange(request("GET", "", None, page="1"), None, False))
    with pytest.raises(Broken):
        assert_contract(fake)


def test_the_cut_is_a_cut_of_itself_and_its_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DESCRIPTION.parent)
    monkeypatch.delitem(sys.modules, "cut", raising=False)
    from cut import CUT, OPERATIONS, cut

    assert CUT == DESCRIPTION
    assert cut(description()) == description()
    assert {path: tuple(sorted(verbs)) for path, verbs in description()["paths"].items()} == OPERATIONS
    info = description()["info"]
    assert (info["license"]["name"], info["version"]) == ("MIT", "23.0.2")
    assert f"`@octokit/openapi` {info['version']}" in (DESCRIPTION.parent / "README.md").read_text()
    assert "MIT License" in (DESCRIPTION.parent / "LICENSE").read_text()


def test_every_object_that_a_request_may_hold_is_closed() -> None:
    for verbs in description()["paths"].values():
        for operation in verbs.values():
            for schema in _objects(operation.get("requestBody", {})):
                assert schema["additionalProperties"] is False, json.dumps(schema)


def _objects(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for each in node for found in _objects(each)]
    if not isinstance(node, dict):
        return []
    own = [node] if isinstance(node.get("properties"), dict) and "type" in node else []
    return own + [found for value in node.values() for found in _objects(value)]
