"""Addresses of files in answers: they need no header, and end by themselves, with the key and with the file."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from services.ingest.dialects.invopop.links import LINK_S
from shared import clock
from shared.web.api_keys import ACCESS
from shared.web.key_format import key_hash
from tests.gateway_app import BASE, InProcess, gateway_app
from tests.unit.invopop_caller import Caller, enter_job, new_caller


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("invopop"), public_url=BASE) as made:
        yield made


@pytest.fixture
async def invopop(app: InProcess) -> AsyncIterator[Caller]:
    async with new_caller(app) as made:
        yield made


def token_of(url: str) -> str:
    assert url.startswith(f"{BASE}/silo/v1/links/")
    return url.removeprefix(BASE)


async def test_addresses_of_files_hold_without_a_header(invopop: Caller, app: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = await invopop.entry(data={"a": 1})
    files = f"/silo/v1/entries/{entry['id']}/files"
    made = await invopop.call("POST", files, {"name": "a.txt", "data": base64.b64encode(b"hello").decode()})
    secret = await invopop.call("POST", files, {"name": "b.txt", "data": base64.b64encode(b"secret").decode(), "private": True})
    async with app.http() as nobody:
        answer = await nobody.get(token_of(made["url"]))
        assert answer.content == b"hello" and answer.headers["content-type"].startswith("text/plain")
        assert (
            answer.headers["content-disposition"].startswith("attachment")
            and answer.headers["x-content-type-options"] == "nosniff"
        )
        assert (await nobody.get(secret["url"].removeprefix(BASE))).status_code == 401, "a private file asks for the key"
        assert (await invopop.http.get(secret["url"].removeprefix(BASE))).content == b"secret"
        shown = (await invopop.call("GET", f"/silo/v1/entries/{entry['id']}"))["attachments"]
        assert {(await nobody.get(token_of(f["url"]))).content for f in shown if not f.get("private")} == {b"hello"}
        # It leads to this file alone, and cannot be changed or prolonged.
        good = token_of(made["url"])
        ends_at, _, sealed = good.rpartition("/")[2].partition(".")
        assert int(ends_at) - clock.unix() <= LINK_S
        for wrong in (f"{int(ends_at) + 1}.{sealed}", f"{ends_at}.{sealed[:-2]}AA", f"{ends_at}.", "x", f"{ends_at}.{'A' * 40}"):
            assert (await nobody.get(f"/silo/v1/links/{wrong}")).status_code == 404, wrong
        now = clock.unix()
        monkeypatch.setattr("services.ingest.dialects.invopop.linked_files.clock.unix", lambda: now + LINK_S + 1)
        assert (await nobody.get(good)).status_code == 404, "it is over"
        monkeypatch.undo()
        assert (await nobody.get(good)).status_code == 200
        await invopop.call("DELETE", f"{files}/{made['id']}", status=204)
        assert (await nobody.get(good)).status_code == 404, "the file is erased"


async def test_an_announced_file_is_uploaded_to_its_address(invopop: Caller, app: InProcess) -> None:
    content = b"x" * 100
    entry = await invopop.entry()
    announced = {"name": "b.pdf", "mime": "application/pdf", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    placed = await invopop.call("POST", f"/silo/v1/entries/{entry['id']}/files", announced)
    reader = await app.key(role="reader", tenant=await invopop.tenant())
    async with app.http() as nobody, app.http(authorization=f"Bearer {reader}") as reading:
        seen = (await reading.get(f"/silo/v1/entries/{entry['id']}")).json()["attachments"][0]["url"]
        assert (await nobody.put(token_of(seen), content=content)).status_code == 403, "a reader's link is no way to write"
        assert (await nobody.put(token_of(placed["url"]), content=b"y" * 100)).json()["fields"] == {
            "hash": "does not match the bytes"
        }
        assert (await nobody.get(token_of(placed["url"]))).status_code == 404
        sent = await nobody.put(token_of(placed["url"]), content=content)
        assert sent.status_code == 200 and sent.json()["stored"] is True
        assert (await nobody.get(token_of(sent.json()["url"]))).content == content


async def test_addresses_end_with_the_key_that_got_them(invopop: Caller, app: InProcess) -> None:
    entry = await invopop.entry()
    made = await invopop.call("POST", f"/silo/v1/entries/{entry['id']}/files", {"name": "a", "data": "aGk="})
    async with app.http() as nobody:
        assert (await nobody.get(token_of(made["url"]))).status_code == 200
        revoke = ACCESS.update().where(ACCESS.c.key_hash == key_hash(invopop.key)).values(revoked=True)
        await app.store.transact(lambda c: c.execute(revoke) and None)
        app.gateway.keyring.clear_cache()
        assert (await nobody.get(token_of(made["url"]))).status_code == 404


async def test_attachments_of_a_job(invopop: Caller, app: InProcess) -> None:
    job_id = str(uuid.uuid1())
    await enter_job(invopop, job_id)
    job = await invopop.call("GET", f"/transform/v1/jobs/{job_id}")
    assert job["args"] == {"n": "3", "s": "t"} and job["meta"] == {"n": 3, "s": "t"}, "the values of args are text"
    assert len(job["attachments"]) == 2 and all(a["stored"] and None not in a.values() for a in job["attachments"])
    async with app.http() as nobody:
        for attachment in job["attachments"]:
            answer = await nobody.get(token_of(attachment["url"]))
            assert answer.content == b"made" and "made.txt" in answer.headers["content-disposition"]
            assert (await nobody.put(token_of(attachment["url"]), content=b"x")).status_code == 403
        await app.store.transact(lambda c: c.execute(text("DELETE FROM job_view WHERE id = :i"), {"i": job_id}) and None)
        gone = job["attachments"][1]["url"]
        assert (await nobody.get(token_of(gone))).status_code == 404
