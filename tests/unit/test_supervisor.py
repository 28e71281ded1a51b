"""The supervisor goes on whatever its output does, and starts the broker when the disk has room."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.local import disk_watch, former
from cli.local.disk_watch import RESUME_BYTES, DiskWatch
from cli.local.plan import MIN_FREE_BYTES, Plan
from cli.local.supervisor import Child, Supervisor
from shared.runtime import disk_space
from shared.runtime.disk_space import FULL_BYTES, shortage
from tests.eventually import eventually


class Disk:
    """A disk with as much room as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.free = free
        monkeypatch.setattr(disk_watch, "free_bytes", lambda folder: self.free)
        monkeypatch.setattr(disk_space, "free_bytes", lambda folder: self.free)
        monkeypatch.setattr(disk_watch, "LOOK_S", 0.01)


def full(line: str) -> None:
    raise OSError(28, "No space left on device")


def plan_in(folder: Path) -> Plan:
    (folder / "run").mkdir()
    (folder / "logs").mkdir()
    return Plan(folder, ports={"kafka": 1, "ingest": 2, "notifier": 3})


async def test_a_line_that_cannot_be_written_ends_no_watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, 0)
    supervisor = Supervisor(plan_in(tmp_path), full)
    child = Child("kafka", ["sleep", "60"], dict(os.environ), tmp_path / "logs" / "kafka.log", None)
    monkeypatch.setattr(Plan, "write_state", lambda *_: full(""))
    await child.start()
    first = child.process
    assert first is not None
    watcher = asyncio.create_task(supervisor._watch(child))
    first.kill()

    async def counted() -> bool:
        return child.restarts == 1

    await eventually(counted, 10)
    await asyncio.wait({watcher}, timeout=0.5)
    assert not watcher.done() and child.process is first, "it waits for room"
    disk.free = RESUME_BYTES

    async def again() -> bool:
        return child.process is not first and child.process is not None and child.process.returncode is None

    await eventually(again, 10)
    watcher.cancel()
    await child.stop()


def test_the_state_of_the_disk_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, said = Disk(monkeypatch, MIN_FREE_BYTES), list[str]()
    watch = DiskWatch(tmp_path, said.append)
    for free in (
        MIN_FREE_BYTES,
        MIN_FREE_BYTES - 1,
        FULL_BYTES - 1,
        FULL_BYTES - 2,
        FULL_BYTES + 1,
        RESUME_BYTES,
        MIN_FREE_BYTES,
    ):
        disk.free = free
        watch.look()
        watch.look()
    assert [line.removeprefix(f"the disk of {tmp_path} ").split(":")[0] for line in said] == [
        "is nearly full",
        "is full",
        "is nearly full",
        "has room",
    ]


def test_tenants_read_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, FULL_BYTES)
    assert shortage(tmp_path) is None
    disk.free = FULL_BYTES - 1
    assert shortage(tmp_path) == "the server's disk is full: 31 MiB are left"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_the_processes_of_a_killed_supervisor_are_waited_for(tmp_path: Path) -> None:
    logs, said = tmp_path / "logs", list[str]()
    logs.mkdir()
    stubborn = (
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\nprint('up', flush=True)\nwhile True: signal.pause()"
    )
    with (logs / "session.log").open("wb") as ours, (logs / "notes.log").open("wb") as other:
        old = subprocess.Popen([sys.executable, "-c", stubborn], stdout=ours)
        stranger = subprocess.Popen([sys.executable, "-c", stubborn], stdout=other)
    try:

        async def up() -> bool:
            return all(path.read_text() == "up\n" for path in logs.iterdir())

        await eventually(up, 20)
        assert former.former(tmp_path) == {old.pid: "session"}
        reaping = asyncio.create_task(asyncio.to_thread(old.wait))
        await former.end_former(tmp_path, said.append, 0.3)
        assert await asyncio.wait_for(reaping, 10) == -9 and said and "session" in said[0]
        assert stranger.poll() is None, "nothing else is ended"
    finally:
        for process in (old, stranger):
            process.kill()
            process.wait()
