"""A process that makes no progress says so, and ends; one that waits for Kafka or for a slot does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import Stop
from shared.runtime import health as module
from shared.runtime.health import BATCH_STALL_S, Health
from shared.runtime.service import Host
from shared.settings import Settings
from tests.eventually import eventually


def stuck_reader(may_wait: bool = False) -> Any:
    now = time.monotonic()
    return SimpleNamespace(
        name="stage_worker", last_poll=now, busy_since=now - BATCH_STALL_S - 1, may_wait=lambda: may_wait, failing_since=None
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "RESTART_S", 0.05)


async def ending(health: Health) -> list[Stop]:
    """What `watch` gave as the reason to end, within a moment."""
    reasons: list[Stop] = []
    watching = asyncio.create_task(health.watch(list, reasons.append))
    await asyncio.wait([watching], timeout=1)
    watching.cancel()
    return reasons


@pytest.mark.usefixtures("quick")
async def test_a_worker_whose_batch_is_stuck_is_not_live_and_ends() -> None:
    health = Health(readers=[stuck_reader()], started=True)
    assert "one batch has been in hand" in health.live()["stage_worker"]
    (reason,) = await ending(health)
    assert reason.code == "not_live" and "stage_worker: one batch" in str(reason)


@pytest.mark.usefixtures("quick")
async def test_a_worker_that_waits_for_a_slot_is_live_and_goes_on() -> None:
    health = Health(readers=[stuck_reader(may_wait=True)], started=True)
    assert health.live() == {} and await ending(health) == []


@pytest.mark.usefixtures("quick")
async def test_a_fault_that_passes_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART_S", 30)
    reader = stuck_reader()
    health = Health(readers=[reader], started=True)
    reasons: list[Stop] = []
    watching = asyncio.create_task(health.watch(list, reasons.append))

    async def noticed() -> bool:
        return health._failing_since is not None

    await eventually(noticed, 5)
    reader.busy_since = None

    async def forgotten() -> bool:
        return health._failing_since is None

    await eventually(forgotten, 5)
    watching.cancel()
    assert not reasons


def test_timers_that_wait_in_line_while_kafka_is_away_are_no_fault() -> None:
    loop: Any = SimpleNamespace(last_pass=time.monotonic() - module.TIMER_STALL_S - 1)
    health = Health(timers=[loop], started=True)
    assert "timers" in health.live()
    health.outage = lambda: True
    assert health.live() == {}


def test_a_process_with_a_blocked_event_loop_ends_and_says_where_it_stood() -> None:
    program = (
        "import asyncio, threading\nfrom shared.runtime import watchdog\nwatchdog.BLOCKED_S = 1\n"
        "async def main():\n    asyncio.get_running_loop().call_later(0.1, blocked_here)\n    await watchdog.end_when_blocked()\n"
        "def blocked_here():\n    threading.Event().wait(50)\nasyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40)
    assert done.returncode == 1 and "blocked_here" in done.stderr


async def test_a_resource_that_cannot_be_closed_does_not_keep_the_others_open(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host("session", Settings(drain_timeout_s=0.05))
    closed: list[str] = []

    async def broken() -> None:
        raise OSError("no")

    async def endless() -> None:
        await asyncio.Event().wait()

    async def fine() -> None:
        closed.append("closed")

    async def stores() -> None:
        closed.append("stores")

    host.closers += [broken, endless, fine]
    monkeypatch.setattr(host, "_close_stores", stores)
    server: Any = SimpleNamespace(should_exit=False)
    await host._drain(server, asyncio.create_task(asyncio.to_thread(int)))
    assert closed == ["closed", "stores"] and server.should_exit


async def test_background_work_that_is_cancelled_from_within_ends_the_process() -> None:
    host = Host("session", Settings())

    async def cancelled() -> None:
        inner = asyncio.create_task(asyncio.Event().wait())
        inner.cancel()
        await inner

    with pytest.raises(asyncio.CancelledError):
        await host._guarded(cancelled)
    assert host.fatal is not None and host.fatal.code == "background_failed"

    calm, begun = Host("session", Settings()), asyncio.Event()

    async def started() -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(calm._guarded(started))
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert calm.fatal is None, "a shutdown is no fault"
