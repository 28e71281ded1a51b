"""Submitting a folder: after an error, no upload continues in the background."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from cli import client as clients
from cli.client import Client, CliError, Target
from cli.commands.submit import submit_files

FILES = 5


def open_files(folder: Path) -> list[str]:
    """Which files of a folder this process holds open."""
    names = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{n}")]
    return [name for name in names if name.startswith(str(folder))]


def documents(folder: Path) -> list[Path]:
    folder.mkdir()
    for n in range(FILES):
        (folder / f"{n}.txt").write_bytes(b"x" * 100_000)
    return sorted(folder.iterdir())


@asynccontextmanager
async def gateway(upload: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Client]:
    """A client of a gateway that opens every session; `upload` answers for files."""

    async def create(request: web.Request) -> web.Response:
        return web.json_response({"session_id": "s"})

    app = web.Application()
    app.add_routes([web.post("/api/deferred/create", create), web.post("/api/file/uploadfile", upload)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with Client(Target(url, url, "key")) as client:
        yield client
    await runner.cleanup()


async def test_a_refused_upload_ends_the_others(tmp_path: Path) -> None:
    entered: list[str] = []
    all_in, end = asyncio.Event(), asyncio.Event()

    async def upload(request: web.Request) -> web.Response:
        key = request.headers["idempotency-key"]
        entered.append(key)
        if len(entered) == FILES:
            all_in.set()
        await (all_in if key.endswith("-2") else end).wait()
        return web.json_response({"error": "Conflict", "message": "no"}, status=409)

    files = documents(tmp_path / "d")
    before = asyncio.all_tasks()
    async with gateway(upload) as client:
        with pytest.raises(CliError, match="no"):
            await submit_files(client, files, {})
        left = [task for task in asyncio.all_tasks() - before if "submit_files" in repr(task)]
        end.set()
        assert len(entered) == FILES and not left and not open_files(tmp_path / "d")


async def test_aborted_uploads_leave_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATIENCE_S", 0.6)
    files = documents(tmp_path / "d")
    held: list[int] = []

    async def cut(request: web.Request) -> web.Response:
        held.append(len(open_files(tmp_path / "d")))
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with gateway(cut) as client:
        with pytest.raises(CliError, match="cannot be reached"):
            await submit_files(client, files, {})
    assert len(held) > FILES and max(held) <= FILES and not open_files(tmp_path / "d")
