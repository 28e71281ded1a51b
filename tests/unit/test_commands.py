"""A command is answered when the read model shows its effect, or at once when there is no effect to show."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from services.ingest.http.commands import wait_for_sequence


@pytest.mark.parametrize(
    ("body", "waits"),
    [
        (None, False),
        (json.dumps({"sequence": 4}), True),
        (json.dumps({"sequence": 5}), False),
        (json.dumps({"sequence": 5, "ending": {"stage": "cancelled"}}), True),
    ],
)
async def test_what_an_answer_waits_for(body: str | None, waits: bool) -> None:
    asked: list[Any] = []

    async def wait_until(look: Any, timeout_s: float) -> Any:
        connection = SimpleNamespace(execute=lambda *a: SimpleNamespace(scalar=lambda: body))
        asked.append(look(connection))

    gateway: Any = SimpleNamespace(
        decisions=SimpleNamespace(wait_until=wait_until), settings=SimpleNamespace(decision_timeout_s=1)
    )
    await wait_for_sequence(gateway, "j", 5)
    assert (asked == [None]) is waits
