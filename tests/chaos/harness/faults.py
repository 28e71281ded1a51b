"""Applies the faults of a plan. Each is over, and healed, when its time is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stageline_kit import Producer
from tests.chaos.harness.door import Door, Unanswered
from tests.chaos.harness.evidence import BROKEN, Applied
from tests.chaos.harness.hostile import hostile_records
from tests.chaos.harness.plan import SERVICES, Fault, Plan
from tests.chaos.harness.receiver import Receiver
from tests.chaos.harness.system import System, now, passed

DOWN_S = 2.0
"""How long a killed database or worker of the kit stays away."""
FULL_BYTES = 1 << 20
HEALED_S = 60.0
REPEATED_S = 20.0


class Faults:
    """The running faults. `applied` holds their windows."""

    def __init__(
        self, plan: Plan, system: System, receiver: Receiver, door: Door, producer: Producer, endpoints: list[str]
    ) -> None:
        self.plan = plan
        self.system = system
        self.receiver = receiver
        self.door = door
        self.producer = producer
        self.endpoints = endpoints
        self.applied: list[Applied] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self._away: set[int] = set()
        self._kinds: dict[str, Callable[[Fault], Awaitable[str]]] = {
            "kill": self._kill, "terminate": self._terminate, "stop": self._stop, "kill_broker": self._kill,
            "pause_broker": self._stop, "kill_database": self._kill_database, "store_read_only": self._store_read_only,
            "store_away": self._store_away, "disk_full": self._disk_full, "topic_deleted": self._topic_deleted,
            "receiver": self._receiver, "hostile_records": self._hostile, "worker_killed": self._worker_killed,
            "worker_joins": self._worker_joins,
        }  # fmt: skip

    @contextlib.asynccontextmanager
    async def kit_workers(self) -> AsyncIterator[None]:
        """Two workers of the kit, as programs of their own."""
        self.workers = [self._start_worker(f"kit-{n}") for n in (1, 2)]
        watching = asyncio.create_task(self._start_workers_again())
        try:
            yield
        finally:
            watching.cancel()
            for worker in self.workers:
                worker.terminate()
            for worker in self.workers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(worker.wait, 15)
                worker.kill()
                worker.wait()

    async def _start_workers_again(self) -> None:
        """As a supervisor does: a worker that ended by itself is started again."""
        while True:
            await passed(1.0)
            for n, worker in enumerate(self.workers):
                if worker.poll() is not None and n not in self._away:
                    self.workers[n] = self._start_worker(f"kit-{n + 1}")

    def _start_worker(self, name: str) -> subprocess.Popen[bytes]:
        with (self.system.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.chaos.harness.kit_worker", name]
            return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **self.system.kafka})

    async def run(self) -> None:
        """Apply each fault at its time; returns when all are over."""
        began = now()
        under_way: list[asyncio.Task[None]] = []
        try:
            for fault in self.plan.faults:
                await passed(began + fault.at - now())
                under_way.append(asyncio.create_task(self._apply(fault)))
            await asyncio.gather(*under_way)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _apply(self, fault: Fault) -> None:
        began, note = now(), "cut off"
        try:
            note = await self._kinds[fault.kind](fault)
        except (ProcessLookupError, KeyError):
            note = "not there"  # it has just ended, by another fault
        except Exception as error:
            note = f"{BROKEN}: {error!r}"  # the run goes on, and says so at its end
        finally:
            self.applied.append(Applied(fault.kind, fault.target, began, now(), note))
            print(f"  {self.applied[-1]}", flush=True)
        if fault.target == "410":
            await self.enable_endpoints()

    async def _kill(self, fault: Fault) -> str:
        self.system.signal(fault.target, signal.SIGKILL)
        return ""

    async def _terminate(self, fault: Fault) -> str:
        self.system.signal(fault.target, signal.SIGTERM)
        return ""

    async def _stop(self, fault: Fault) -> str:
        pid = self.system.signal(fault.target, signal.SIGSTOP)
        try:
            await passed(fault.lasts)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return ""

    async def _kill_database(self, fault: Fault) -> str:
        assert self.system.database is not None
        self.system.database.kill()
        try:
            await passed(DOWN_S)
        finally:
            await self.system.database.start_again()
        return ""

    async def _store_read_only(self, fault: Fault) -> str:
        """Rights of the folders, or, for root, whom rights do not stop, a read-only mount."""
        objects = self.system.objects
        if os.getuid() != 0:
            folders = [objects, *(p for p in objects.rglob("*") if p.is_dir())]

            def allow(rights: int) -> None:
                for path in folders:
                    path.chmod(rights)

            return await self._meanwhile(fault, lambda: allow(0o500), lambda: allow(0o700))
        mount = subprocess.run(["mount", "--bind", str(objects), str(objects)], capture_output=True)
        if mount.returncode != 0:
            return "could not be mounted; " + await self._store_away(fault)
        read_only = ["mount", "-o", "remount,ro,bind", str(objects)]
        return await self._meanwhile(
            fault,
            lambda: subprocess.run(read_only, check=True),
            lambda: subprocess.run(["umount", "-l", str(objects)], check=True),
        )

    async def _store_away(self, fault: Fault) -> str:
        """The folder is moved away, and a file is in its place, so that nothing can make it again."""
        objects = self.system.objects
        away = objects.with_name("objects.away")

        def leave() -> None:
            objects.rename(away)
            objects.write_text("")

        def come_back() -> None:
            objects.unlink()
            away.rename(objects)

        return await self._meanwhile(fault, leave, come_back)

    async def _disk_full(self, fault: Fault) -> str:
        ballast = self.system.pipeline.data_dir / "ballast"
        try:
            left = await asyncio.to_thread(fill, ballast)
            await passed(fault.lasts)
        finally:
            ballast.unlink()
        return f"{left >> 10} KiB left"

    async def _meanwhile(self, fault: Fault, begin: Callable[[], object], end: Callable[[], object]) -> str:
        try:
            begin()
            await passed(fault.lasts)
        finally:
            end()
        return ""

    async def _topic_deleted(self, fault: Fault) -> str:
        until = now() + REPEATED_S  # the broker may be away by another fault
        while True:
            admin = AIOKafkaAdminClient(**self.system.kafka_options)
            try:
                await admin.start()
                await admin.delete_topics([fault.target])
                return ""
            except KafkaError as error:
                if now() > until:
                    return f"refused: {type(error).__name__}"
            finally:
                await admin.close()
            await passed(1.0)

    async def _receiver(self, fault: Fault) -> str:
        self.receiver.set_mood(fault.target)
        try:
            await passed(fault.lasts)
        finally:
            self.receiver.set_mood("well")
        return ""

    async def enable_endpoints(self) -> None:
        """What an operator does after a 410: enable the endpoint, whose events were held back."""
        for endpoint in self.endpoints:
            with contextlib.suppress(Unanswered):
                await self.door.call("POST", f"/v1/webhooks/{endpoint}/enable", notifier=True)

    async def _hostile(self, fault: Fault) -> str:
        rng = random.Random(f"{self.plan.seed}/hostile/{fault.number}")
        sent = 0
        for topic, key, value, headers in hostile_records(rng):
            with contextlib.suppress(KafkaError):
                await self.producer.send_raw(topic, key, value, headers)
                sent += 1
        return f"{sent} records"

    async def _worker_killed(self, fault: Fault) -> str:
        victim = fault.number % len(self.workers)
        self._away.add(victim)
        self.workers[victim].kill()
        await asyncio.to_thread(self.workers[victim].wait)
        await passed(DOWN_S)
        self._away.discard(victim)
        return f"kit-{victim + 1}"

    async def _worker_joins(self, fault: Fault) -> str:
        joined = self._start_worker(f"joiner-{fault.number}")
        try:
            await passed(fault.lasts)
        finally:
            joined.terminate()
            try:
                code = await asyncio.to_thread(joined.wait, 30)
            except subprocess.TimeoutExpired:
                joined.kill()
                code = joined.wait()
        return f"left with code {code}"

    async def heal(self) -> list[str]:
        """Everything runs again. Returns what is not: services that are not ready within `HEALED_S`, and what they say."""
        for pid in (await self.system.processes()).values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.receiver.set_mood("well")
        await self.enable_endpoints()
        urls = [url for service in SERVICES for url in self.system.urls(service)]
        until = now() + HEALED_S
        while (found := [said for url in urls if (said := await _not_ready(url))]) and now() < until and not self.system.ended():
            await passed(0.5)
        return [*self.system.ended(), *found]


def fill(ballast: Path) -> int:
    """Write a file until the disk is full; returns what is left. In ever smaller parts, because others write beside it."""
    with ballast.open("wb", buffering=0) as stream:
        for size in (8 << 20, 256 << 10, 4 << 10):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))
    left = shutil.disk_usage(ballast.parent).free
    if left > FULL_BYTES:
        raise OSError(f"the disk did not become full: {left >> 10} KiB are left")
    return left


async def _not_ready(url: str) -> str:
    """What a service says that is not ready; empty when it is."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http,
            http.get(f"{url}/health/ready") as answer,
        ):
            return "" if answer.status == 200 else f"{url}: {answer.status} {(await answer.text())[:300]}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{url}: {type(error).__name__}"
