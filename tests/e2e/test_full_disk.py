"""A full disk heals: the supervisor goes on, the broker comes back once there is room, and the reason is named."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cli.client import Client
from tests.e2e.test_control import make
from tests.e2e.test_gateway import ended
from tests.eventually import eventually
from tests.pipelines import Pipeline

pytestmark = pytest.mark.kafka
SIZE_MIB = 420


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for a fresh pipeline and little more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not possible here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all of the room."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"\0" * (1 << 20)):
            pass
    with path.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"\0" * 512):
            pass
    return path


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def readiness(pipeline: Pipeline) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{pipeline.state['url']}/health/ready") as got:
        return {"status": got.status, **(await got.json())["reasons"]}


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_full_disk_heals(small_disk: Path) -> None:
    pipeline = Pipeline(small_disk / "d")
    await asyncio.to_thread(pipeline.start)
    try:
        async with Client(pipeline.target()) as client:
            await ended(client, await make(client, "noop-five"))
        assert pipeline.command("status").returncode == 0
        broker, supervisor = pipeline.state["pids"]["kafka"], pipeline.state["supervisor"]
        filler = fill(small_disk)
        await ends_on_the_full_disk(pipeline, broker)
        assert running(supervisor), (small_disk / "d" / "up.log").read_text()
        await names_the_disk(pipeline, small_disk)
        await refused(pipeline, small_disk)
        filler.unlink()
        await heals(pipeline, broker)
        assert running(supervisor)
    finally:
        await asyncio.to_thread(pipeline.stop)


async def ends_on_the_full_disk(pipeline: Pipeline, broker: int) -> None:
    async def broker_ended() -> bool:
        async with Client(pipeline.target()) as client:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(make(client, "noop-five"), 3)
        return not running(broker)

    await eventually(broker_ended, 90)


async def names_the_disk(pipeline: Pipeline, disk: Path) -> None:
    """The services without a path, and `stageline status` with the directory."""

    async def named() -> bool:
        said = await readiness(pipeline)
        return said["status"] == 503 and "disk is full" in said.get("disk", "") and str(disk) not in str(said)

    await eventually(named, 30)
    shown = pipeline.command("status", "--json")
    found = json.loads(shown.stdout)
    assert shown.returncode == 1 and f"the disk of {disk / 'd'} is full" in found["disk"]["message"], shown.stdout
    assert not found["parts"]["kafka"]["ready"]


async def heals(pipeline: Pipeline, broker: int) -> None:
    async def healed() -> bool:
        return pipeline.state["pids"]["kafka"] != broker and (await readiness(pipeline))["status"] == 200

    await eventually(healed, 120)

    async def works() -> bool:
        with contextlib.suppress(Exception):
            async with Client(pipeline.target()) as client:
                await asyncio.wait_for(ended(client, await make(client, "noop-five")), 20)
            return True
        return False

    await eventually(works, 90)


async def refused(pipeline: Pipeline, disk: Path) -> None:
    """The answer to a producer names no path."""
    key = pipeline.target().key
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http,
        http.post(
            f"{pipeline.state['url']}/v1/jobs", json={"workflow": "noop-five"}, headers={"Authorization": f"Bearer {key}"}
        ) as got,
    ):
        said = await got.text()
    assert got.status == 503 and str(disk) not in said, said
