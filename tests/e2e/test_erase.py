"""An erased job is gone from every store, the search, the object store and the compacted topic."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client, CliError
from cli.commands.submit import submit_files
from tests.conftest import Pipeline
from tests.e2e.conversion_client import Conversion
from tests.e2e.invopop_client import Invopop
from tests.e2e.outside import read_all
from tests.e2e.test_control import make
from tests.e2e.test_gateway import ended
from tests.e2e.test_uploads import begin, bring, said
from tests.eventually import eventually
from tests.unit.test_pdf import protected

pytestmark = pytest.mark.kafka


def residue(pipeline: Pipeline, *marks: str) -> list[str]:
    """Tables of every service and object names that hold one of the marks. Inbox, audits and outboxes may keep ids."""
    found = []
    for path in pipeline.data_dir.glob("*.db"):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table in ("seen", "audit", "outbox_batch", "erased", "decision", "idempotency") or table.startswith("sqlite_"):
                continue
            for row in connection.execute(f"SELECT * FROM {table}"):
                text = " ".join(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in row)
                found += [f"{path.name}:{table}: {mark}" for mark in marks if mark in text]
        connection.close()
    return found


async def test_nothing_of_an_erased_job_is_left(client: Client, pipeline: Pipeline, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    own, shared = tmp_path / f"own-{mark}.txt", tmp_path / f"shared-{uuid.uuid4().hex}.txt"
    own.write_text(f"secret words {mark} of nobody else\n" * 20)
    shared.write_text("words that two jobs have in common\n" * 20)
    job_id = await submit_files(client, [own, shared], {"workflow": "documents", "metadata": {"mark": mark}})
    other = await submit_files(client, [shared], {"workflow": "documents"})
    job, kept = await ended(client, job_id), await ended(client, other)
    assert job["stage"] == kept["stage"] == "completed"
    objects = Path(pipeline.data_dir) / "objects"
    (kept_file,) = kept["files"]
    file_ids = [f["id"] for f in job["files"]]
    blobs = {f["file_name"]: [f[n] for n in ("blob_name", "text_blob", "result_blob")] for f in job["files"]}
    assert residue(pipeline, job_id, *file_ids) and all((objects / b).exists() for b in blobs[own.name])

    await client.call("DELETE", f"/v1/jobs/{job_id}?reason=asked")
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/history", f"/api/file/detail/{file_ids[0]}"):
        with pytest.raises(CliError, match="does not exist"):
            await client.call("GET", path)

    async def clean() -> bool:
        return not residue(pipeline, job_id, mark, *file_ids) and not any((objects / b).exists() for b in blobs[own.name])

    try:
        await eventually(clean, 20, 0.5)
    except AssertionError:
        left = [b for b in blobs[own.name] if (objects / b).exists()]
        raise AssertionError(f"left: {residue(pipeline, job_id, mark, *file_ids)}, {left}") from None
    assert (objects / kept_file["blob_name"]).exists(), "another job's file has the same content"
    assert await client.call("GET", f"/v1/files/{kept_file['id']}/text")
    assert (await client.call("GET", "/v1/search", params={"q": mark}))["result"] == []

    async def tombstone() -> Any:
        records = [r for r in await read_all(pipeline, "job.state") if r.key == job_id.encode()]
        return records and records[-1].value is None

    await eventually(tombstone, 20, 0.5)
    with pytest.raises(CliError, match="does not exist"):
        await client.call("DELETE", f"/v1/jobs/{job_id}")


async def test_only_ended_jobs_are_erased_and_old_ones_by_themselves(client: Client) -> None:
    tenant = f"t-{uuid.uuid4().hex[:8]}"
    key = (await client.call("POST", "/v1/keys", json={"user_name": "a", "tenant_id": tenant, "role": "admin"}))["key"]
    headers = {"authorization": f"Bearer {key}"}
    done = (await client.call("POST", "/v1/jobs", json={"workflow": "noop-five"}, headers={**headers, "prefer": "wait=20"}))[
        "job_id"
    ]
    waits = (await client.call("POST", "/v1/jobs", json={"workflow": "test-approval"}, headers=headers))["job_id"]
    with pytest.raises(CliError, match="has not ended"):
        await client.call("DELETE", f"/v1/jobs/{waits}", headers=headers)
    mine = await make(client, "noop-five")
    await ended(client, mine)
    await client.call("PUT", "/v1/retention", json={"days": 0}, headers=headers)

    async def gone() -> bool:
        found = (await client.call("GET", "/v1/jobs", headers=headers))["result"]
        return [j["id"] for j in found] == [waits] and done not in str(found)

    await eventually(gone, 30, 0.3)
    assert (await client.call("GET", f"/v1/jobs/{mine}"))["stage"] == "completed", "other tenants keep theirs"


def holding(folder: Path, mark: str) -> list[str]:
    """Objects with the mark in their bytes."""
    return [path.name for path in folder.rglob("*") if path.is_file() and mark.encode() in path.read_bytes()]


async def test_nothing_is_left_of_jobs_of_other_dialects(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    session = (await client.call("POST", "/api/deferred/create"))["session_id"]
    text = f"resumed words {mark}\n".encode()
    upload = await begin(client, session, len(text), **{"upload-metadata": said(session_id=session, filename=f"{mark}.txt")})
    await bring(client, upload, 0, text)
    jobs = [(await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]]
    async with Conversion(client.target.url, **{"x-api-key": client.target.key}) as conversion:
        made = await conversion.create(("META.TITLE", mark), workflow="Create Dossier PDF", name=mark)
        await conversion.add(made, f"{mark}.pdf", protected(mark), ("DOC.PASSWORD", mark))
        assert (await conversion.start(made))["status"] == "success"
    async with Invopop(client.target.url, client.target.key) as invopop:
        jobs.append((await invopop.run("noop-five", data={"mark": mark}, key=mark))["id"])

    async def converted() -> Any:
        return (await client.call("GET", "/v1/jobs", params={"file_name": f"{mark}.pdf"}))["result"]

    jobs.append((await eventually(converted, 20))[0]["id"])
    for job_id in jobs:
        await ended(client, job_id)
    shared = (await client.call("GET", f"/v1/jobs/{jobs[0]}"))["files"][0]["id"]
    await client.call("POST", f"/api/file/share/{shared}")
    folder = Path(pipeline.data_dir) / "objects"
    assert residue(pipeline, mark) and holding(folder, mark)
    for job_id in jobs:
        await client.call("DELETE", f"/v1/jobs/{job_id}?reason=asked")

    async def clean() -> bool:
        return not residue(pipeline, mark, *jobs, shared) and not holding(folder, mark)

    try:
        await eventually(clean, 20, 0.5)
    except AssertionError:
        raise AssertionError(f"left: {residue(pipeline, mark, *jobs, shared)}, {holding(folder, mark)}") from None
