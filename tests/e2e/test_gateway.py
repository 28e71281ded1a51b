"""The gateway for a producer: answers, errors, limits, and reads right after a write."""

from __future__ import annotations

import asyncio
import io
from collections.abc import MutableMapping
from typing import Any

import aiohttp
import pytest

from cli.client import Client, CliError
from shared.web.form_data import FormData
from tests.conftest import SAMPLES, Pipeline
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
UNKNOWN = "456f1234-e89b-12d3-a456-426655440000"


async def raw(client: Client, method: str, path: str, **more: Any) -> tuple[int, Any, MutableMapping[str, str]]:
    async with client.http.request(method, client.target.url + path, **more) as answer:
        body = await answer.json(content_type=None) if answer.content_type.endswith("json") else await answer.read()
        return answer.status, body, answer.headers.copy()


async def session_with(client: Client, *names: str) -> str:
    session = (await client.call("POST", "/api/deferred/create"))["session_id"]
    for name in names:
        await client.call("POST", "/api/file/uploadfile", form=lambda _, n=name: form(session, n))
    return str(session)


def form(session: str, name: str, data: bytes | io.BytesIO | None = None, **fields: str) -> FormData:
    parts = FormData()
    parts.add_field("session_id", session)
    parts.add_field("file", data if data is not None else (SAMPLES / name).read_bytes(), filename=name)
    for key, value in fields.items():
        parts.add_field(key, value)
    return parts


async def ended(client: Client, job_id: str) -> dict[str, Any]:
    async def look() -> Any:
        try:
            job = await client.call("GET", f"/v1/jobs/{job_id}")
        except CliError:
            return None  # published by another producer just before
        return job if job["stage"] in ("completed", "failed", "invalid", "cancelled") else None

    found: dict[str, Any] = await eventually(look, 60)
    return found


async def test_a_session_from_opening_to_results(client: Client) -> None:
    session = await session_with(client, "invoice-acme-2026-0042.pdf", "letter-offer.docx")
    detail = await client.call("GET", f"/api/deferred/detail/{session}")
    assert detail["status"] == "open" and detail["job_id"] is None and len(detail["files"]) == 2
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session, "metadata": {"a": 1}}))["job_id"]
    assert (await client.call("GET", f"/api/job/detail/{job_id}"))["metadata"] == {"a": 1}, "the read model has the write at once"
    job = await ended(client, job_id)
    assert job["stage"] == "completed" and {f["tag_name"] for f in job["files"]} == {"invoice", "letter"}
    detail = await client.call("GET", f"/api/deferred/detail/{session}")
    assert detail["status"] == "closed" and detail["job_id"] == job_id
    invoice = next(f for f in job["files"] if f["tag_name"] == "invoice")
    assert invoice["fields"]["total"] == {"value": "5474.48", "currency": "EUR"} and invoice["page_count"] == 3
    text = await client.call("GET", f"/v1/files/{invoice['id']}/text")
    assert text.count("\f") == 2 and "INV-2026-0042" in text
    result = await client.call("GET", f"/v1/files/{invoice['id']}/result")
    assert result["fields"]["invoice_number"] == "INV-2026-0042"
    jobs = await client.call("GET", "/api/job/all?pageSize=100")
    assert job_id in [j["id"] for j in jobs["result"]]


async def test_the_download_is_the_upload(client: Client) -> None:
    session = await session_with(client, "price-list-2026.xlsx")
    (entry,) = (await client.call("GET", f"/api/deferred/detail/{session}"))["files"]
    status, body, headers = await raw(client, "GET", f"/api/file/download/{entry['id']}")
    assert status == 200 and body == (SAMPLES / "price-list-2026.xlsx").read_bytes()
    assert headers["Content-Disposition"] == "attachment; filename=price-list-2026.xlsx"
    assert headers["Content-Type"] == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    detail = await client.call("GET", f"/api/file/detail/{entry['id']}")
    assert detail["file_size"] == len(body) and len(detail["md5_hash"]) == 32


async def test_an_unknown_session_is_the_documents_own_404(client: Client) -> None:
    expected = {"error": "Not Found", "message": f"Deferred Session with ID {UNKNOWN} does not exist."}
    assert (await raw(client, "GET", f"/api/deferred/detail/{UNKNOWN}"))[:2] == (404, expected)
    status, body, _ = await raw(client, "POST", "/api/job/create", json={"session_id": UNKNOWN})
    assert (status, body["message"]) == (404, expected["message"])
    status, body, _ = await raw(client, "POST", "/api/file/uploadfile", data=form(UNKNOWN, "x.txt", b"x"))
    assert (status, body["message"]) == (404, expected["message"])


@pytest.mark.parametrize(
    "path",
    [
        f"/api/job/detail/{UNKNOWN}",
        f"/api/file/detail/{UNKNOWN}",
        f"/api/file/download/{UNKNOWN}",
        f"/v1/jobs/{UNKNOWN}",
        f"/v1/files/{UNKNOWN}/text",
    ],
)
async def test_what_does_not_exist_is_404(client: Client, path: str) -> None:
    assert (await raw(client, "GET", path))[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/job/create", {}, "session_id"),
        ("/api/job/create", {"session_id": 5}, "session_id"),
        ("/api/job/create", {"session_id": "x", "priority": "urgent"}, "priority"),
        ("/api/job/create", [], "body"),
        ("/api/file/upload", {}, "url"),
        ("/api/file/upload", {"urls": ["ftp://example.com/x"]}, "urls"),
        ("/api/file/upload", {"urls": ["https://example.com/x"] * 101}, "urls"),
        ("/api/file/upload", {"urls": ["https://example.com/x"], "metadata": [{}, {}]}, "metadata"),
    ],
)
async def test_bad_input_names_the_field(client: Client, path: str, body: Any, field: str) -> None:
    status, answer, _ = await raw(client, "POST", path, json=body)
    assert status == 400 and answer["error"] == "Bad Request" and answer["message"].startswith(field), answer


async def test_bodies_that_are_not_json_or_too_large(client: Client) -> None:
    headers = {"content-type": "application/json"}
    assert (await raw(client, "POST", "/api/job/create", data=b"{nonsense", headers=headers))[0] == 400
    assert (await raw(client, "POST", "/api/job/create", data=io.BytesIO(b" " * 1_100_000 + b"{}"), headers=headers))[0] == 413


async def test_invalid_uploads(client: Client) -> None:
    session = await session_with(client)
    post = "/api/file/uploadfile"
    assert (await raw(client, "POST", post, json={}))[0] == 400
    session_alone = FormData()
    session_alone.add_field("session_id", session)
    assert (await raw(client, "POST", post, data=session_alone))[0] == 400
    no_session = FormData()
    no_session.add_field("file", b"x", filename="x.txt")
    status, body, _ = await raw(client, "POST", post, data=no_session)
    assert status == 400 and body["message"].startswith("session_id")
    status, body, _ = await raw(client, "POST", post, data=form(session, "x.txt", b"x", metadata="{nope"))
    assert status == 400 and body["message"].startswith("metadata")
    status, body, _ = await raw(client, "POST", post, data=form(session, "big.bin", io.BytesIO(b"x" * 2_000_001)))
    assert status == 413 and "2000000" in body["message"]
    broken = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nnever ends'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert (await raw(client, "POST", post, data=broken, headers=headers))[0] == 400
    assert (await client.call("GET", f"/api/deferred/detail/{session}"))["files"] == []


async def test_names_of_uploads_are_never_paths(client: Client) -> None:
    session = await session_with(client)
    await client.call("POST", "/api/file/uploadfile", form=lambda _: form(session, "../../etc/passwd", b"text"))
    (entry,) = (await client.call("GET", f"/api/deferred/detail/{session}"))["files"]
    assert entry["file_name"] == "passwd"


async def test_every_operation_requires_a_key(pipeline: Pipeline) -> None:
    async with aiohttp.ClientSession() as http:
        for headers in ({}, {"X-TagshelfAPI-Key": "sl_nonsense"}, {"Authorization": "Bearer "}, {"Authorization": "Basic abc"}):
            for method, path in (("POST", "/api/deferred/create"), ("GET", "/api/job/all"), ("GET", "/v1/search?q=x")):
                async with http.request(method, pipeline.state["url"] + path, headers=headers) as answer:
                    assert answer.status == 401, (path, headers)
            async with http.get(pipeline.state["notifier_url"] + "/events/stream", headers=headers) as answer:
                assert answer.status == 401


async def test_the_api_key_header_and_bearer_both_work(client: Client, pipeline: Pipeline) -> None:
    async with aiohttp.ClientSession() as http:
        for headers in ({"X-TagshelfAPI-Key": client.target.key}, {"Authorization": f"Bearer {client.target.key}"}):
            async with http.get(pipeline.state["url"] + "/api/job/all", headers=headers) as answer:
                assert answer.status == 200


async def test_tenants_are_isolated_and_roles_are_enforced(client: Client, pipeline: Pipeline) -> None:
    session = await session_with(client, "contract-nda.pdf")
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    file_id = (await ended(client, job_id))["files"][0]["id"]
    key = (await client.call("POST", "/v1/keys", json={"user_name": "eve", "tenant_id": "other", "role": "producer"}))["key"]
    reader = (await client.call("POST", "/v1/keys", json={"user_name": "rita", "role": "reader"}))["key"]
    async with Client(pipeline.target(key)) as other:
        for path in (
            f"/api/job/detail/{job_id}",
            f"/api/file/detail/{file_id}",
            f"/api/file/download/{file_id}",
            f"/v1/files/{file_id}/text",
            f"/api/deferred/detail/{session}",
        ):
            assert (await raw(other, "GET", path))[0] == 404, path
        assert (await raw(other, "POST", f"/api/job/cancel/{job_id}"))[0] == 404
        assert (await raw(other, "POST", "/api/job/create", json={"session_id": session}))[0] == 404
        assert (await other.call("GET", "/api/job/all"))["result"] == []
        assert (await other.call("GET", "/v1/search?q=agreement"))["result"] == []
        assert (await raw(other, "POST", "/v1/keys", json={"user_name": "x"}))[0] == 403
    async with Client(pipeline.target(reader)) as reading:
        assert (await raw(reading, "GET", f"/api/job/detail/{job_id}"))[0] == 200
        assert (await raw(reading, "POST", "/api/deferred/create"))[0] == 403


async def test_a_revoked_key_stops_working_at_both_http_apis(client: Client, pipeline: Pipeline) -> None:
    made = await client.call("POST", "/v1/keys", json={"user_name": "temp"})
    async with Client(pipeline.target(made["key"])) as temp:

        async def known() -> bool:
            async with temp.http.get(temp.target.notifier_url + "/v1/webhooks") as answer:
                return answer.status == 200

        await eventually(known, 5)
        assert (await raw(temp, "GET", "/api/job/all"))[0] == 200
        await client.call("DELETE", f"/v1/keys/{made['key_id']}")
        assert (await raw(temp, "GET", "/api/job/all"))[0] == 401

        async def unknown() -> bool:
            return not await known()

        await eventually(unknown, 5)


async def test_sixty_four_closings_make_one_job(client: Client) -> None:
    session = await session_with(client, "email-maintenance.eml")
    answers = await asyncio.gather(*(raw(client, "POST", "/api/job/create", json={"session_id": session}) for _ in range(64)))
    assert {status for status, _, _ in answers} == {200}
    (job_id,) = {body["job_id"] for _, body, _ in answers}
    assert (await ended(client, job_id))["stage"] == "completed"
    history = (await client.call("GET", f"/v1/jobs/{job_id}/history"))["result"]
    assert sum(e["event"]["event_name"] == "job_create_event" for e in history) == 1
    status, body, _ = await raw(client, "POST", "/api/job/create", json={"session_id": session, "metadata": "other"})
    assert status == 409 and job_id in body["message"]


async def test_a_late_file_is_refused(client: Client) -> None:
    session = await session_with(client, "email-maintenance.eml")
    await client.call("POST", "/api/job/create", json={"session_id": session})
    status, body, _ = await raw(client, "POST", "/api/file/uploadfile", data=form(session, "late.txt", b"late"))
    assert status == 409 and "is closed" in body["message"]


async def test_an_empty_session_makes_no_job(client: Client) -> None:
    session = await session_with(client)
    status, body, _ = await raw(client, "POST", "/api/job/create", json={"session_id": session})
    assert status == 400 and "has no files" in body["message"]


async def test_an_idempotency_key_makes_one_of_each(client: Client) -> None:
    headers = {"idempotency-key": "order-4471"}
    first, second = [(await raw(client, "POST", "/api/deferred/create", headers=headers))[1] for _ in range(2)]
    assert first == second
    body = {"urls": ["http://127.0.0.1:9/nothing"]}
    one, two = [(await raw(client, "POST", "/api/file/upload", json=body, headers=headers)) for _ in range(2)]
    assert one[1] == two[1] and one[0] == 200
    status, _, _ = await raw(client, "POST", "/api/file/upload", json={"urls": ["http://127.0.0.1:9/other"]}, headers=headers)
    assert status == 409


async def test_an_internal_address_is_refused_by_the_worker_with_a_reason(client: Client) -> None:
    job_id = (
        await client.call(
            "POST", "/api/file/upload", json={"urls": ["https://10.0.0.1/secret.pdf", "http://169.254.169.254/latest"]}
        )
    )["job_id"]
    job = await ended(client, job_id)
    assert job["stage"] == "invalid" and {f["code"] for f in job["files"]} == {"ssrf_refused"}


async def test_the_openapi_document_has_examples(client: Client) -> None:
    document = await client.call("GET", "/openapi/alfred.json")
    create = document["paths"]["/api/deferred/create"]["post"]
    assert create["responses"]["200"]["content"]["application/json"]["example"] == {
        "session_id": "0f767925-b464-4ffa-b621-1a0aeacac256"
    }
    assert "multipart/form-data" in document["paths"]["/api/file/uploadfile"]["post"]["requestBody"]["content"]
