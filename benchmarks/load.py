"""Load for Stageline and for the limit: send jobs, wait for their ends, measure time, CPU and memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.limit import PADDING, producer
from contracts import CreateJob, JobFinished, JobRequest, Tenancy, derived, to_record
from shared import clock
from stageline_kit import kafka_options

OWNER = Tenancy(tenant_id="default", tenant_name="Bench", user_name="bench")
Job = tuple[str, str, bytes, list[tuple[str, bytes]]]
"""Id, topic, value, headers."""


def our_job() -> Job:
    """A CreateJob for the five-stage no-op workflow, about 500 bytes of value."""
    job_id = clock.new_root()
    wish = JobRequest(workflow="noop-five", metadata={"note": PADDING[:120]})
    command = CreateJob(command_id=derived(job_id, "c"), job_id=job_id, owner=OWNER, issued_at=clock.now(), job=wish)
    record = to_record(command, "/bench")
    return job_id, "job.commands", record.value, list(record.headers)


def bare_job() -> Job:
    """A job for the limit, of the same size."""
    job_id = clock.new_root()
    return job_id, "limit.commands", json.dumps({"id": job_id, "stage": 0, "padding": PADDING}).encode(), []


def our_end(record: Any) -> bool:
    """True for the record of a `JobFinished`."""
    return dict(record.headers).get("ce_type") == JobFinished.TYPE.encode()


@dataclass
class Ends:
    """Reads the topic of ends from now on and notes the time of each job's end (`at`: job id → monotonic seconds)."""

    bootstrap: str
    topic: str
    is_end: Callable[[Any], bool]
    at: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _consumer: Any = None
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Ends:
        self._consumer = AIOKafkaConsumer(
            self.topic, **kafka_options(self.bootstrap), group_id=None, enable_auto_commit=False, auto_offset_reset="latest"
        )
        await self._consumer.start()
        await self._consumer.seek_to_end()
        for tp in self._consumer.assignment():
            await self._consumer.position(tp)
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await self._consumer.stop()

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                now = time.monotonic()
                for record in records:
                    if self.is_end(record):
                        self.at[record.key.decode()] = now
            self.changed.set()

    async def wait(self, ids: list[str], timeout_s: float) -> None:
        """Wait until all jobs in `ids` have ended. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while any(i not in self.at for i in ids):
                self.changed.clear()
                await self.changed.wait()


async def backlog(sink: AIOKafkaProducer, ends: Ends, make: Callable[[], Job], count: int) -> float:
    """Send `count` jobs at once, and wait for their ends. Returns completed jobs per second."""
    jobs = [make() for _ in range(count)]
    started = time.monotonic()
    acks = [await sink.send(topic, value, i.encode(), headers=headers) for i, topic, value, headers in jobs]
    await asyncio.gather(*acks)
    ids = [j[0] for j in jobs]
    await ends.wait(ids, 300)
    return count / (max(ends.at[i] for i in ids) - started)


async def trickle(sink: AIOKafkaProducer, ends: Ends, make: Callable[[], Job], count: int, per_s: float) -> list[float]:
    """Send `count` jobs at a steady rate. Returns the seconds from submit to finish of each, sorted."""
    sent: dict[str, float] = {}
    begin = time.monotonic()
    for n in range(count):
        await asyncio.sleep(max(0.0, begin + n / per_s - time.monotonic()))
        i, topic, value, headers = make()
        sent[i] = time.monotonic()
        await sink.send_and_wait(topic, value, i.encode(), headers=headers)
    await ends.wait(list(sent), 60)
    return sorted(ends.at[i] - t for i, t in sent.items())


class Meter:
    """CPU time since its creation, and memory, of named processes and their children."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.forkserver = pids.get("forkserver")
        self.before = {name: self._cpu(p) for name, p in self.processes.items()}

    def _children(self, process: psutil.Process) -> list[psutil.Process]:
        # A process that is measured under its own name does not count as a child of the fork server as well.
        alone = [p for p in self.processes.values() if p != process]
        others = {c for p in alone for c in (p, *p.children(recursive=True))} if process.pid == self.forkserver else set()
        return [c for c in process.children(recursive=True) if c not in others]

    def _cpu(self, process: psutil.Process) -> float:
        # The parent's `children_*` times hold the CPU time of children that have ended.
        times = [p.cpu_times() for p in (process, *self._children(process))]
        return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds per process since the meter was created."""
        return {name: self._cpu(p) - self.before[name] for name, p in self.processes.items()}

    def peak_mib(self) -> dict[str, float]:
        """Peak memory per process in MiB: Linux `VmHWM`, with shared pages (libraries) counted by share (`Pss` instead of `Rss`).

        Children are added with the `Pss` that they have now.
        """
        found: dict[str, float] = {}
        for name, p in self.processes.items():
            with open(f"/proc/{p.pid}/status") as status:
                line = next(line for line in status if line.startswith("VmHWM"))
            own = p.memory_full_info()
            children = sum(c.memory_full_info().pss for c in self._children(p))
            found[name] = int(line.split()[1]) / 1024 + (own.pss - own.rss + children) / 2**20
        return found


__all__ = ["Ends", "Meter", "backlog", "bare_job", "our_end", "our_job", "producer", "trickle"]
