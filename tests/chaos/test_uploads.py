"""A large upload that is interrupted many times, also by killing the gateway, resumes with the right hash and little memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from cli.client import Client
from tests.conftest import Pipeline
from tests.e2e.test_uploads import OCTETS, TUS, said
from tests.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]
SIZE = int(os.environ.get("STAGELINE_UPLOAD_MB", "48")) << 20
CUTS = int(os.environ.get("STAGELINE_UPLOAD_CUTS", "12"))
PARALLEL = int(os.environ.get("STAGELINE_UPLOAD_PARALLEL", "60"))
KILLS_EVERY = 6
MAX_DOOR_BYTES = 200 << 20


def content(start: int, size: int) -> bytes:
    """Deterministic bytes of the file, generated on demand."""
    block = hashlib.sha256(str(start // 65_536).encode()).digest() * 2048
    return block[start % 65_536 :][:size] or b""


async def pieces(start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        part = content(start, min(65_536 - start % 65_536, end - start))
        start += len(part)
        yield part


class Gateway:
    """The gateway of a pipeline, and its peak memory."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.most = 0

    @property
    def pid(self) -> int:
        found: int = json.loads((self.pipeline.data_dir / "run" / "state.json").read_text())["pids"]["ingest"]
        return found

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def watch(self) -> None:
        async def look() -> bool:
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                self.most = max(self.most, psutil.Process(self.pid).memory_info().rss)
            return False

        await eventually(look, float("inf"), every_s=0.1)


class Upload:
    """A client that resumes at the gateway's offset."""

    def __init__(self, client: Client, path: str, size: int) -> None:
        self.client = client
        self.path = path
        self.size = size
        self.url = client.target.url

    async def offset(self) -> int:
        async def stands() -> str | None:
            with contextlib.suppress(aiohttp.ClientError):
                async with self.client.http.head(self.url + self.path, headers=TUS) as answer:
                    return answer.headers["Upload-Offset"] if answer.status == 200 else None
            return None

        return int(await eventually(stands, 60, every_s=0.1) or 0)

    async def send(self, until: int, on_end: Any = None) -> dict[str, str] | None:
        """Bring bytes up to `until`, then break off unless that is the end; None when the request was cut."""
        at = await self.offset()

        async def body() -> AsyncIterator[bytes]:
            async for part in pieces(at, until):
                yield part
            if on_end is not None:
                on_end()
                raise ConnectionResetError("cut")

        headers = {**OCTETS, "upload-offset": str(at), "content-length": str(self.size - at)}
        try:
            async with self.client.http.patch(self.url + self.path, data=body(), headers=headers) as answer:
                return dict(answer.headers) if answer.status == 204 else None
        except (aiohttp.ClientError, ConnectionError):
            return None


async def begin(client: Client, session: str, size: int) -> Upload:
    headers = {**TUS, "upload-length": str(size), "upload-metadata": said(session_id=session, filename="large.bin")}
    async with client.http.post(f"{client.target.url}/v1/uploads", headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        return Upload(client, urlsplit(answer.headers["Location"]).path, size)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_large_upload_that_is_cut(own_pipeline: Pipeline) -> None:
    own_pipeline.start()
    gateway = Gateway(own_pipeline)
    watching = asyncio.create_task(gateway.watch())
    dice = random.Random(7)
    async with Client(own_pipeline.target()) as client:
        session = (await client.call("POST", "/api/deferred/create"))["session_id"]
        upload = await begin(client, session, SIZE)
        offsets = [0]
        for number, until in enumerate(sorted(dice.sample(range(1, SIZE), CUTS)), 1):
            await upload.send(until, gateway.kill if number % KILLS_EVERY == 0 else lambda: None)
            offsets.append(await upload.offset())
            assert offsets[-2] <= offsets[-1] <= until, "no accepted byte is lost, and no byte counts that was not sent"
        last = None
        while last is None and await upload.offset() < SIZE:
            last = await upload.send(SIZE)
        digest = hashlib.sha256()
        async for part in pieces(0, SIZE):
            digest.update(part)
        record = await _record(client, session)
        assert record["file_size"] == SIZE and record["blob_name"].endswith(digest.hexdigest())
        await _many(client, PARALLEL)
    watching.cancel()
    left = under_way(own_pipeline)
    assert len(left) <= CUTS // KILLS_EVERY, "no part is left, except torn files of a killed gateway, which no row names"
    await _tidied(own_pipeline, left)
    assert gateway.most <= MAX_DOOR_BYTES, f"{gateway.most >> 20} MiB"
    print(
        f"{SIZE >> 20} MiB in {CUTS} cuts ({CUTS // KILLS_EVERY} kills), then {PARALLEL} uploads at once: door at most {gateway.most >> 20} MiB"
    )


def under_way(pipeline: Pipeline) -> list[Path]:
    return [p for p in (pipeline.data_dir / "objects" / "incoming").rglob("*") if p.is_file()]


async def _tidied(pipeline: Pipeline, left: list[Path]) -> None:
    """Files left by a killed gateway, complete or torn, are deleted by one that starts a day later. Younger files stay."""
    pipeline.stop()
    folder = pipeline.data_dir / "objects" / "incoming"
    left += [folder / "whole", folder / "default" / "torn#1"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    younger = {folder / "young", folder / "young#1"}
    for path in younger:
        path.write_bytes(b"x")
    pipeline.start()

    async def cleared() -> bool:
        return not any(path.exists() for path in left)

    assert await eventually(cleared) and set(under_way(pipeline)) == younger


async def _record(client: Client, session: str) -> dict[str, Any]:
    async def files() -> list[dict[str, Any]]:
        return list((await client.call("GET", f"/api/deferred/detail/{session}"))["files"])

    found: dict[str, Any] = await client.call("GET", f"/api/file/detail/{(await eventually(files, 120))[0]['id']}")
    return found


async def _many(client: Client, count: int) -> None:
    """Concurrent uploads of different sizes, all of which become files."""
    session = (await client.call("POST", "/api/deferred/create"))["session_id"]

    async def one(number: int) -> None:
        size = 500_000 + 10_000 * number
        upload = await begin(client, session, size)
        await upload.send(size // 2, lambda: None)
        while await upload.offset() < size:
            await upload.send(size)

    await asyncio.gather(*(one(n) for n in range(count)))

    async def all_there() -> bool:
        return len((await client.call("GET", f"/api/deferred/detail/{session}"))["files"]) == count

    assert await eventually(all_there, 120, every_s=0.1)


def test_the_file_is_what_it_is() -> None:
    whole = b"".join(content(i, 65_536) for i in range(0, 3 * 65_536, 65_536))
    assert content(70_000, 100) == whole[70_000:70_100] and base64.b64encode(whole[:3]) != base64.b64encode(whole[65_536:65_539])
