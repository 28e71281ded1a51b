"""A store that is away costs no attempt, and what is said of it names no path of the server."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contracts import FileRef, StageReport
from contracts.public_text import public_text
from services.stage_worker import dependency_waits
from services.stage_worker.actions import Actions, serve_actions
from services.stage_worker.dependency_waits import DependencyWaits
from shared.objects import access
from shared.objects.object_store import Objects, TooLarge, open_objects
from stageline_kit import Task, Worker
from stageline_kit.testing import run_action
from tests.eventually import eventually


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependency_waits, "backoff", lambda failures: 0.01)
    monkeypatch.setattr(access, "PROBE_EVERY_S", 0.0)


class Steps:
    """The worker's action `result.package` on a folder, with its waits."""

    def __init__(self, folder: Path) -> None:
        self.objects = open_objects(folder.as_uri())
        self.waits = DependencyWaits(self.objects.access.probe)
        actions: Any = Actions.__new__(Actions)
        actions.objects = self.objects
        self.worker = Worker("nowhere:1", "w-1")
        self.worker.actions.update(serve_actions({"result.package": self.waits.around(actions.package_result)}, ()))

    async def end(self, timeout_s: float = 60) -> StageReport:
        """The last report of one task on a file."""
        return (await run_action(self.worker, "result.package", file=FILE, timeout_s=timeout_s))[-1]


FILE = FileRef(file_id="f-1", file_name="a.pdf")


def out_of_order(folder: Path) -> Path:
    """Put a file in place of the store's folder, which no user can write below, root neither."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("not a folder")
    return aside


def mend(folder: Path) -> None:
    """End `out_of_order`."""
    folder.unlink()
    folder.with_name("aside").rename(folder)


async def test_a_step_waits_for_the_store_and_then_ends_well(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    steps = Steps(folder)
    out_of_order(folder)
    running = asyncio.create_task(steps.end())
    await eventually(steps.waits.tasks_wait)
    assert (await steps.waits.tasks_wait() or "").startswith("1 tasks wait: object_store_unavailable")
    assert await steps.objects.access.object_store() is not None
    mend(folder)
    assert (await running).status.value == "OK"
    assert (await steps.waits.tasks_wait(), await steps.objects.access.object_store()) == (None, None)


async def test_a_long_outage_gives_the_task_back_without_an_attempt(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    steps = Steps(folder)
    out_of_order(folder)
    report = await steps.end(timeout_s=0.2)
    assert (report.status.value, report.code) == ("QUEUED", "dependency_unavailable")
    assert str(tmp_path) not in (report.message or "")


async def test_a_full_disk_of_the_worker_is_no_fault_of_an_action() -> None:
    async def action(task: Task) -> None:
        tried.append(task)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/reader/input")

    async def works() -> str | None:
        return None

    tried: list[Task] = []
    worker = Worker("nowhere:1", "w-1")
    worker.actions.update(serve_actions({"acme.work": DependencyWaits(works).around(action)}, ()))
    assert (await run_action(worker, "acme.work"))[-1].status.value == "OK"


async def test_faults_of_an_action_name_no_path() -> None:
    async def action(task: Task) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/srv/stage line/objects/acme/ab")

    worker = Worker("nowhere:1", "w-1")
    worker.actions.update(serve_actions({"acme.work": action}, ()))
    report = (await run_action(worker, "acme.work"))[-1]
    assert report.message == "PermissionError: [Errno 13] Permission denied: [path]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Unable to open file /srv/data/x#1: No space left (os error 28)",
            "Unable to open file [path]: No space left (os error 28)",
        ),
        ("see https://example.com/home/a and /invoice/lines/0", "see https://example.com/home/a and /invoice/lines/0"),
        ('could not read "/var/lib/my folder/x.pdf".', "could not read [path]."),
        ("file:///home/me/x, C:\\data\\x.pdf", "[path] [path]"),
        ("1/2 pages and/or 3 km/h", "1/2 pages and/or 3 km/h"),
    ],
)
def test_paths_of_a_server_are_left_out(text: str, shown: str) -> None:
    assert public_text(text) == shown


async def test_an_error_of_the_source_is_no_error_of_the_store(tmp_path: Path) -> None:
    objects: Objects = open_objects(tmp_path.as_uri())

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError("the source went away")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    with pytest.raises(ConnectionResetError):
        await objects.of("acme").put_stream(broken(), 100)
    with pytest.raises(TooLarge):
        await objects.of("acme").put_stream(endless(), 100)
    assert objects.access.availability.reason is None
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
