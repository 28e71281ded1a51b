"""The same worker program twice: on the kit alone, and on the service's relay and handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from contracts import StageReport, StageTask, TaskCancelled, Topic, WorkerSeen, from_record, task_topic, to_record
from services.stage_worker.actions import serve_actions
from services.stage_worker.adapters.transport import RelayTransport
from services.stage_worker.app import make_engine
from services.stage_worker.handlers import TaskHandlers
from shared.errors import Stop
from shared.kafka.record_reader import RecordReader
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry
from stageline_kit import PartitionListener, Task, TaskEngine, Worker
from tests.conformance.workers.fake_kafka import FakeBroker, FakeConsumer, FakeProducer
from tests.contracts.examples import OTHERS
from tests.eventually import eventually

ACTION = "acme.work"
TASKS = task_topic(ACTION)
GROUP = "workers"
EXAMPLE = next(m for m in OTHERS if isinstance(m, StageTask))
TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@dataclass
class Program:
    """The action under test. `behaviour` replaces what it does; by default it waits until its lease is in `released`."""

    behaviour: Callable[[Task], Awaitable[Any]] | None = None
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    released: set[str] = field(default_factory=set)
    at_once: int = 0
    most: int = 0

    async def act(self, task: Task) -> Any:
        """Run one task."""
        self.started.append(task.message.lease)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            return await (self.behaviour or self.wait)(task)
        except asyncio.CancelledError:
            self.stopped.append(task.message.lease)
            raise
        finally:
            self.at_once -= 1

    async def wait(self, task: Task) -> dict[str, Any]:
        """Wait until the test releases the lease."""
        await until(lambda: task.message.lease in self.released)
        return {"by": task.message.lease}


class RunningWorker:
    """One worker process. `stop` drains it; `crash` takes away all of its connections, as SIGKILL does."""

    def __init__(self, broker: str, name: str, program: Program, concurrency: int = 4, drain_s: float = 5.0) -> None:
        self.broker = broker
        self.name = name
        self.program = program
        self.concurrency = concurrency
        self.drain_s = drain_s
        self.clients: list[Any] = []
        self.process: asyncio.Task[None]
        self.engine: TaskEngine

    async def start(self) -> None:
        """Return when it has its share of the partitions."""
        consumers, producers = len(FakeConsumer.made), len(FakeProducer.made)
        self.process = asyncio.create_task(self.run())
        await until(lambda: any(c.group and c.positions is not None and c.listener.joined for c in FakeConsumer.made[consumers:]))
        self.clients = [*FakeConsumer.made[consumers:], *FakeProducer.made[producers:]]

    async def run(self) -> None:
        """The life of the process."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Drain and leave."""
        raise NotImplementedError

    async def crash(self) -> None:
        """End without a word. The group notices and is rebalanced."""
        for client in self.clients:
            client.dead = True
        broker = FakeBroker.known[self.broker]
        broker.members = [m for m in broker.members if not m.dead]
        runs = [running.run for running in self.engine.running.values()]
        for task in (self.process, *runs):
            task.cancel()
        await asyncio.gather(self.process, *runs, return_exceptions=True)
        await broker.rebalance()


class KitWorker(RunningWorker):
    """`stageline_kit.Worker`, as a user's program runs it."""

    async def run(self) -> None:
        self.worker = Worker(self.broker, self.name, group=GROUP, concurrency=self.concurrency, drain_s=self.drain_s)
        self.engine = self.worker._engine
        self.worker.action(ACTION)(self.program.act)
        await self.worker.run()

    async def stop(self) -> None:
        self.worker.stop()
        await self.process


class StageWorker(RunningWorker):
    """Engine, transport, hooks and handlers of `services/stage_worker`; the host starts the same loops."""

    async def run(self) -> None:
        telemetry = Telemetry("test", self.name)
        consumer = FakeConsumer(bootstrap_servers=self.broker, group_id=GROUP)
        cancellations = FakeConsumer("stage.cancellations", bootstrap_servers=self.broker)
        relay = Relay(FakeProducer(self.broker), telemetry, "test")  # type: ignore[arg-type]
        transport = RelayTransport(relay, telemetry, lambda: consumer, GROUP)
        actions = serve_actions({ACTION: self.program.act}, ())
        engine = make_engine(self.name, actions, self.concurrency, transport, telemetry, grace_s=0)
        self.engine = engine
        self.handlers = TaskHandlers(engine, telemetry, [TASKS], GROUP, self.fail)
        consumer.subscribe([TASKS.name], PartitionListener(engine))
        reader = RecordReader(lambda: consumer, self.handlers.on_tasks, GROUP)
        transport.drop_queued = reader.drop
        self.stopping = asyncio.Event()
        loops = [
            reader.run(), RecordReader(lambda: cancellations, self.handlers.on_cancellations, "cancellations").run(),
            engine.reports.run_publisher(), engine.announce_often(),
        ]  # fmt: skip
        await consumer.start()
        await cancellations.start()
        tasks = [asyncio.create_task(work) for work in loops]
        try:
            await self.stopping.wait()
            await engine.announce(leaving=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(engine.drain(self.drain_s * 0.8), self.drain_s)
            await consumer.stop()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def fail(self, error: Stop) -> None:
        """The process would end."""
        raise AssertionError(error)

    async def stop(self) -> None:
        self.stopping.set()
        await self.process


async def until(look: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Wait for a fact of this process."""

    async def seen() -> Any:
        return look()

    await eventually(seen, timeout_s, 0.005)


@dataclass
class Orchestrator:
    """The other side of the topics: hands tasks out, cancels them, reads reports."""

    broker: FakeBroker

    def send_task(self, lease: str, partition: int = 0, **changes: Any) -> int:
        """Write a task; returns its offset."""
        task = EXAMPLE.model_copy(update={"lease": lease, "task_id": f"task-{lease}", "action": ACTION, **changes})
        record = to_record(task, "/test", (("traceparent", TRACE.encode()),))
        return self.broker.append(TASKS.name, record.key, record.value, record.headers, partition)

    def cancel(self, lease: str) -> None:
        """Say that the result of this attempt is no longer wanted."""
        example = next(m for m in OTHERS if isinstance(m, TaskCancelled))
        record = to_record(example.model_copy(update={"lease": lease, "event_id": f"cancel-{lease}"}), "/test")
        self.broker.append("stage.cancellations", record.key, record.value, record.headers)

    def reports(self, lease: str | None = None) -> list[StageReport]:
        """Reports in Kafka, as a reader decodes them."""
        found = [from_record(r.value, r.headers, frozenset({StageReport.TYPE})) for r in self.broker.records("stage.reports")]
        return [r for r in found if isinstance(r, StageReport) and lease in (None, r.lease)]

    def ends(self, lease: str | None = None) -> list[StageReport]:
        """Reports but for heartbeats."""
        return [r for r in self.reports(lease) if r.status.value != "RUN"]

    def seen(self) -> list[WorkerSeen]:
        """Signs of presence."""
        found = [from_record(r.value, r.headers, frozenset({WorkerSeen.TYPE})) for r in self.broker.records("stage.workers")]
        return [s for s in found if isinstance(s, WorkerSeen)]

    def committed(self, partition: int = 0, topic: Topic = TASKS) -> int:
        """The group's offset."""
        return next((o for tp, o in self.broker.committed.items() if (tp.topic, tp.partition) == (topic.name, partition)), 0)
