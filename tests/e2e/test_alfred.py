"""Alfred's clients run unchanged: every call, every way to authenticate, XML, webhook and real-time events."""

from __future__ import annotations

import asyncio
import io
import re
import time
import uuid
from typing import Any
from xml.etree import ElementTree

import aiohttp
import pikepdf
import pytest
import requests

from cli.client import Client
from contracts.alfred_view import company_id, tag_id
from services.ingest.core.signin_delay import FREE_FAILURES
from services.ingest.http.openapi import OPEN
from shared import clock
from tests.conftest import SAMPLES
from tests.e2e.alfred_client import Alfred
from tests.e2e.test_gateway import ended, raw

pytestmark = pytest.mark.kafka
INVOICE, LETTER = SAMPLES / "invoice-acme-2026-0042.pdf", SAMPLES / "letter-offer.docx"
COMPANY = company_id("default")


async def credentials(client: Client, kind: str) -> dict[str, Any]:
    if kind == "key":
        return {"api_key": client.target.key}
    if kind == "password":
        name = f"user-{clock.new_root()}"
        await client.call("PUT", f"/v1/users/{name}", json={"password": "correct horse battery", "role": "producer"})
        return {"username": name, "password": "correct horse battery"}
    issued = await client.call("POST", "/v1/applications", json={"user_name": "sdk"})
    return {"secret_key": issued["secret_key"], "api_key": issued["api_key"], "query": kind == "signed-with-query"}


@pytest.mark.parametrize("kind", ["key", "password", "signed", "signed-with-query"])
async def test_a_whole_session_in_the_vendors_way(client: Client, kind: str) -> None:
    given = await credentials(client, kind)
    alfred = await asyncio.to_thread(lambda: Alfred(client.target.url, **given))
    job_id = await asyncio.to_thread(alfred.process, INVOICE, LETTER, metadata={"case": "42"}, priority="high")
    await ended(client, job_id)
    job = await asyncio.to_thread(alfred.call, "GET", f"job/detail/{job_id}")
    assert job["stage"] == "completed" and job["file_count"] == job["finished_files"] == 2 and job["metadata"] == {"case": "42"}
    listed = await asyncio.to_thread(alfred.call, "GET", "job/all", params={"currentPage": 1, "pageSize": 40})
    assert job_id in [j["id"] for j in listed["result"]]
    invoice = next(f["id"] for f in job["files"] if f["tag_name"] == "invoice")
    detail = await asyncio.to_thread(alfred.call, "GET", f"file/detail/{invoice}")
    assert detail["metadata"] == {"source": "test"} and detail["file_size"] == INVOICE.stat().st_size
    values = {v["metadata_name"]: v for v in await asyncio.to_thread(alfred.call, "GET", f"values/file/{invoice}")}
    assert values["total"]["value"] == "5474.48" and values["invoice_number"]["file_log_id"] == invoice
    assert job["file_urls"] == [f"{client.target.url}/api/file/download/{f['id']}" for f in job["files"]]
    assert detail["tag_id"] == tag_id("default", "invoice") and job["company_id"] == detail["company_id"] == COMPANY
    known = {d["id"] for d in await asyncio.to_thread(alfred.call, "GET", "metadata/all")}
    assert {v["metadata_id"] for v in values.values()} <= known
    of_tag = await asyncio.to_thread(alfred.call, "GET", f"values/tag/{detail['tag_id']}")
    assert invoice in {v["file_log_id"] for v in of_tag}
    report = await asyncio.to_thread(alfred.call, "GET", "report/tag/invoice")
    row = next(r for r in report if r["file_id"] == invoice)
    assert row["invoice_number"] == "INV-2026-0042" and all(isinstance(v, str) for v in row.values())
    versions = await asyncio.to_thread(alfred.call, "GET", f"file/versions/{invoice}")
    assert [v["kind"] for v in versions] == ["original", "text", "result"]
    events = await asyncio.to_thread(alfred.call, "GET", f"file/events/{invoice}")
    names = [e["event"]["event_name"] for e in events]
    assert names[0] == "file_add_to_job_event" and names[-1] == "file_done_event"
    assert invoice in [f["id"] for f in (await asyncio.to_thread(alfred.call, "GET", "file/all"))["result"]]
    me = await asyncio.to_thread(alfred.call, "GET", "tagshelf/who-am-i")
    kinds = {"key": "api_key", "password": "bearer", "signed": "amx", "signed-with-query": "amx"}
    assert me["authentication_type"] == kinds[kind] and me["company_id"] == COMPANY


async def test_signed_requests_count_once(client: Client) -> None:
    given = await credentials(client, "signed")
    alfred = Alfred(client.target.url, **given)
    request = alfred.http.prepare_request(requests.Request("GET", f"{client.target.url}/api/tag/all"))
    assert (await asyncio.to_thread(alfred.http.send, request, timeout=30)).status_code == 200
    again = await asyncio.to_thread(alfred.http.send, request, timeout=30)
    assert again.status_code == 401 and again.json()["message"]
    elsewhere = alfred.http.prepare_request(requests.Request("GET", f"{client.target.url}/v1/jobs"))
    assert (await asyncio.to_thread(alfred.http.send, elsewhere, timeout=30)).status_code == 401, (
        "signatures are valid in Alfred's dialect alone"
    )
    assert (await raw(client, "DELETE", f"/v1/applications/{given['secret_key']}"))[0] == 204
    unseen = alfred.http.prepare_request(requests.Request("GET", f"{client.target.url}/api/tag/all"))
    assert (await asyncio.to_thread(alfred.http.send, unseen, timeout=30)).status_code == 401


async def test_a_signed_form_is_checked_against_its_bytes(client: Client) -> None:
    given = await credentials(client, "signed")
    alfred = Alfred(client.target.url, **given)
    session = (await client.call("POST", "/api/deferred/create"))["session_id"]
    url = f"{client.target.url}/api/file/uploadfile"
    form = requests.Request("POST", url, files={"file": ("a.txt", b"hello")}, data={"session_id": session})
    request = alfred.http.prepare_request(form)
    assert isinstance(request.body, bytes)
    request.body = request.body.replace(b"hello", b"jello")
    answer = await asyncio.to_thread(alfred.http.send, request, timeout=30)
    assert answer.status_code == 401 and "signature" in answer.json()["message"]
    assert (await client.call("GET", f"/api/deferred/detail/{session}"))["files"] == []


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "multipart/mixed", "application/json", ""])
async def test_no_operation_takes_a_signature_on_trust(client: Client, content_type: str) -> None:
    """A form's media type must not bypass the signature check of any operation."""
    app = (await credentials(client, "signed"))["secret_key"]
    async with client.http.get(f"{client.target.url}/openapi/alfred.json") as answer:
        paths = (await answer.json())["paths"]
    operations = [(method, path) for path in paths if path.startswith("/api/") for method in paths[path] if path not in OPEN]
    assert len(operations) > 20 and ("get", "/api/job/all") in operations
    headers = {"content-type": content_type} if content_type else {}
    for method, path in operations:
        forged = {"authorization": f"amx {app}:{'A' * 43}=:{uuid.uuid4()}:{int(time.time())}", **headers}
        body = {"": None, "application/json": b"{}"}.get(content_type, b"--x--")
        url = client.target.url + re.sub(r"\{[^}]+\}", str(uuid.uuid4()), path)
        async with client.http.request(method, url, headers=forged, data=body) as answer:
            assert answer.status == 401, (method, path, answer.status, await answer.text())


async def test_wrong_passwords(client: Client) -> None:
    given = await credentials(client, "password")
    token = f"{client.target.url}/token"

    async def sign_in(**fields: str) -> tuple[int, Any]:
        async with client.http.post(token, data=fields, headers={"authorization": ""}) as answer:
            return answer.status, await answer.json()

    right = {"grant_type": "password", **given}
    assert (await sign_in(**right))[0] == 200
    for wrong, code in (
        ({**right, "password": "x"}, "invalid_grant"), ({**right, "username": "nobody-at-all"}, "invalid_grant"),
        ({**right, "grant_type": "client_credentials"}, "unsupported_grant_type"), ({"grant_type": "password"}, "invalid_request"),
    ):  # fmt: skip
        status, body = await sign_in(**wrong)
        assert status == 400 and body["error"] == code and body["error_description"]
    seen = [(await sign_in(**{**right, "password": "x"}))[0] for _ in range(FREE_FAILURES + 3)]
    assert 400 in seen and 429 in seen, "further tries of this address at this name have to wait"
    audit = (await client.call("GET", "/v1/audit?limit=500"))["result"]
    tried = [(a["ok"], a["code"]) for a in audit if a["verb"] == "sign_in" and a["subject"] == given["username"]]
    assert (True, None) in tried and (False, "invalid_grant") in tried


async def test_a_changed_password_ends_the_tokens(client: Client) -> None:
    given = await credentials(client, "password")
    alfred = await asyncio.to_thread(lambda: Alfred(client.target.url, **given))
    assert await asyncio.to_thread(alfred.call, "GET", "tag/all")
    await client.call("PUT", f"/v1/users/{given['username']}", json={"password": "another long one", "role": "producer"})
    with pytest.raises(requests.HTTPError, match="401"):
        await asyncio.to_thread(alfred.call, "GET", "tag/all")
    assert (await raw(client, "DELETE", f"/v1/users/{given['username']}"))[0] == 204
    assert (await raw(client, "DELETE", f"/v1/users/{given['username']}"))[0] == 404


async def test_remote_sources(client: Client) -> None:
    body: dict[str, Any] = {"source": "local", "container": "samples", "filenames": [INVOICE.name, LETTER.name]}
    made = await client.call("POST", "/api/file/upload", json={**body, "metadata": [{"n": 1}, {"n": 2}]})
    job = await ended(client, made["job_id"])
    assert job["stage"] == "completed" and [f["metadata"] for f in job["files"]] == [{"n": 1}, {"n": 2}]
    session = (await client.call("POST", "/api/deferred/create"))["session_id"]
    closing = {"session_id": session, "container": "samples", "file_name": LETTER.name}
    job_id = (await client.call("POST", "/api/job/create", json=closing))["job_id"]
    assert (await client.call("POST", "/api/job/create", json=closing))["job_id"] == job_id, "a repeat is the same job"
    assert [f["file_name"] for f in (await ended(client, job_id))["files"]] == [LETTER.name]
    for wrong, field in (
        ({"container": "none"}, "container"), ({"container": "closed"}, "container"), ({"file_names": ["../secret"]}, "file_names"),
        ({"source": "aws"}, "source"), ({"url": "https://example.com/a.pdf"}, "url"), ({"filenames": []}, "file_names"),
    ):  # fmt: skip
        sent = {**body, **wrong}
        sent.pop("filenames") if "file_names" in wrong else None
        status, answer, _ = await raw(client, "POST", "/api/file/upload", json=sent)
        assert (status, answer.get("field")) == (400, field), (wrong, answer)
    lost = await client.call("POST", "/api/file/upload", json={"container": "samples", "file_names": "no-such.pdf"})
    job = await ended(client, lost["job_id"])
    assert job["files"][0]["code"] == "source_refused"


async def test_tags_and_metadata_are_edited_here_and_read_there(client: Client) -> None:
    await client.call("PUT", "/v1/tags/purchase-order", json={"description": "What we order"})
    await client.call("PUT", "/v1/metadata/order_number", json={"data_type": "text", "tag": "purchase-order"})
    tags = {t["name"]: t for t in await client.call("GET", "/api/tag/all")}
    assert tags["purchase-order"]["id"] == tag_id("default", "purchase-order")
    assert tags["purchase-order"]["description"] == "What we order" and "invoice" in tags
    detail = await client.call("GET", "/api/tag/detail/purchase-order")
    assert [d["name"] for d in detail["metadata"]] == ["order_number"]
    assert (await client.call("GET", "/api/metadata/detail/order_number"))["tag_id"] == tags["purchase-order"]["id"]
    assert "order_number" in [d["name"] for d in await client.call("GET", "/api/metadata/all")]
    assert await client.call("GET", "/api/values/tag/purchase-order") == []
    for path in ("/v1/tags/purchase-order", "/v1/metadata/order_number"):
        assert (await raw(client, "DELETE", path))[0] == 204 and (await raw(client, "DELETE", path))[0] == 404
    for path in (
        "tag/detail/x",
        "metadata/detail/x",
        "values/tag/x",
        "report/tag/x",
        "values/file/x",
        "account/tags/x",
    ):
        status, body, _ = await raw(client, "GET", f"/api/{path}")
        assert status == 404 and body["error"] == "Not Found" and body["message"]


async def test_the_account(client: Client) -> None:
    assert await client.call("GET", "/api/account/companies") == [{"id": COMPANY, "name": "Default"}]
    for company in ("default", COMPANY):
        assert "invoice" in [t["name"] for t in await client.call("GET", f"/api/account/tags/{company}")]
    status, body, _ = await raw(client, "GET", "/api/account/companies", skip_auto_headers=["User-Agent"])
    assert status == 400 and body["field"] == "User-Agent"
    assert (await client.call("GET", "/api/tagshelf/status"))["db_status"] == "ok"
    assert "pong" in await client.call("GET", "/api/tagshelf/ping")
    await client.call("PUT", "/v1/tenants/default", json={"name": "Default", "inbox": "scans@example.com"})
    found = await client.call("GET", "/api/company/inbox?inbox=Scans@example.com")
    assert found["company_id"] == COMPANY
    assert (await raw(client, "GET", "/api/company/inbox?inbox=other@example.com"))[0] == 404


async def test_answers_in_xml(client: Client) -> None:
    status, body, headers = await raw(client, "GET", "/api/tag/all", headers={"accept": "application/xml"})
    root = ElementTree.fromstring(body)
    assert (
        status == 200
        and headers["Content-Type"].startswith("application/xml")
        and "invoice" in [i.findtext("name") for i in root]
    )
    status, body, headers = await raw(client, "GET", "/api/job/detail/nope", headers={"accept": "text/xml"})
    assert status == 404 and ElementTree.fromstring(body).findtext("error") == "Not Found" and "Accept" in headers["Vary"].title()
    assert headers["X-RateLimit-Limit"].isdigit() and int(headers["X-RateLimit-Remaining"]) < int(headers["X-RateLimit-Limit"])


async def test_links_that_are_shared(client: Client) -> None:
    alfred = Alfred(client.target.url, api_key=client.target.key)
    job_id = await asyncio.to_thread(alfred.process, LETTER)
    file_id = (await ended(client, job_id))["files"][0]["id"]
    shared = await client.call("POST", f"/api/file/share/{file_id}?seconds=60")
    async with aiohttp.ClientSession() as stranger:
        async with stranger.get(shared["url"]) as answer:
            assert answer.status == 200 and await answer.read() == LETTER.read_bytes()
        async with stranger.get(shared["url"][:-1] + ("A" if shared["url"][-1] != "A" else "B")) as answer:
            assert answer.status == 404
        async with stranger.get(f"{client.target.url}/api/file/download/{file_id}") as answer:
            assert answer.status == 401
        assert shared["id"] in [s["id"] for s in (await client.call("GET", "/v1/shares"))["result"]]
        assert (await raw(client, "DELETE", f"/v1/shares/{shared['id']}"))[0] == 204
        async with stranger.get(shared["url"]) as answer:
            assert answer.status == 404


@pytest.mark.parametrize("how", ["merge", "decompose"])
async def test_files_become_one_and_one_becomes_many(client: Client, how: str) -> None:
    alfred = Alfred(client.target.url, api_key=client.target.key)
    files = [SAMPLES / "scan-receipt.png", INVOICE] if how == "merge" else [INVOICE]
    job_id = await asyncio.to_thread(alfred.process, *files, **{how: True, "page_rotation": 90})
    job = await ended(client, job_id)
    assert job["stage"] == "completed", job["error_messages"]
    [child] = (await client.call("GET", f"/v1/jobs?parent_job_id={job_id}"))["result"]
    made = await ended(client, child["id"])
    names, counts = [f["file_name"] for f in made["files"]], [f["page_count"] for f in made["files"]]
    if how == "merge":
        assert (names, counts) == (["merged.pdf"], [4]), "a receipt of one page and an invoice of three"
    else:
        assert (names, counts) == ([f"{INVOICE.stem}-{n}.pdf" for n in (1, 2, 3)], [1, 1, 1])
        with pikepdf.open(io.BytesIO((await raw(client, "GET", f"/api/file/download/{made['files'][0]['id']}"))[1])) as page:
            assert page.pages[0].get("/Rotate") == 90
