"""The object store on S3, against a local S3 server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from cli.client import Client
from cli.commands.submit import submit_files
from shared.objects.access import ObjectMissing
from shared.objects.object_store import Objects, TooLarge, open_objects
from tests.conftest import Pipeline
from tests.eventually import eventually
from tests.servers import free_port

SETTINGS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1", "AWS_ALLOW_HTTP": "true"}


def bucket_made(url: str) -> bool:
    """True once the server is up and has the bucket."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """Environment of a client of the server, which has a bucket `stageline`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    log.close()

    await eventually(lambda: asyncio.to_thread(bucket_made, f"{url}/stageline"), 60, 0.2)
    yield {**SETTINGS, "AWS_ENDPOINT": url}
    server.terminate()
    server.wait(10)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    if request.param == "folder":
        yield open_objects(f"file://{tmp_path}/objects")
        return
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    yield open_objects("s3://stageline")


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_stored_object_is_read_back_and_named_by_its_content(objects: Objects) -> None:
    body = os.urandom(200_000)
    first = await objects.of("tenant").put_stream(pieces(body[:70_000], body[70_000:]), 1_000_000)
    again = await objects.of("tenant").put_stream(pieces(body), 1_000_000)
    assert first == again and first.size == len(body) and re.search(first.sha256, first.name)
    assert await objects.of("tenant").get_object(first.name) == body


async def test_too_large_and_missing_objects_are_reported(objects: Objects) -> None:
    with pytest.raises(TooLarge):
        await objects.of("tenant").put_stream(pieces(b"x" * 600, b"x" * 600), 1000)
    with pytest.raises(ObjectMissing):
        await objects.of("tenant").get_object("tenant/aa/nothing")


async def presigned(client: Client) -> None:
    """A file that a client uploads directly to the store becomes a file of its session."""
    session = (await client.call("POST", "/api/deferred/create"))["session_id"]
    body = {"session_id": session, "file_name": "direct.txt", "size": 5, "metadata": {"way": "direct"}}
    signed = await client.call("POST", "/v1/uploads/presigned", json=body)
    complete = f"/v1/uploads/{signed['upload_id']}/complete"
    async with client.http.post(client.target.url + complete) as answer:
        assert answer.status == 409, "the object is not uploaded yet"
    for data, status in ((b"four", 409), (b"hello", 200)):
        async with aiohttp.ClientSession() as plain, plain.request(signed["method"], signed["url"], data=data) as put:
            assert put.status == 200
        async with client.http.post(client.target.url + complete) as answer:
            assert answer.status == status, await answer.text()
    file_id = (await client.call("POST", complete))["file_id"]
    record = await client.call("GET", f"/api/file/detail/{file_id}")
    assert (record["deferred_session_id"], record["file_size"], record["metadata"]) == (session, 5, {"way": "direct"})


@pytest.mark.kafka
@pytest.mark.slow
async def test_the_pipeline_on_s3(s3: dict[str, str], tmp_path: Path) -> None:
    containers = tmp_path / "containers.json"
    archive = {"source": "aws", "url": "s3://stageline/archive", "tenants": ["default"], "options": {"region": "eu-central-1"}}
    containers.write_text(json.dumps({"archive": archive}))
    environment = {**s3, "STAGELINE_OBJECT_STORE_URL": "s3://stageline", "STAGELINE_CONTAINERS_FILE": str(containers)}
    running = Pipeline(tmp_path / "data", environment=environment)
    running.start()
    kind = {"content-type": "text/plain"}
    stored = urllib.request.Request(
        f"{s3['AWS_ENDPOINT']}/stageline/archive/2026/note.txt", b"Invoice No: S3-2\n", kind, method="PUT"
    )
    await asyncio.to_thread(urllib.request.urlopen, stored)
    try:
        document = tmp_path / "note.txt"
        document.write_text("Invoice No: S3-1\nTotal due: EUR 1.50\n")
        async with Client(running.target()) as client:
            job = await submit_files(client, [document], {"workflow": "documents", "metadata": None})

            async def completed() -> bool:
                found = await client.call("GET", f"/v1/jobs/{job}")
                assert found["stage"] not in ("failed", "invalid"), found["error_messages"]
                return bool(found["stage"] == "completed")

            await eventually(completed, 60)
            [file] = (await client.call("GET", f"/api/job/detail/{job}"))["files"]
            assert "S3-1" in await client.call("GET", f"/v1/files/{file['id']}/text")
            await presigned(client)
            remote = {"source": "aws", "container": "archive", "file_name": "2026/note.txt"}
            job = (await client.call("POST", "/api/file/upload", json=remote))["job_id"]
            await eventually(completed, 60)
            [file] = (await client.call("GET", f"/api/job/detail/{job}"))["files"]
            assert "S3-2" in await client.call("GET", f"/v1/files/{file['id']}/text")
        assert not (tmp_path / "data" / "objects").exists()
    finally:
        running.stop()
