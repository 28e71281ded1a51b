"""A job of an unknown workflow is refused where it is asked for, with the nearest names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.ingest.core.nearest_names import nearest, unknown_workflow
from shared import clock
from tests.gateway_app import InProcess, gateway_app

VERSIONS = (("documents", 1, "*"), ("documents", 2, "*"), ("noop-five", 1, "*"), ("secret-flow", 1, "other"))


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path) as made:
        for name, version, owner in VERSIONS:
            body = {"name": name, "version": version, "owner": owner, "definition": {}, "published_at": clock.now().isoformat()}
            await made.execute(
                "INSERT INTO workflow_view (name, version, body) VALUES (:n, :v, :b)", n=name, v=version, b=json.dumps(body)
            )
        await made.execute("INSERT INTO workflow_gone (name, version) VALUES ('documents', 2)")
        made.gateway.decisions.wait_until = none_comes  # type: ignore[method-assign]
        yield made


async def none_comes(*given: Any) -> None:
    """No workflow is published while the request waits."""


@pytest.mark.parametrize(
    ("path", "body", "field", "said"),
    [
        ("/v1/jobs", {"workflow": "documnts"}, "workflow", "documents"),
        ("/v1/jobs", {"workflow": "NOOP"}, "workflow", "noop-five"),
        ("/v1/jobs", {"workflow": "zzz"}, "workflow", "GET /v1/workflows"),
        ("/v1/jobs", {"workflow": "documents", "workflow_version": 2}, "workflow_version", "it has 1"),
        ("/v1/jobs", {"workflow": "secret-flow"}, "workflow", "there is no workflow"),
        ("/api/job/create", {"session_id": "s-1", "workflow": "documnts"}, "workflow", "documents"),
        ("/api/file/upload", {"url": "https://files.example.com/a.pdf", "workflow": "documnts"}, "workflow", "documents"),
    ],
)
async def test_an_unknown_workflow_is_refused_with_the_nearest_names(
    gateway: InProcess, path: str, body: dict[str, Any], field: str, said: str
) -> None:
    async with gateway.http(**{"x-api-key": await gateway.key()}) as http:
        answer = await http.post(path, json=body, headers={"idempotency-key": "k-1"})
        assert answer.status_code == 400 and answer.json()["field"] == field, answer.text
        assert said in answer.text
        assert gateway.publisher.published == [] and await gateway.rows("SELECT * FROM idempotency") == []


async def test_a_schedule_of_an_unknown_workflow_is_refused_with_the_nearest_names(gateway: InProcess) -> None:
    async with gateway.http(**{"x-api-key": await gateway.key()}) as http:
        answer = await http.put("/v1/schedules/nightly", json={"cron": "@daily", "workflow": "noop-fife"})
        assert answer.status_code == 400 and "noop-five" in answer.json()["detail"], answer.text
        assert answer.json()["type"] == "urn:stageline:error:unknown_workflow"


async def test_a_known_workflow_is_sent_on(gateway: InProcess) -> None:
    async with gateway.http(**{"x-api-key": await gateway.key()}) as http:
        for body in ({"workflow": "documents"}, {"workflow": "documents", "workflow_version": 1}, {"workflow": "noop-five"}):
            gateway.publisher.published.clear()
            await http.post("/v1/jobs", json=body)
            assert len(gateway.publisher.published) == 1, body


async def test_a_gateway_without_workflows_lets_the_orchestrator_decide(tmp_path: Path) -> None:
    async with gateway_app(tmp_path) as made, made.http(**{"x-api-key": await made.key()}) as http:
        await http.post("/v1/jobs", json={"workflow": "anything"})
        assert len(made.publisher.published) == 1


def test_nearest_names() -> None:
    names = ["documents", "documents-merged", "noop-five", "Invoices"]
    assert nearest("documnets", names)[0] == "documents"
    assert nearest("invoice", names) == ["Invoices"]
    assert nearest("doc", names)[:1] == ["documents"] and nearest("", names) == [] and nearest("qqqq", names) == []
    assert unknown_workflow("x", 3, {"x": [2, 1]}) == ("workflow_version", "workflow x has no version 3; it has 1, 2")
