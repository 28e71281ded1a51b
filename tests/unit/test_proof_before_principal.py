"""No operation acts for a caller that is not proven. The matrix is made of the route table, so that a new route is in it."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.ingest.http.authentication import MOST_UNPROVEN
from services.ingest.http.openapi import OPEN
from tests.gateway_app import BASE, Application, InProcess, gateway_app, operations

BODIES = {
    "no body": (None, None),
    "JSON": ("application/json", b"{}"),
    "broken JSON": ("application/json", b"{"),
    "no text": ("application/json", b"\xff{"),
    "multipart": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="session_id"\r\n\r\ns-1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nbytes of a stranger\r\n--x--\r\n',
    ),
    "form": ("application/x-www-form-urlencoded", b"session_id=s-1"),
}
FAULTS = ("wrong signature", "replayed nonce", "stale clock", "other path", "other body", "unknown application")
REASONS = dict(
    zip(FAULTS, ("amx_signature", "amx_nonce", "amx_clock", "amx_signature", "amx_signature", "amx_unknown_key"), strict=True)
)
USED = "n-used-already"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path) as made:
        yield made


def header(app: Application, fault: str, method: str, url: str, body: bytes | None) -> str:
    """The Authorization header of a request with this fault."""
    if fault == "wrong signature":
        return f"amx {app.app_id}:{'A' * 43}=:{uuid.uuid4()}:{int(time.time())}"
    if fault == "replayed nonce":
        return app.sign(method, url, body, nonce=USED)
    if fault == "stale clock":
        return app.sign(method, url, body, at=time.time() - 1000)
    if fault == "other path":
        return app.sign(method, f"{BASE}/api/tag/detail/x", body)
    if fault == "other body":
        return app.sign(method, url, (body or b"") + b"more")
    if fault == "unknown application":
        return Application("app_of_nobody", app.api_key).sign(method, url, body)
    return app.sign(method, url, body)


async def send(http: httpx.AsyncClient, app: Application, fault: str, operation: tuple[str, str], kind: str) -> httpx.Response:
    """One request, with the fault or without one."""
    method, pattern = operation
    path = re.sub(r"\{[^}]+\}", "f-1", pattern)
    content_type, body = BODIES[kind]
    headers = {"authorization": header(app, fault, method, BASE + path, body)} | (
        {"content-type": content_type} if content_type else {}
    )
    return await http.request(method, path, headers=headers, content=body)


async def test_every_operation_refuses_every_fault_of_a_signature(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.http.authentication.MOST_UNPROVEN", 1000)
    app = await gateway.application()
    listed = [o for o in operations("/api/") if o[1] not in OPEN]
    assert len(listed) > 25 and ("POST", "/api/file/uploadfile") in listed and ("GET", "/api/job/all") in listed
    async with gateway.http() as http:
        first = await http.get(
            "/api/tag/all", headers={"authorization": app.sign("GET", f"{BASE}/api/tag/all", None, nonce=USED)}
        )
        assert first.status_code == 200
        for operation in listed:
            for kind in BODIES:
                for fault in FAULTS:
                    answer = await send(http, app, fault, operation, kind)
                    assert answer.status_code == 401, (operation, kind, fault, answer.status_code, answer.text)
    assert gateway.publisher.published == [] and gateway.relay.sent == [], "nothing was published"
    assert gateway.objects() == [], "nothing was stored"
    codes = {row.body for row in await gateway.rows("SELECT body FROM audit")}
    assert all(any(f'"code": "{reason}"' in body for body in codes) for reason in REASONS.values()), "the audit names each reason"


async def test_the_matrix_is_refused_for_its_faults_alone(gateway: InProcess) -> None:
    app = await gateway.application(role="admin")
    async with gateway.http() as http:
        for operation in [o for o in operations("/api/") if o[1] not in OPEN]:
            for kind in BODIES:
                answer = await send(http, app, "none", operation, kind)
                assert answer.status_code not in (401, 403), (operation, kind, answer.text)
    stored = gateway.objects()
    assert len(stored) == 1 and stored[0].startswith("acme/"), "the proven upload is stored, as the tenant's"


async def test_signatures_and_strangers_have_no_other_way_in(gateway: InProcess) -> None:
    app = await gateway.application(role="admin")
    listed = [o for o in operations("/") if not o[1].startswith(("/api/", "/conversion/")) and o[0] != "OPTIONS"]
    others = [o for o in listed if o[1] not in OPEN]
    assert len(others) > 60
    strangers: list[dict[str, str]] = [
        {},
        {"x-api-key": "sl_" + "a" * 51},
        {"authorization": "Bearer x"},
        {"authorization": "Basic eDp4"},
    ]
    async with gateway.http() as http:
        for method, pattern in others:
            for kind in ("no body", "JSON", "broken JSON", "no text"):
                answer = await send(http, app, "none", (method, pattern), kind)
                assert answer.status_code == 401, (method, pattern, kind, answer.text)
            path = re.sub(r"\{[^}]+\}", "f-1", pattern)
            for headers in strangers:
                for body in (None, b"{", b"\xff{", b"[" * 20_000) if not headers else (None,):
                    content_type = {"content-type": "application/json"} if body else {}
                    answer = await http.request(method, path, headers=headers | content_type, content=body)
                    assert answer.status_code == 401, (method, pattern, headers, answer.text)
    assert gateway.publisher.published == [] and gateway.objects() == []


async def test_a_hint_names_the_fault_and_gives_nothing_away(gateway: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    app = await gateway.application()
    async with gateway.http() as http:
        await http.get("/api/tag/all", headers={"authorization": app.sign("GET", f"{BASE}/api/tag/all", None, nonce=USED)})
        with caplog.at_level(logging.WARNING):
            answers = {fault: await send(http, app, fault, ("GET", "/api/tag/all"), "no body") for fault in FAULTS}
    said = {fault: answer.json()["message"] for fault, answer in answers.items()}
    assert "server's time is" in said["stale clock"] and "nonce" in said["replayed nonce"]
    assert answers["unknown application"].content == answers["wrong signature"].content, "who guesses names learns nothing"
    assert app.api_key not in str(said)
    logged = [r for r in caplog.records if r.message == "request refused"]
    assert {r.__dict__["reason"] for r in logged} == set(REASONS.values()), "the operator's log has the reason"
    assert {r.__dict__["application"] for r in logged} == {app.app_id, "app_of_nobody"}


@pytest.mark.parametrize("cut", [b"--x--\r\n", b"\r\n--x--\r\n", b"file"])
async def test_a_broken_form_of_a_stranger_is_401_and_of_a_client_400(gateway: InProcess, cut: bytes) -> None:
    app = await gateway.application()
    content_type, body = BODIES["multipart"]
    assert body is not None and content_type is not None
    broken = body[: body.index(cut)]
    async with gateway.http() as http:
        for fault, status in (("wrong signature", 401), ("none", 400)):
            given = header(app, fault, "POST", f"{BASE}/api/file/uploadfile", broken)
            headers = {"authorization": given, "content-type": content_type}
            answer = await http.post("/api/file/uploadfile", headers=headers, content=broken)
            assert answer.status_code == status, answer.text
    assert gateway.objects() == [], "what a refused upload streamed is deleted"


async def test_a_stranger_neither_uses_up_a_tenants_rate_nor_learns_its_quotas(tmp_path: Path) -> None:
    async with gateway_app(tmp_path, requests_per_minute=5) as gateway:
        app, reader = await gateway.application(), await gateway.application(role="reader")
        async with gateway.http() as http:
            for _ in range(10):
                assert (
                    await send(http, app, "wrong signature", ("POST", "/api/file/uploadfile"), "multipart")
                ).status_code == 401
            assert (await send(http, reader, "wrong signature", ("POST", "/api/file/uploadfile"), "multipart")).status_code == 401
            assert (await send(http, reader, "none", ("POST", "/api/file/uploadfile"), "multipart")).status_code == 403
            assert (await send(http, app, "none", ("POST", "/api/file/uploadfile"), "multipart")).status_code == 200
        assert len(gateway.objects()) == 1


async def test_an_address_with_many_wrong_uploads_streams_no_more(gateway: InProcess) -> None:
    app, upload = await gateway.application(), ("POST", "/api/file/uploadfile")
    async with gateway.http("198.51.100.9") as http, gateway.http("198.51.100.10") as other:
        seen = [(await send(http, app, "wrong signature", upload, "multipart")).status_code for _ in range(MOST_UNPROVEN + 2)]
        assert seen[:MOST_UNPROVEN] == [401] * MOST_UNPROVEN and seen[-1] == 429
        assert (await send(other, app, "none", upload, "multipart")).status_code == 200, "another address is not affected"
