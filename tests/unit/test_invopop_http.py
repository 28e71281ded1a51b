"""Invopop's dialect as its OpenAPI documents and its Go client have it: text where they say text, null where they send null."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from services.ingest.dialects.invopop.absent import ABSENT
from tests.gateway_app import BASE, InProcess, gateway_app
from tests.unit.invopop_caller import STEP, Caller, enter_job, new_caller


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("invopop"), public_url=BASE) as made:
        yield made


@pytest.fixture
async def invopop(app: InProcess) -> AsyncIterator[Caller]:
    async with new_caller(app) as made:
        yield made


async def test_workflows_are_text_as_documented(invopop: Caller) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    for flow_id in ids:
        made = await invopop.call(
            "PUT", f"/transform/v1/workflows/{flow_id}", {"name": "A", "steps": [STEP], "schema": "bill/invoice"}
        )
        assert (
            made["version"] == "1"
            and [v["version"] for v in made["versions"]] == ["1"]
            and made["versions"][0]["hash"] == made["hash"]
        )
    page = await invopop.call("GET", "/transform/v1/workflows", limit=2)
    assert [f["id"] for f in page["list"]] == ids[:0:-1] and isinstance(page["next_created_at"], str) and page["created_at"]
    following = await invopop.call("GET", "/transform/v1/workflows", created_at=page["next_created_at"])
    assert [f["id"] for f in following["list"]] == ids[:1] and "next_created_at" not in following
    assert following["created_at"] == page["next_created_at"]
    named = await invopop.call("GET", "/transform/v1/workflows", schema="bill/invoice", limit=1)
    assert named["schema"] == "bill/invoice" and len(named["list"]) == 1 and named["next_created_at"]
    assert (await invopop.call("GET", "/transform/v1/workflows", schema="bill/order"))["list"] == []
    assert set(await invopop.faults("GET", "/transform/v1/workflows", created_at="yesterday")) == {"created_at"}


@pytest.mark.parametrize(
    "steps", [{"steps": None}, {"steps": []}, {}, {"steps": None, "rescue": None, "draft": None, "disabled": None}]
)
async def test_a_workflow_without_steps_is_an_empty_draft(invopop: Caller, steps: dict[str, Any]) -> None:
    path = f"/transform/v1/workflows/{uuid.uuid4()}"
    made = await invopop.call("PUT", path, {"name": "Empty", **steps})
    assert made["draft"] is True and made["version"] == "0" and made["steps"] == []
    assert invopop.app.publisher.published == [] or made["id"] not in str(invopop.app.publisher.published[-1])
    named = await invopop.call("PATCH", path, {"name": "Named", "steps": None})
    assert named["draft"] is True and named["name"] == "Named"
    filled = await invopop.call("PATCH", path, {"name": "", "steps": [STEP]})
    assert filled["draft"] is False and filled["version"] == "1" and filled["name"] == "Named"
    kept = await invopop.call("PATCH", path, {"name": "", "description": "d", "steps": None})
    assert kept["steps"] == filled["steps"] and kept["version"] == "2", "null keeps the steps"


async def test_ids_in_upper_case_are_the_same(invopop: Caller) -> None:
    flow, entry, job = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid1())
    made = await invopop.call("PUT", f"/transform/v1/workflows/{flow.upper()}", {"name": "A", "steps": [STEP]})
    assert made["id"] == flow and (await invopop.call("GET", f"/transform/v1/workflows/{flow}"))["id"] == flow
    made = await invopop.call("PUT", f"/silo/v1/entries/{entry.upper()}", {"data": {"a": 1}})
    assert made["id"] == entry
    assert (await invopop.call("GET", f"/silo/v1/entries/{entry}"))["id"] == (
        await invopop.call("GET", f"/silo/v1/entries/{entry.upper()}")
    )["id"]
    await invopop.call("PUT", f"/silo/v1/entries/{entry}", {"data": {"a": 1}}, 409)
    file = await invopop.call("PUT", f"/silo/v1/entries/{entry.upper()}/files/{job.upper()}", {"name": "a", "data": "aGk="})
    assert file["id"] == job and file["entry_id"] == entry
    copied = await invopop.entry(previous_id=entry.upper())
    assert copied["data"] == {"a": 1}
    await enter_job(invopop, job)
    assert (await invopop.call("GET", f"/transform/v1/jobs/{job.upper()}"))["id"] == job
    shouted = await invopop.faults("PUT", f"/transform/v1/jobs/{str(uuid.uuid4()).upper()}", {"workflow_id": flow})
    assert "version 1 or 7" in shouted["id"]


async def test_keys_may_have_slashes(invopop: Caller) -> None:
    for key in ("2026/05/7", "a/files/b", "a/states", "files/x/content", "ä ö/?&#", "x/meta/y"):
        entry = await invopop.entry(key=key, data={"a": 1})
        for written in {quote(key, safe=""), quote(key)}:
            assert (await invopop.call("GET", f"/silo/v1/entries/key/{written}"))["id"] == entry["id"], (key, written)
    await enter_job(invopop, str(uuid.uuid1()), key="2026/05/7")
    assert (await invopop.call("GET", f"/transform/v1/jobs/key/{quote('2026/05/7', safe='')}"))["key"] == "2026/05/7"


async def test_ping(invopop: Caller, app: InProcess) -> None:
    assert await invopop.call("GET", "/utils/v1/ping") == {"ping": "pong"}
    async with app.http() as nobody, app.http(authorization="Bearer wrong") as stranger:
        assert (await nobody.get("/utils/v1/ping")).json() == {"ping": "pong"}
        assert (await stranger.get("/utils/v1/ping")).status_code == 401


async def test_services_that_are_not_here_say_so(invopop: Caller) -> None:
    for path, methods, sentence in ABSENT:
        target = path.replace("{rest:path}", "a/b").replace("{entry_id}", str(uuid.uuid4()))
        for method in methods:
            said = await invopop.call(method, target, {} if method != "GET" else None, 404)
            assert said == {"code": "not_found", "key": "not_found", "message": sentence}, (method, target)
    assert (await invopop.call("GET", "/sequence/v1/series", status=404))["message"].startswith(
        "There is no Sequence service here"
    )
