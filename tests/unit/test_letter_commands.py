"""`stageline letters`: what it sends to the gateway, and what an edited body changes."""

from __future__ import annotations

from typing import Any

import pytest

from cli.client import CliError
from cli.commands import letters


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 1}, {}), ({"a": 1}, {"a": 2}, {"a": 2}), ({"a": 1, "b": 2}, {"b": 2}, {"a": None}), ({}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1, "c": "[hidden]"}}, {"a": {"b": 2, "c": "[hidden]"}}, {"a": {"b": 2}}), ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
    ],
)  # fmt: skip
def test_an_edit_is_sent_as_what_it_changes(before: dict[str, Any], after: dict[str, Any], changes: dict[str, Any]) -> None:
    assert letters.difference(before, after) == changes


def test_the_editor_of_the_person_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/old/new/")
    assert letters._in_editor({"body": {"job_id": "old", "token": "[hidden]"}}) == {"job_id": "new"}
    with pytest.raises(CliError, match="nothing was changed"):
        letters._in_editor({"body": {"job_id": "other"}})
    with pytest.raises(CliError, match="no JSON object"):
        letters._in_editor({"body_base64": "/w=="})
    monkeypatch.setenv("EDITOR", "false")
    with pytest.raises(CliError, match="nothing was sent"):
        letters._in_editor({"body": {}})


@pytest.mark.parametrize(
    "arguments", [([], {}, False), (["a"], {"code": "x"}, False), (["a"], {}, True), ([], {"code": "x"}, True)]
)
def test_letters_are_named_or_filtered(arguments: tuple[list[str], dict[str, Any], bool]) -> None:
    with pytest.raises(CliError, match="give ids, or a filter, or --all") as caught:
        letters._act("redrive", *arguments, {"reason": "", "again": False}, False, None)  # type: ignore[arg-type]
    assert caught.value.code == 2


async def test_a_filter_is_repeated_until_nothing_is_left() -> None:
    answers = [
        {"done": ["a", "b"], "failed": [], "left": True}, {"done": ["c"], "failed": [{"id": "x", "message": "no right"}], "left": True},
        {"done": [], "failed": [{"id": "x", "message": "no right"}], "left": True},
    ]  # fmt: skip

    class Fake:
        async def call(self, method: str, path: str, **more: Any) -> Any:
            assert (method, path) == ("POST", "/v1/letters/redrive")
            return answers.pop(0)

    found = await letters._many(Fake(), "redrive", {})  # type: ignore[arg-type]
    assert [x["id"] for x in found] == ["a", "b", "x", "c"] and not answers
    assert [letters._done(x) for x in found][2] == "x: not sent: no right"


def test_headers_are_pairs() -> None:
    assert letters._headers(["a=b=c", "d="]) == {"a": "b=c", "d": None}
    with pytest.raises(CliError):
        letters._headers(["a"])
