"""What people do to files by HTTP: corrections, the recycle bin, moves; and all sixteen file events by webhook."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from cli.commands.submit import submit_files
from contracts.file_events import FILE_EVENTS
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.test_alfred_events import Registered
from tests.e2e.test_erase import residue
from tests.e2e.test_erasure_reach import admin_of_new_tenant
from tests.e2e.test_gateway import ended, raw
from tests.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
INVOICE = SAMPLES / "invoice-acme-2026-0042.pdf"


async def finished(client: Client, *paths: Path) -> dict[str, Any]:
    job = await ended(client, await submit_files(client, list(paths), {"workflow": "documents"}))
    assert job["stage"] == "completed", job["error_messages"]
    return job


async def test_a_person_corrects_recycles_and_moves_a_file(client: Client, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("a note about nothing in particular\n")
    job, other = await finished(client, INVOICE, note), await finished(client, INVOICE)
    file = next(f for f in job["files"] if f["file_name"] == INVOICE.name)
    await _correct(client, file)
    await _take_away(client, file)
    await _recycle_and_restore(client, job, file)
    await _move(client, job, other, file)
    audit = await client.call("GET", "/v1/audit?limit=100")
    mine = [e for e in audit["result"] if file["id"] in (e.get("message") or "")]
    acts = {"set_value", "delete_value", "remove_tag", "delete_property", "recycle", "restore", "move"}
    assert {e["verb"] for e in mine if e["ok"]} == {f"file.{act}" for act in acts}
    assert not any("4,242" in json.dumps(e) for e in mine), "the audit has no content"


async def _correct(client: Client, file: dict[str, Any]) -> None:
    name = next(iter(file["fields"]))
    path = f"/v1/files/{file['id']}/values/{name}"
    key, right = {"idempotency-key": f"right-{file['id']}"}, {"value": "4,242.00", "reason": "misread"}
    status, corrected, _ = await raw(client, "PATCH", path, json=right, headers=key)
    assert status == 200 and corrected["fields"][name] == "4,242.00" and corrected["revision"] == 1
    status, again, _ = await raw(client, "PATCH", path, json=right, headers=key)
    assert (status, again["revision"], again["command_id"]) == (200, 1, corrected["command_id"]), "a repeat changes nothing"
    assert (await raw(client, "PATCH", path, json={"value": "5"}, headers=key))[0] == 409, "the key stands for another value"
    values = await client.call("GET", f"/api/values/file/{file['id']}")
    assert "4,242.00" in [v["value"] for v in values]
    status, problem, _ = await raw(client, "PATCH", path, json={"value": None})
    assert status == 400 and "value" in problem["detail"]
    gone = await client.call("DELETE", f"{path}?reason=wrong")
    assert not gone["fields"] or name not in gone["fields"]
    assert (await raw(client, "DELETE", path))[0] == 404


async def _take_away(client: Client, file: dict[str, Any]) -> None:
    path = f"/v1/files/{file['id']}"
    untagged = await client.call("DELETE", f"{path}/tag")
    assert (untagged["tag_id"], untagged["classification_score"]) == (None, None)
    bare = await client.call("DELETE", f"{path}/properties/{next(iter(file['properties']))}")
    assert len(bare["properties"]) == len(file["properties"]) - 1


async def _recycle_and_restore(client: Client, job: dict[str, Any], file: dict[str, Any]) -> None:
    path = f"/v1/files/{file['id']}"
    binned = await client.call("POST", f"{path}/recycle", json={"reason": "sent twice"})
    assert binned["folder"] == "recycle_bin" and binned["recycled_at"]
    status, problem, _ = await raw(client, "PATCH", f"{path}/values/total", json={"value": 1})
    assert status == 409 and "restore it first" in problem["detail"]
    assert (await raw(client, "GET", f"/api/file/download/{file['id']}"))[0] == 200, "until it is erased"
    _, archive, _ = await raw(client, "GET", f"/v1/jobs/{job['id']}/results.zip")
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert any(n.startswith("note.txt/") for n in names) and not any(n.startswith(file["file_name"]) for n in names)
    back = await client.call("POST", f"{path}/restore")
    assert (back["folder"], back["recycled_at"]) == (f"jobs/{job['id']}", None)


async def _move(client: Client, job: dict[str, Any], other: dict[str, Any], file: dict[str, Any]) -> None:
    path = f"/v1/files/{file['id']}/move"
    for target, expected in ((job["id"], 409), ("nobody", 404)):
        status, problem, _ = await raw(client, "POST", path, json={"to_job_id": target})
        assert status == expected and problem["detail"].startswith("to_job_id: ")
    moved = await client.call("POST", path, json={"to_job_id": other["id"]})
    assert (moved["job_id"], moved["status"], moved["fields"]) == (other["id"], "pending", None)
    left = (await client.call("GET", f"/v1/jobs/{job['id']}"))["files"]
    assert file["id"] not in {f["id"] for f in left}
    rerun = await client.call("POST", f"/v1/jobs/{other['id']}/rerun", json={"only": "failed"})
    done = await ended(client, rerun["job_id"])
    assert file["id"] in {f["id"] for f in done["files"] if f["status"] == "finished"}, "and it is processed there"


async def test_acts_on_files_are_for_operators_of_the_tenant(client: Client) -> None:
    job = await finished(client, SAMPLES / "letter-offer.docx")
    [file] = job["files"]
    _, stranger = await admin_of_new_tenant(client)
    weak = await client.call("POST", "/v1/keys", json={"user_name": "p", "role": "producer"})
    acts = [
        ("PATCH", "values/total", {"value": 1}), ("DELETE", "values/total", None), ("DELETE", "properties/a", None),
        ("DELETE", "tag", None), ("POST", "recycle", None), ("POST", "restore", None), ("POST", "move", {"to_job_id": job["id"]}),
    ]  # fmt: skip
    for method, act, body in acts:
        path = f"/v1/files/{file['id']}/{act}"
        assert (await raw(client, method, path, json=body, headers=stranger))[0] == 404, act
        assert (await raw(client, method, path, json=body, headers={"authorization": f"Bearer {weak['key']}"}))[0] == 403, act
    assert (await client.call("GET", f"/v1/files/{file['id']}"))["revision"] is None


async def test_all_sixteen_file_events_reach_a_webhook_once_and_a_recycled_file_is_erased(
    own_pipeline: Pipeline, tmp_path: Path
) -> None:
    own_pipeline.environment["STAGELINE_RECYCLE_DAYS"] = "0.0005"
    await asyncio.to_thread(own_pipeline.start)
    untagged, broken = tmp_path / "untagged.txt", tmp_path / "broken.pdf"
    untagged.write_text("qwertz\n")
    broken.write_bytes(b"%PDF-1.7 and nothing else")
    async with Client(own_pipeline.target()) as client, Registered() as receiver:
        await client.call("POST", "/api/account/webhook", json={"url": receiver.url})
        other = await finished(client, untagged)
        job = await ended(client, await submit_files(client, [INVOICE, broken], {"workflow": "documents"}))
        file = next(f for f in job["files"] if f["file_name"] == INVOICE.name)
        path = f"/v1/files/{file['id']}"
        for kind in ("values", "properties"):
            name = next(iter(file["fields" if kind == "values" else kind]))
            await client.call("DELETE", f"{path}/{kind}/{name}")
        await client.call("DELETE", f"{path}/tag")
        await client.call("POST", f"{path}/move", json={"to_job_id": other["id"]})
        await client.call("POST", f"{path}/recycle")
        await _all_heard(receiver)
        await _erased(own_pipeline, client, file)
    verified = await asyncio.to_thread(own_pipeline.command, "verify")
    assert verified.returncode == 0, verified.stdout


async def _all_heard(receiver: Registered) -> None:
    wanted = {m.model_fields["event"].annotation.NAME for m in FILE_EVENTS}  # type: ignore[union-attr]

    def names() -> set[str]:
        return {e["event"]["event_name"] for e in receiver.events if e["event_type"] == "file_event"}

    async def heard() -> bool:
        return names() == wanted

    try:
        await eventually(heard, 60)
    except AssertionError:
        raise AssertionError(f"missing: {wanted - names()}") from None
    assert len({e["event_id"] for e in receiver.events}) == len(receiver.events), "each event once"
    acts = Counter(e["event"]["event_name"] for e in receiver.events if e["event"].get("revision"))
    assert acts == {
        "file_extracted_data_delete_event": 1, "file_property_delete_event": 1, "file_remove_tag_event": 1, "file_move_event": 2,
        "file_move_to_pending_event": 1, "file_move_to_recycle_bin_event": 1,
    }  # fmt: skip


async def _erased(pipeline: Pipeline, client: Client, file: dict[str, Any]) -> None:
    def left() -> list[str]:
        found = [place for place in residue(pipeline, file["id"]) if "erased_file" not in place]
        # The announcement of the erasure is delivered too, and outlives it.
        announced = [place for place in found if ":delivery:" in place][:1]
        return [place for place in found if place not in announced or found.count(place) > 1]

    async def gone() -> bool:
        return (await raw(client, "GET", f"/v1/files/{file['id']}"))[0] == 404 and not left()

    try:
        await eventually(gone, 120, 1.0)
    except AssertionError:
        raise AssertionError(f"left: {left()}") from None

    async def no_object() -> bool:
        return not (pipeline.data_dir / "objects" / file["blob_name"]).exists()

    await eventually(no_object, 20)
