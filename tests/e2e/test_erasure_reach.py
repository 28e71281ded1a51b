"""Erasure reaches what never became a job, what other dialects keep, and what steps made."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from cli.commands.submit import submit_files
from contracts import AddFile, EraseSession, FileRef, Message, OpenSession, Tenancy, to_record
from shared import clock
from shared.kafka.clients import make_producer
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.conversion_client import Conversion, Problem
from tests.e2e.invopop_client import Invopop, InvopopError
from tests.e2e.outside import read_all
from tests.e2e.test_control import shown, until_why, verb
from tests.e2e.test_erase import holding, residue
from tests.e2e.test_gateway import ended, form, raw, session_with
from tests.e2e.test_uploads import begin, bring
from tests.eventually import eventually
from tests.unit.test_pdf import protected

pytestmark = pytest.mark.kafka


async def admin_of_new_tenant(client: Client) -> tuple[str, dict[str, str]]:
    """A new tenant's id, and the header with its admin's key."""
    tenant = f"t-{uuid.uuid4().hex[:8]}"
    key = (await client.call("POST", "/v1/keys", json={"user_name": "a", "tenant_id": tenant, "role": "admin"}))["key"]
    return tenant, {"authorization": f"Bearer {key}"}


async def nothing_left(pipeline: Pipeline, *marks: str) -> None:
    """Wait until no table and no object holds one of the marks."""
    folder = Path(pipeline.data_dir) / "objects"

    def left() -> list[str]:
        return [*residue(pipeline, *marks), *(name for mark in marks for name in holding(folder, mark))]

    async def clean() -> bool:
        return not left()

    try:
        await eventually(clean, 20, 0.5)
    except AssertionError:
        raise AssertionError(f"left: {left()}") from None


async def upload(client: Client, session: str, name: str, data: bytes, headers: dict[str, str] | None = None) -> str:
    """Upload a file into a session; returns the file's id."""
    status, body, _ = await raw(client, "POST", "/api/file/uploadfile", data=form(session, name, data), headers=headers or {})
    assert status == 200, body
    return str(body["file_id"])


# --- sessions -----------------------------------------------------------------------------------------------------------------------


async def test_an_open_session_is_erased_with_its_files_and_uploads(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    session = await session_with(client)
    file_id = await upload(client, session, f"{mark}.txt", f"words {mark} of nobody else".encode())
    path = await begin(client, session, 5000)
    await bring(client, path, 0, f"half of a document {mark}".encode() * 10)
    folder = Path(pipeline.data_dir) / "objects"
    assert residue(pipeline, mark) and len(holding(folder, mark)) == 2
    hook = {"url": "http://127.0.0.1:9/nobody", "events": ["session.file_added"]}
    endpoint = await client.call("POST", "/v1/webhooks", notifier=True, json=hook)
    second = await upload(client, session, f"second-{mark}.txt", f"more words {mark}".encode())

    async def delivery() -> bool:
        return any("notifier.db:delivery" in found for found in residue(pipeline, mark))

    await eventually(delivery, 20, 0.3)
    assert (await raw(client, "DELETE", f"/v1/sessions/{session}"))[0] == 204
    assert (await raw(client, "GET", f"/api/deferred/detail/{session}"))[0] == 404
    assert (await raw(client, "GET", f"/api/file/detail/{file_id}"))[0] == 404
    assert (await raw(client, "HEAD", path, headers={"tus-resumable": "1.0.0"}))[0] == 404
    assert (await raw(client, "DELETE", f"/v1/sessions/{session}"))[0] == 404
    status, body, _ = await raw(client, "POST", "/api/file/uploadfile", data=form(session, "late.txt", f"late {mark}".encode()))
    assert status == 404, body
    await nothing_left(pipeline, mark, session, file_id, second)
    await client.call("DELETE", f"/v1/webhooks/{endpoint['id']}", notifier=True)
    events = [r for r in await read_all(pipeline, "session.events") if r.key == session.encode()]
    types = [dict(r.headers)["ce_type"].decode() for r in events]
    assert types.count("stageline.session.erased.v1") == 1


async def test_a_closed_session_is_erased_by_its_job(client: Client) -> None:
    session = await session_with(client)
    await upload(client, session, "a.txt", b"a document")
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    status, body, _ = await raw(client, "DELETE", f"/v1/sessions/{session}")
    assert status == 409 and job_id in str(body)
    assert (await ended(client, job_id))["stage"] == "completed"


async def test_another_tenants_session_is_not_erased(client: Client) -> None:
    session = await session_with(client)
    _, headers = await admin_of_new_tenant(client)
    assert (await raw(client, "DELETE", f"/v1/sessions/{session}", headers=headers))[0] == 404
    assert (await raw(client, "GET", f"/api/deferred/detail/{session}"))[0] == 200


async def test_expired_sessions_are_erased_by_retention_and_open_ones_by_command(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    tenant, headers = await admin_of_new_tenant(client)
    data = f"abandoned words {mark}".encode()
    kept = (await raw(client, "POST", "/api/deferred/create", headers=headers))[1]["session_id"]
    stored = await upload(client, kept, f"kept-{mark}.txt", data, headers)
    blob = (await raw(client, "GET", f"/api/file/detail/{stored}", headers=headers))[1]["blob_name"]
    expiring, used = clock.new_root(), clock.new_root()
    for session, ttl in ((expiring, 1), (used, 3600)):
        file = FileRef(file_id=clock.new_root(), file_name=f"{mark}.txt", blob_name=blob, sha256=hashlib.sha256(data).hexdigest())
        common = fields_of(tenant, session)
        await send(pipeline, OpenSession(ttl_s=ttl, **common), AddFile(file=file, **{**common, "command_id": clock.new_root()}))

    async def status(session: str) -> Any:
        return (await raw(client, "GET", f"/api/deferred/detail/{session}", headers=headers))[1].get("status")

    async def expired() -> bool:
        return await status(expiring) == "expired"

    await eventually(expired, 20, 0.3)
    await client.call("PUT", "/v1/retention", json={"days": 0}, headers=headers)

    async def gone() -> bool:
        return await status(expiring) is None

    await eventually(gone, 30, 0.3)
    assert await status(used) == await status(kept) == "open", "a session in use is not abandoned"
    await send(pipeline, *(EraseSession(reason="asked", **fields_of(tenant, session)) for session in (used, kept)))
    await nothing_left(pipeline, mark, expiring, used, kept)


def fields_of(tenant: str, session: str) -> dict[str, Any]:
    """What every command to a session has."""
    owner = Tenancy(tenant_id=tenant, user_name="test")
    return {"command_id": clock.new_root(), "session_id": session, "owner": owner, "issued_at": clock.now()}


async def send(pipeline: Pipeline, *commands: Message) -> None:
    """Publish commands to sessions as an outside producer does."""
    producer = await make_producer(pipeline.access, "test")
    for record in (to_record(command, "/test") for command in commands):
        await producer.send_and_wait("session.commands", record.value, record.key, headers=list(record.headers))
    await producer.stop()


# --- the Conversion Service ---------------------------------------------------------------------------------------------------------


async def test_delete_job_of_the_conversion_service_erases(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    async with Conversion(client.target.url, **{"x-api-key": client.target.key}) as conversion:
        creating = await conversion.create(("META.TITLE", mark), name=mark)
        await conversion.add(creating, f"creating-{mark}.pdf", protected(mark), ("DOC.PASSWORD", mark))
        done = await conversion.create(("META.TITLE", mark), workflow="Create Dossier PDF", name=mark)
        await conversion.add(done, f"{mark}.pdf", protected(mark), ("DOC.PASSWORD", mark))
        assert (await conversion.start(done))["status"] == "success"
        running = await conversion.create(workflow="test-approval", name=mark)
        await conversion.add(running, f"running-{mark}.txt", f"running words {mark}".encode())
        await conversion.call("POST", f"/jobs/{running}:start")
        assert residue(pipeline, mark) and holding(Path(pipeline.data_dir) / "objects", mark)
        answers = [(await conversion.call("DELETE", f"/jobs/{job}"))[0] for job in (creating, done, running)]
        assert answers == [204, 204, 202]
        for job in (creating, done, running):
            with pytest.raises(Problem, match="jobNotFound"):
                await conversion.call("GET", f"/jobs/{job}")
    await nothing_left(pipeline, mark, creating, done, running)


async def test_the_erasure_of_a_job_takes_nothing_from_a_running_job_with_equal_documents(
    client: Client, pipeline: Pipeline, tmp_path: Path
) -> None:
    nda, form, mark = SAMPLES / "contract-nda.pdf", {"workflow": "test-held-merge"}, uuid.uuid4().hex
    marked = tmp_path / "marked.pdf"
    marked.write_bytes(nda.read_bytes() + f"\n%{mark}\n".encode())
    one, other = await submit_files(client, [nda, marked], form), await submit_files(client, [nda], form)
    for job_id in (one, other):
        await until_why(client, job_id, "waiting_for_approval")
    await verb(client, one, "poke", step="approve")
    assert (await ended(client, one))["stage"] == "completed"
    await client.call("DELETE", f"/v1/jobs/{one}")
    await nothing_left(pipeline, mark)
    await verb(client, other, "poke", step="approve")
    found = await ended(client, other)
    assert found["stage"] == "completed", found["error_messages"]


async def test_the_erasure_of_a_job_takes_nothing_from_the_job_that_ran_it_again(
    client: Client, pipeline: Pipeline, tmp_path: Path
) -> None:
    nda, mark = SAMPLES / "contract-nda.pdf", uuid.uuid4().hex
    first = await submit_files(client, [nda], {"workflow": "test-held-merge", "metadata": f'{{"mark": "{mark}"}}'})
    await until_why(client, first, "waiting_for_approval")
    await verb(client, first, "poke", step="approve", outcome="KO", code="wrong", message="no")
    assert (await ended(client, first))["stage"] == "failed"
    again = (await verb(client, first, "rerun", only="failed", metadata={}))["job_id"]
    await shown(client, again)
    await until_why(client, again, "waiting_for_approval")
    await client.call("DELETE", f"/v1/jobs/{first}")
    await nothing_left(pipeline, mark)
    # What a later job deletes shows that what the first one named was looked at.
    later = await submit_files(client, [SAMPLES / "email-order-4471.eml"], {"metadata": f'{{"mark": "{mark}"}}'})
    await ended(client, later)
    await client.call("DELETE", f"/v1/jobs/{later}")
    await nothing_left(pipeline, mark)
    await verb(client, again, "poke", step="approve")
    found = await ended(client, again)
    assert found["stage"] == "completed", found["error_messages"]


# --- the silo -----------------------------------------------------------------------------------------------------------------------


async def test_an_entry_is_erased_with_its_files(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    async with Invopop(client.target.url, client.target.key) as invopop:
        entry = await invopop.call("POST", "/silo/v1/entries", {"key": mark, "data": {"mark": mark}, "tags": [mark]})
        files = f"/silo/v1/entries/{entry['id']}/files"
        inline = await invopop.call("PUT", f"{files}/{uuid.uuid4()}", {"name": f"{mark}.txt", "data": "aGVsbG8=", "key": "doc"})
        replaced = f"first bytes {mark}".encode()
        await _announce(client, invopop, f"{files}/one-{mark[:8]}", replaced, {"name": f"{mark}.bin", "key": "k"})
        await _announce(
            client, invopop, f"{files}/two-{mark[:8]}", f"second bytes {mark}".encode(), {"name": f"{mark}.bin", "key": "k"}
        )
        folder = Path(pipeline.data_dir) / "objects"

        async def one() -> bool:
            return len(holding(folder, mark)) == 1

        await eventually(one, 20, 0.5)
        await invopop.call("POST", f"/silo/v1/entries/{entry['id']}/states", {"key": "Sent"})
        status, _, _ = await raw(client, "DELETE", f"{files}/{inline['id']}")
        assert status == 204 and len((await invopop.call("GET", f"/silo/v1/entries/{entry['id']}"))["attachments"]) == 1
        assert (await raw(client, "DELETE", f"/silo/v1/entries/{entry['id']}"))[0] == 204
        with pytest.raises(InvopopError):
            await invopop.call("GET", f"/silo/v1/entries/key/{mark}")
        assert (await raw(client, "DELETE", f"/silo/v1/entries/{entry['id']}"))[0] == 404
    await nothing_left(pipeline, mark, entry["id"], inline["id"])


async def _announce(client: Client, invopop: Invopop, path: str, data: bytes, about: dict[str, Any]) -> None:
    digest = hashlib.sha256(data).hexdigest()
    await invopop.call("PUT", path, {**about, "sha256": digest, "size": len(data)})
    assert (await raw(client, "PUT", f"{path}/content", data=data))[0] == 200


async def test_the_entry_of_a_jobs_data_is_erased_with_its_files(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    async with Invopop(client.target.url, client.target.key) as invopop:
        job = await invopop.run("noop-five", data={"mark": mark}, key=mark)
        path = f"/silo/v1/entries/{job['silo_entry_id']}/files/f-{mark[:8]}"
        await _announce(client, invopop, path, f"attached bytes {mark}".encode(), {"name": f"{mark}.bin"})
        before = await invopop.call("POST", "/silo/v1/entries", {"data": {"own": 1}})
        used = await invopop.run("noop-five", silo_entry_id=before["id"])
        for job_id in (job["id"], used["id"]):
            await client.call("DELETE", f"/v1/jobs/{job_id}")
        assert (await invopop.call("GET", f"/silo/v1/entries/{before['id']}"))["data"] == {"own": 1}, "made before the job"
    await nothing_left(pipeline, mark, job["id"], job["silo_entry_id"], used["id"])
