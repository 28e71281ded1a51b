"""The notifier's OpenAPI document, and its answers held against it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from openapi_spec_validator import validate
from sqlalchemy import text

from shared.web.openapi import KEY_HEADER, operations_of
from tests.gateway_app import BASE
from tests.notifier_app import notifier_app
from tests.published_answers import Published


async def test_the_document_is_complete(tmp_path: Path) -> None:
    async with notifier_app(tmp_path) as (app, _):
        document = app.openapi()
    validate(document)
    assert document["servers"] and document["components"]["securitySchemes"]["key"]["name"] == KEY_HEADER
    for path, method, operation in operations_of(document):
        where = (method, path, operation["operationId"])
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", operation["operationId"]) and operation["security"], where
        for status, answer in operation["responses"].items():
            content = answer.get("content", {})
            if status.startswith("2") and "application/json" in content:
                assert set(content["application/json"]["schema"]) == {"$ref"}, (*where, content)
            if status.startswith(("4", "5")):
                assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}, where


async def test_answers_are_as_published(tmp_path: Path) -> None:
    async with notifier_app(tmp_path) as (app, key):
        published = Published(app.openapi())

        async def check(answer: httpx.Response) -> None:
            media = answer.headers.get("content-type", "").partition(";")[0]
            fault = published.fault(
                answer.request.method, answer.request.url.path, answer.status_code, await answer.aread(), media
            )
            assert fault is None, fault

        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        hooks = {"response": [check]}
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers={"x-api-key": key}, event_hooks=hooks) as http:
            made = (await http.post("/v1/webhooks", json={"url": "https://example.com/hook", "events": ["job.*"]})).json()
            await _attempt(app.state.notifier.store, made["id"])
            assert len((await http.get("/v1/webhooks")).json()["result"]) == 1
            assert (await http.get(f"/v1/webhooks/{made['id']}/log")).json()["result"][0]["outcome"] == "retry"
            await http.post(f"/v1/webhooks/{made['id']}/enable")
            assert (await http.get("/v1/webhooks/nothing/log")).status_code == 404
            assert (await http.post("/v1/webhooks", json={})).status_code == 400
    assert published.seen == {"createEndpoint", "listEndpoints", "getDeliveryLog", "enableEndpoint"}


async def _attempt(store: object, endpoint_id: str) -> None:
    insert = text(
        "INSERT INTO attempt (id, endpoint_id, event_id, event_type, job_id, attempt, attempted_at, outcome, status_code, error, duration_ms) "
        "VALUES ('a', :e, 'ev', 'JobStart', NULL, 1, 1.0, 'retry', 503, 'status', 2.5)"
    )
    await store.transact(lambda c: c.execute(insert, {"e": endpoint_id}) and None)  # type: ignore[attr-defined]
