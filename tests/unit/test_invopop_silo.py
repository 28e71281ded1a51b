"""Invopop's silo: entries, their files and states, as the vendor documents them."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from tests.gateway_app import BASE, InProcess, gateway_app
from tests.unit.invopop_caller import ENVELOPE, Caller, new_caller


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("invopop"), public_url=BASE) as made:
        yield made


@pytest.fixture
async def invopop(app: InProcess) -> AsyncIterator[Caller]:
    async with new_caller(app) as made:
        yield made


async def test_an_entry_says_the_schemas_of_its_payload(invopop: Caller) -> None:
    entry = await invopop.entry(data=ENVELOPE)
    assert (entry["env_schema"], entry["doc_schema"]) == (ENVELOPE["$schema"], ENVELOPE["doc"]["$schema"])
    assert entry["digest"] == ENVELOPE["head"]["dig"] and entry["tags"] == ["may"] and entry["signed"] is False
    assert isinstance(entry["version"], str) and [v["version"] for v in entry["versions"]] == [entry["version"]]
    kept = await invopop.call("GET", f"/silo/v1/entries/{entry['id']}/versions/{entry['version']}")
    assert kept == {"version": entry["version"], "data": ENVELOPE}
    await invopop.call("GET", f"/silo/v1/entries/{entry['id']}/versions/1", status=404)
    bare = await invopop.entry(data=ENVELOPE["doc"])
    assert bare["doc_schema"] == ENVELOPE["doc"]["$schema"] and "env_schema" not in bare
    empty = await invopop.entry()
    assert (
        empty["state"] == "Empty" and empty["versions"] == [] and not {"data", "digest", "version", "key", "folder"} & set(empty)
    )
    assert None not in empty.values(), "the vendor's fields are text, not null"


async def test_an_entry_is_changed(invopop: Caller) -> None:
    entry = await invopop.entry(data={"a": 1, "b": {"c": 2}}, folder="drafts", key=f"k{uuid.uuid4()}")
    path = f"/silo/v1/entries/{entry['id']}"
    moved = await invopop.call("PATCH", path, {"folder": "sales", "data": None})
    assert (moved["folder"], moved["data"], moved["key"]) == ("sales", entry["data"], entry["key"]) and moved["version"] == entry[
        "version"
    ]
    merged = await invopop.call(
        "PATCH", path, {"content_type": "application/merge-patch+json", "data": {"b": {"c": None}, "d": 3}}
    )
    assert merged["data"] == {"a": 1, "b": {}, "d": 3} and merged["version"] != entry["version"] and merged["folder"] == "sales"
    operations = [{"op": "test", "path": "/d", "value": 3}, {"op": "move", "from": "/d", "path": "/b/d"}]
    patched = await invopop.call("PATCH", path, {"content_type": "application/json-patch+json", "data": operations})
    assert patched["data"] == {"a": 1, "b": {"d": 3}}
    whole = await invopop.call("PATCH", path, {"data": ENVELOPE, "allow_invalid": True})
    assert (
        whole["data"] == ENVELOPE
        and whole["doc_schema"] == ENVELOPE["doc"]["$schema"]
        and whole["digest"] == ENVELOPE["head"]["dig"]
    )
    assert whole["created_at"] == entry["created_at"]
    for body, field in (
        ({"data": [1]}, "data"), ({"content_type": "application/json-patch+json", "data": operations}, "data"), ({"data": {}, "content_type": "text/plain"}, "content_type"),
        ({"content_type": "application/merge-patch+json", "data": 7}, "data"), ({"sign": True}, "sign"), ({"folder": 1}, "folder"),
    ):  # fmt: skip
        assert field in await invopop.faults("PATCH", path, body), body
    assert (await invopop.call("GET", path))["data"] == ENVELOPE, "what is refused changes nothing"
    await invopop.call("PATCH", path, {"data": {**ENVELOPE, "sigs": ["x"]}})
    assert "signed" in (await invopop.faults("PATCH", path, {"data": {}}))["data"]
    await invopop.call("PATCH", path, {"folder": "sent"})
    await invopop.call("PATCH", f"/silo/v1/entries/{uuid.uuid4()}", {"folder": "x"}, 404)
    empty = await invopop.entry()
    filled = await invopop.call("PATCH", f"/silo/v1/entries/{empty['id']}", {"data": {"a": 1}})
    states = (await invopop.call("GET", f"/silo/v1/entries/{empty['id']}/states"))["list"]
    assert filled["state"] == "Draft" and [s["key"] for s in states] == ["Empty", "Draft"]


async def test_an_entry_is_made_from_a_previous_one(invopop: Caller) -> None:
    first = await invopop.entry(data={"a": 1}, key=f"k{uuid.uuid4()}")
    assert (await invopop.entry(previous_id=first["id"]))["data"] == {"a": 1}
    changed = await invopop.entry(previous_id=first["id"], content_type="application/merge-patch+json", data={"b": 2})
    assert changed["data"] == {"a": 1, "b": 2}
    assert set(await invopop.faults("POST", "/silo/v1/entries", {"previous_id": str(uuid.uuid4())})) == {"previous_id"}
    assert set(await invopop.faults("POST", "/silo/v1/entries", {"previous_id": first["id"], "correct": {"credit": True}})) == {
        "correct"
    }


async def test_entries_are_listed_by_page_time_and_folder(invopop: Caller) -> None:
    made = [await invopop.entry(data={"n": n}, folder="sales" if n % 2 else None) for n in range(5)]
    newest = [e["id"] for e in reversed(made)]
    found: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await invopop.call("GET", "/silo/v1/entries", limit=2, **cursor)
        found += [e["id"] for e in page["list"]]
        assert page["limit"] == 2 and page.get("cursor") == cursor.get("cursor") and all("data" not in e for e in page["list"])
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == newest
    oldest = await invopop.call("GET", "/silo/v1/entries", ascending="true", limit=4)
    assert [e["id"] for e in oldest["list"]] == newest[:0:-1]
    sold = await invopop.call("GET", "/silo/v1/entries", folder="sales", limit=1)
    assert [e["id"] for e in sold["list"]] == [made[3]["id"]] and sold["folder"] == "sales"
    more = await invopop.call("GET", "/silo/v1/entries", folder="sales", cursor=sold["next_cursor"])
    assert [e["id"] for e in more["list"]] == [made[1]["id"]] and "next_cursor" not in more
    at = made[2]["created_at"]
    until = await invopop.call("GET", "/silo/v1/entries", created_at=at)
    since = await invopop.call("GET", "/silo/v1/entries", created_at=at, ascending="true")
    assert until["created_at"] == at and {made[0]["id"], made[1]["id"]} <= {e["id"] for e in until["list"]}
    assert {made[2]["id"], made[3]["id"], made[4]["id"]} <= {e["id"] for e in since["list"]} and len(since["list"]) + len(
        until["list"]
    ) >= 5
    for query in ({"created_at": "1790000000.5"}, {"cursor": "x"}, {"limit": "0"}):
        assert set(await invopop.faults("GET", "/silo/v1/entries", **query)) == set(query)


async def test_entries_of_the_previous_release(invopop: Caller) -> None:
    """It wrote no folder into a column, numbers as versions, and took the envelope's schema for the document's."""
    entry = await invopop.entry(data=ENVELOPE, folder="sales")
    tenant = {"t": await invopop.tenant()}
    body = json.loads((await invopop.app.rows("SELECT body FROM silo_entry WHERE id = :i", i=entry["id"]))[0].body)
    old = json.dumps(
        {
            **body,
            "version": 1,
            "versions": [],
            "env_schema": None,
            "doc_schema": ENVELOPE["$schema"],
            "digest": {"alg": "sha256", "val": "cd" * 32},
        }
    )
    update = text("UPDATE silo_entry SET body = :b, folder = NULL WHERE id = :i AND tenant_id = :t")
    await invopop.app.store.transact(lambda c: c.execute(update, {**tenant, "b": old, "i": entry["id"]}) and None)
    shown = await invopop.call("GET", f"/silo/v1/entries/{entry['id']}")
    assert (shown["env_schema"], shown["doc_schema"]) == (ENVELOPE["$schema"], ENVELOPE["doc"]["$schema"]) and shown[
        "version"
    ] == "cd" * 5
    assert [e["id"] for e in (await invopop.call("GET", "/silo/v1/entries", folder="sales"))["list"]] == [entry["id"]]
    assert (await invopop.call("GET", "/silo/v1/entries", folder="other"))["list"] == []


async def test_files_of_an_entry(invopop: Caller) -> None:
    entry = await invopop.entry(data={"a": 1})
    files = f"/silo/v1/entries/{entry['id']}/files"
    made = await invopop.call(
        "POST", files, {"name": "note.bin", "data": base64.b64encode(b"%PDF-1.7 x").decode(), "key": "pdf", "embeddable": True}
    )
    assert made["mime"] == "application/pdf" and made["stored"] is True and made["created_at"] and made["entry_id"] == entry["id"]
    answer = await invopop.http.get(f"{files}/{made['id']}")
    assert answer.content == b"%PDF-1.7 x" and answer.headers["content-type"] == "application/pdf"
    assert "note.bin" in answer.headers["content-disposition"]
    content = b"<Invoice/>"
    announced = {"name": "ubl.xml", "sha256": hashlib.sha256(content).hexdigest().upper(), "size": len(content), "private": False}
    placed = await invopop.call("POST", files, announced)
    assert placed["stored"] is False and placed["mime"].endswith("/xml")
    sent = await invopop.http.put(f"{files}/{placed['id']}/data", content=content)
    assert sent.status_code == 200 and sent.json()["stored"] is True and sent.json()["id"] == placed["id"]
    again = await invopop.call("PUT", f"{files}/{placed['id']}", announced)
    assert again["stored"] is True, "a repeated announcement shows the file as it is"
    inline = await invopop.call("PUT", f"{files}/f9", {**announced, "sha256": hashlib.sha256(b"later").hexdigest(), "size": 5})
    assert inline["stored"] is False
    assert (await invopop.call("PUT", f"{files}/f9", {"name": "ubl.xml", "data": base64.b64encode(b"later").decode()}))[
        "stored"
    ] is True
    assert (await invopop.http.get(f"{files}/f9")).content == b"later"
    for body, field in (
        ({"name": "a", "data": "aGk=", "mime": "text/plain\r\nx: y"}, "mime"), ({"name": "a", "data": "?"}, "data"), ({"name": "a"}, "sha256"),
        ({"name": "a", "data": "aGk=", "meta": {"a": 1}}, "meta"),
    ):  # fmt: skip
        assert field in await invopop.faults("POST", files, body)
    await invopop.call("POST", f"/silo/v1/entries/{uuid.uuid4()}/files", {"name": "a", "data": "aGk="}, 404)


async def test_states_are_as_documented(invopop: Caller) -> None:
    entry = await invopop.entry(data={})
    path = f"/silo/v1/entries/{entry['id']}/states"
    at = "2036-05-01T10:00:00.000Z"
    made = await invopop.call("PUT", f"{path}/{at}", {"key": "sent", "notes": "by post", "meta": {"a": "b"}})
    assert made["created_at"] == at and (made["notes"], made["meta"]) == ("by post", {"a": "b"})
    listed = (await invopop.call("GET", path))["list"]
    assert (
        [s["key"] for s in listed] == ["Draft", "sent"] and listed[1] == made and all(s["id"] and s["created_at"] for s in listed)
    )
