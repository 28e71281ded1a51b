"""The audit covers refusals, shared links and downloads by people, and strangers cannot make it grow without bounds."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.ingest.adapters.store import audit
from services.ingest.adapters.store.audit import Entry
from services.ingest.adapters.store.audit_trail import OTHERS, AuditTrail, Bounds
from services.ingest.adapters.store.audit_verification import ChainVerifier
from services.ingest.dialects.routes import ROUTERS
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.openapi import BYTES, OPEN
from shared import clock
from shared.web.key_format import key_hash
from tests.gateway_app import InProcess, gateway_app, operations

RECORD = {"company_id": "acme", "file_name": "a.txt", "job_id": None}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path) as made:
        yield made


async def lines(gateway: InProcess, tenant: str | None = None) -> list[dict[str, Any]]:
    query = "SELECT body FROM audit WHERE :t IS NULL OR tenant_id = :t ORDER BY id"
    return [json.loads(row.body) for row in await gateway.rows(query, t=tenant)]


async def stored_file(gateway: InProcess, file_id: str = "f-1") -> None:
    blob = (await gateway.gateway.objects.of("acme").put_object(b"hello")).name
    body = json.dumps({**RECORD, "id": file_id, "blob_name": blob})
    row = "INSERT INTO file_view (id, tenant_id, created_at, body) VALUES (?, 'acme', 1.0, ?)"
    await gateway.store.transact(lambda c: c.exec_driver_sql(row, (file_id, body)) and None)


async def test_equal_lines_of_a_minute_are_two_rows_with_a_count(gateway: InProcess) -> None:
    async with gateway.http() as http:
        for _ in range(50):
            assert (await http.get("/api/job/all")).status_code == 401
    assert len(await lines(gateway)) == 1
    await gateway.gateway.audit_trail.close()
    found = await lines(gateway, "default")
    assert [a.get("count", 1) for a in found] == [1, 49]
    assert {(a["verb"], a["subject"], a["code"], a["ok"]) for a in found} == {
        ("refused", "203.0.113.7", "no_valid_credential", False)
    }


async def test_a_missing_right_is_in_the_tenants_audit(gateway: InProcess) -> None:
    reader = await gateway.key("reader")
    async with gateway.http(**{"x-api-key": reader}) as http:
        assert (await http.post("/api/deferred/create")).status_code == 403
        assert (await http.get("/v1/audit/verification")).status_code == 403
    assert [(a["subject"], a["by"], a["code"]) for a in await lines(gateway, "acme")] == [
        ("POST /api/deferred/create", "robot", "forbidden"), ("GET /v1/audit/verification", "robot", "forbidden"),
    ]  # fmt: skip


async def test_strangers_from_many_addresses_fill_no_disk(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    trail, at, bounds = AuditTrail(gateway.store), 1_000_000.0 * 86_400, Bounds("b", 3, 10)
    for minute in range(10):
        for address in range(200):
            await trail.note(
                Entry("t", at + 60 * minute, "refused", f"a{minute}-{address}", ok=False, address=f"a{address}"), bounds
            )
    await trail.flush(at + 600)
    found = await lines(gateway, "t")
    assert len([a for a in found if a["subject"] != OTHERS]) == 10, "as many different ones as a day may have"
    assert len([a for a in found if a["subject"] == OTHERS]) == 10, "one line a minute for all others"
    assert sum(a.get("count", 1) for a in found) == 2000, "all are counted"
    await trail.note(Entry("t", at + 86_400, "refused", "tomorrow", ok=False), bounds)
    assert (await lines(gateway, "t"))[-1]["subject"] == "tomorrow"


async def test_downloads_by_people_and_not_by_programs(gateway: InProcess) -> None:
    await stored_file(gateway)
    await gateway.user("ann", "correct horse battery")
    person, program = await gateway.key(user="ann"), await gateway.key(user="robot")
    async with gateway.http() as http:
        for key in (program, person, person):
            assert (await http.get("/api/file/download/f-1", headers={"x-api-key": key})).content == b"hello"
        head = await http.head("/api/file/download/f-1", headers={"x-api-key": person})
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b""), "a look is no download"
        assert (await http.get("/api/file/download/f-2", headers={"x-api-key": person})).status_code == 404
    await gateway.gateway.audit_trail.close()
    assert [(a["verb"], a["subject"], a["by"], a.get("count", 1)) for a in await lines(gateway)] == [
        ("download", "/api/file/download/f-1", "ann", 1), ("download", "/api/file/download/f-1", "ann", 1),
    ]  # fmt: skip


def test_every_route_with_content_of_documents_is_marked() -> None:
    parts = (*BYTES, "/text", "/result", "results.zip", "http.input")
    contents = {r.path for router in ROUTERS for r in router.routes if DOWNLOAD in getattr(r, "dependencies", ())}
    candidates = {path for method, path in operations("/") if any(part in path for part in parts) and method in ("GET", "POST")}
    # What answers with references, takes bytes in, or sends them to an address of the job's owner.
    other = {
        p for p in candidates if p.endswith(("/result", ":put", ":post", ":{method:segment}")) and p.startswith("/conversion/")
    }
    assert candidates - contents == other, "a new route with documents needs `dependencies=[DOWNLOAD]`"


async def test_links_are_made_listed_revoked_and_audited(gateway: InProcess) -> None:
    await stored_file(gateway)
    keys = {role: await gateway.key(role, user=role) for role in ("reader", "producer", "operator")}
    sharer = await gateway.key("reader", user="sharer", rights=("share",))
    stranger = await gateway.key("admin", tenant="other")
    async with gateway.http() as http:
        assert (await http.get("/api/file/share/f-1", headers={"x-api-key": keys["operator"]})).status_code == 405
        for role, status in (("reader", 403), ("producer", 403), ("operator", 200)):
            answer = await http.post("/api/file/share/f-1", headers={"x-api-key": keys[role]})
            assert answer.status_code == status, role
        made = (await http.post("/api/file/share/f-1?seconds=60", headers={"x-api-key": sharer})).json()
        assert (await http.post("/api/file/share/f-1", headers={"x-api-key": stranger})).status_code == 404
        assert (await http.get(made["url"])).content == b"hello"
        listed = (await http.get("/v1/shares", headers={"x-api-key": sharer})).json()["result"]
        assert {(s["file_id"], s["created_by"]) for s in listed} == {("f-1", "operator"), ("f-1", "sharer")}
        assert made["url"].rpartition("/")[2] not in str(listed), "the link itself is shown once"
        assert (await http.get("/v1/shares", headers={"x-api-key": stranger})).json()["result"] == []
        assert (await http.delete(f"/v1/shares/{made['id']}", headers={"x-api-key": stranger})).status_code == 404
        assert (await http.delete(f"/v1/shares/{made['id']}", headers={"x-api-key": sharer})).status_code == 204
        assert (await http.get(made["url"])).status_code == 404
    found = [(a["verb"], a["subject"], a["by"]) for a in await lines(gateway, "acme") if a["verb"].startswith("share")]
    assert found == [
        ("share.create", "f-1", "operator"), ("share.create", "f-1", "sharer"), ("share.download", "f-1", ""), ("share.revoke", "f-1", "sharer"),
    ]  # fmt: skip


async def test_links_end_with_the_credential_that_made_them(gateway: InProcess) -> None:
    await stored_file(gateway)
    admin = await gateway.key("admin", user="root")
    await gateway.user("ann", "correct horse battery", role="operator")
    app = await gateway.application(role="operator")
    async with gateway.http() as http:
        boss = {"x-api-key": admin}
        key = (await http.post("/v1/keys", headers=boss, json={"user_name": "ann", "role": "reader", "rights": ["share"]})).json()
        assert key["rights"] == ["share"]
        other = (await http.post("/v1/keys", headers=boss, json={"user_name": "bob", "role": "operator"})).json()
        path = "/api/file/share/f-1"
        by_key = (await http.post(path, headers={"x-api-key": key["key"]})).json()["url"]
        by_other = (await http.post(path, headers={"x-api-key": other["key"]})).json()["url"]
        signed = {"authorization": app.sign("POST", f"http://gateway.test{path}", None)}
        by_app = (await http.post(path, headers=signed)).json()["url"]
        assert [(await http.get(url)).status_code for url in (by_key, by_other, by_app)] == [200, 200, 200]
        assert (await http.delete(f"/v1/applications/{app.app_id}", headers=boss)).status_code == 204
        assert (await http.delete(f"/v1/keys/{other['key_id']}", headers=boss)).status_code == 204
        assert (await http.delete("/v1/users/ann", headers=boss)).status_code == 204
        assert [(await http.get(url)).status_code for url in (by_key, by_other, by_app)] == [404, 404, 404]
        assert (await http.get("/api/job/all", headers={"x-api-key": key["key"]})).status_code == 401, (
            "keys of a deleted user end"
        )
        assert (await http.get("/v1/shares", headers=boss)).json()["result"] == []
    revoked = [m for m in gateway.relay.sent if b"ce_type" in dict((k.encode(), v) for k, v in m.headers)]
    assert len([m for m in revoked if b"key_revoked" in dict(m.headers)["ce_type"]]) == 2, "the other services learn of each key"


async def test_the_watch_knows_keys_applications_and_links(gateway: InProcess) -> None:
    await stored_file(gateway)
    key, app = await gateway.key("operator"), await gateway.application()
    async with gateway.http() as http:
        made = (await http.post("/api/file/share/f-1", headers={"x-api-key": key})).json()
        ended: list[str] = []
        names = {"key": key_hash(key), "amx": app.app_id, "share": made["id"]}
        for kind, name in names.items():
            gateway.gateway.watch.hold(f"{kind}:{name}", partial(ended.append, kind))
            gateway.gateway.watch.hold(f"{kind}:unknown", partial(ended.append, f"unknown {kind}"))
        await gateway.gateway.watch.check()
        assert sorted(ended) == ["unknown amx", "unknown key", "unknown share"]
        ended.clear()
        await http.delete(f"/v1/shares/{made['id']}", headers={"x-api-key": key})
        await gateway.store.transact(lambda c: c.exec_driver_sql("UPDATE access_key SET revoked = 1") and None)
        await gateway.store.transact(lambda c: c.exec_driver_sql("UPDATE amx_app SET revoked = 1") and None)
        await gateway.gateway.watch.check()
        assert {"key", "amx", "share"} <= set(ended)


async def test_every_route_with_a_caller_is_held_to_its_credential(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route that lets a caller in registers the credential, so that whatever it has open ends with it."""
    held: list[str] = []
    hold = gateway.gateway.watch.hold
    monkeypatch.setattr(
        gateway.gateway.watch, "hold", lambda credential, end: (held.append(credential), hold(credential, end))[1]
    )
    key = await gateway.key("admin", tenant="default")
    async with gateway.http(**{"x-api-key": key}) as http:
        for method, pattern in operations("/"):
            if pattern in OPEN or method == "OPTIONS":
                continue
            held.clear()
            await http.request(method, re.sub(r"\{[^}]+\}", "f-1", pattern))
            assert held == [f"key:{key_hash(key)}"], (method, pattern)


async def test_the_api_verifies_the_chain(gateway: InProcess) -> None:
    root = {"x-api-key": await gateway.key("operator", tenant="default")}
    async with gateway.http() as http:
        for _ in range(3):
            await http.get("/api/job/all", headers={"x-api-key": "wrong"})
        await gateway.gateway.audit_trail.close()
        found = (await http.get("/v1/audit/verification", headers=root)).json()
        assert found["broken"] is None and found["rows"] == 2 and found["head"].startswith("2:")
        again = await http.get(f"/v1/audit/verification?head={found['head']}", headers=root)
        assert again.json()["broken"] is None
        await gateway.store.transact(lambda c: c.exec_driver_sql("UPDATE audit SET body = '{}' WHERE seq = 2") and None)
        broken = (await http.get("/v1/audit/verification", headers=root)).json()["broken"]
        assert broken["seq"] == 2 and "hash" in broken["reason"]
        assert (await http.get("/v1/audit/verification?head=x", headers=root)).status_code == 400


async def test_old_lines_are_pruned_and_the_chain_stays_whole(gateway: InProcess) -> None:
    now, day = clock.unix(), 86_400.0
    old = [Entry("t", now - days * day, "key.issue", "k") for days in (500, 450, 401, 399, 1)]
    await gateway.store.transact(lambda c: audit.add_entries(c, old))
    await gateway.gateway.audit_trail.tidy()
    found = await ChainVerifier(gateway.store).verify()
    assert (found.fault, found.rows, found.first_seq) == (None, 2, 4)
