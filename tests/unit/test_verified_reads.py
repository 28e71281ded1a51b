"""Damaged objects: every read compares the bytes with the hash in the object's name, and no reader takes a part for the whole."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from services.ingest.http import errors
from services.ingest.http.archive import zip_stream
from services.ingest.http.download import send
from services.stage_worker.actions import Actions, serve_actions
from shared.objects.access import ObjectMissing
from shared.objects.object_store import Objects, open_objects
from shared.web.middleware import CloseOnShutdown
from stageline_kit import Worker
from stageline_kit.testing import run_action
from tests.eventually import eventually
from tests.servers import free_port

LARGE = os.urandom(5 << 20)
"""More than a stream that is verified before its first byte."""


def cut(folder: Path, name: str, size: int = 10) -> None:
    """Cut a stored object."""
    os.truncate(folder / name, size)


def changed(folder: Path, name: str) -> None:
    """Change the last byte of a stored object, and not its size."""
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


async def test_a_read_compares_the_hash_without_being_told_it(tmp_path: Path) -> None:
    mine = open_objects(tmp_path.as_uri()).of("acme")
    stored = await mine.put_object(b"the text of an invoice")
    cut(tmp_path, stored.name)
    with pytest.raises(ObjectMissing) as found:
        await mine.get_object(stored.name)
    assert found.value.code == "hash_mismatch"
    with pytest.raises(ObjectMissing):
        await mine.stream_object(stored.name)
    await mine.put_object(b"the text of an invoice")
    assert await mine.get_object(stored.name) == b"the text of an invoice", "storing it again heals it"


async def test_a_read_that_came_damaged_is_repeated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = open_objects(tmp_path.as_uri()).of("acme")
    stored = await mine.put_object(b"whole")
    asked, real = [], obstore.get_async

    async def half_at_first(store: Any, name: str, **more: Any) -> Any:
        asked.append(name)
        return await real(store, name, **({"options": {"range": (0, 2)}} if len(asked) == 1 else more))

    monkeypatch.setattr(obstore, "get_async", half_at_first)
    assert await mine.get_object(stored.name) == b"whole"
    assert len(asked) == 2


@pytest.mark.parametrize("damage", [cut, changed])
async def test_a_large_stream_ends_before_the_last_chunk(tmp_path: Path, damage: Any) -> None:
    mine = open_objects(tmp_path.as_uri()).of("acme")
    stored = await mine.put_object(LARGE)
    assert b"".join([c async for c in (await mine.stream_object(stored.name))[1]]) == LARGE
    damage(tmp_path, stored.name, *([len(LARGE) - 1] if damage is cut else []))
    received = bytearray()
    with pytest.raises(ObjectMissing):
        async for chunk in (await mine.stream_object(stored.name))[1]:
            received += chunk
    assert 0 < len(received) < len(LARGE) - 1


async def test_a_range_of_a_damaged_object_is_refused(tmp_path: Path) -> None:
    mine = open_objects(tmp_path.as_uri()).of("acme")
    stored = await mine.put_object(LARGE)
    size, chunks = await mine.stream_object(stored.name, (7, 20))
    assert (size, b"".join([c async for c in chunks])) == (len(LARGE), LARGE[7:20])
    changed(tmp_path, stored.name)
    with pytest.raises(ObjectMissing):
        await mine.stream_object(stored.name, (7, 20))


@contextlib.asynccontextmanager
async def downloads(objects: Objects, name: str) -> AsyncIterator[str]:
    """An HTTP server that sends `name`, whole and in a ZIP archive; yields its address."""

    async def file(request: Request) -> Response:
        return await send(request, objects.of("acme"), name, "invoice.pdf")

    async def archive(request: Request) -> Response:
        return StreamingResponse(zip_stream(objects.of("acme"), [("a", name)]))

    app: Any = Starlette(routes=[Route("/file", file), Route("/zip", archive)])
    errors.install(app)
    app.add_middleware(CloseOnShutdown, shape=errors.shaped)

    async def started() -> bool:
        return server.started

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await eventually(started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def test_a_download_of_a_damaged_object_never_looks_complete(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    objects = open_objects(tmp_path.as_uri())
    small, large = [await objects.of("acme").put_object(data) for data in (b"small text", LARGE)]
    async with downloads(objects, large.name) as url, httpx.AsyncClient() as http:
        assert (await http.get(f"{url}/file")).content == LARGE
        archive = (await http.get(f"{url}/zip")).content
        assert zipfile.ZipFile(io.BytesIO(archive)).read("a") == LARGE
        changed(tmp_path, large.name)
        for path in ("file", "zip"):
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"{url}/{path}")
    assert "Traceback" not in caplog.text
    async with downloads(objects, small.name) as url, httpx.AsyncClient() as http:
        changed(tmp_path, small.name)
        answer = await http.get(f"{url}/file")
        assert (answer.status_code, answer.headers.get("content-disposition")) == (500, None)


class Reader:
    """Finds nothing in any text, as in a text that was cut."""

    async def run_action(self, *_: Any) -> dict[str, Any]:
        return {"fields": {}}


async def test_a_step_on_a_cut_text_fails_with_a_code(tmp_path: Path) -> None:
    objects = open_objects(tmp_path.as_uri())
    text = await objects.of("tenant-1").put_object(b"Invoice 4711 of the first of May")
    cut(tmp_path, text.name)
    actions: Any = Actions.__new__(Actions)
    actions.objects, actions.reader = objects, Reader()
    worker = Worker("nowhere:1", "w-1")
    worker.actions.update(serve_actions({"fields.extract": actions.extract_fields}, ()))
    inputs = {"text": {"text_blob": text.name}}
    report = (await run_action(worker, "fields.extract", inputs=inputs))[-1]
    assert (report.status.value, report.code) == ("KO", "hash_mismatch")
