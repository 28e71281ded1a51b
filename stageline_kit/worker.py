"""A worker of your own: it takes tasks of its actions, keeps their leases alive and reports how they ended."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import StageTask, TaskCancelled, UndecodableRecord, from_record, task_topic
from contracts.topics import STAGE_CANCELLATIONS_TOPIC
from stageline_kit.engine import PartitionListener, TaskEngine
from stageline_kit.hooks import Delivery, WorkerHooks
from stageline_kit.kafka_transport import KafkaTransport
from stageline_kit.runner import Action

log = logging.getLogger(__name__)
A = TypeVar("A", bound=Action)
CLIENT = "stageline-kit/0.3.0"
COMMIT_EVERY_S = 0.2
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


class Worker:
    """`@worker.action("acme.translate")` on an `async` or plain function of one `Task`; then `asyncio.run(worker.run())`.

    The function returns the step's result (a JSON object, or None) or raises an `Outcome`. Any other exception is reported
    as ERR, and the step's retry policy decides. At most `concurrency` tasks run at a time; plain functions run in threads.
    `name` is what operators see. `group` defaults to a name made of the actions. On shutdown running tasks have `drain_s`
    seconds. `hooks` are your extension points. `kafka` are aiokafka's options (`security_protocol`, …).
    """

    def __init__(
        self,
        bootstrap_servers: str,
        name: str | None = None,
        *,
        group: str | None = None,
        concurrency: int = 4,
        drain_s: float = 30,
        hooks: WorkerHooks | None = None,
        **kafka: Any,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.name = name or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self.group = group
        self.concurrency = concurrency
        self.drain_s = drain_s
        self.kafka = kafka
        self.actions: dict[str, Action] = {}
        self.stopping = asyncio.Event()
        self._transport = KafkaTransport(bootstrap_servers, f"/worker/{self.name}", **kafka)
        self._engine = TaskEngine(self.name, self.actions, concurrency, self._transport, hooks, client=CLIENT)

    def action(self, name: str) -> Callable[[A], A]:
        """Register a function as the action `name`, e.g. `acme.translate`. Raises `ValueError` for a bad or taken name."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name of an action: lower-case words with dots, e.g. acme.translate")

        def register(function: A) -> A:
            if name in self.actions:
                raise ValueError(f"there is an action {name!r} already")
            self.actions[name] = function
            return function

        return register

    async def run(self) -> None:
        """Work until SIGTERM, SIGINT or `stop()`; then finish what runs (for `drain_s`) and leave the group."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        group = self.group or "workers." + "+".join(sorted(self.actions))
        await self._transport.start(group, [task_topic(name).name for name in self.actions], PartitionListener(self._engine))
        try:
            await self._work()
        finally:
            await self._transport.stop()

    def stop(self) -> None:
        """Begin to drain: no task starts any more."""
        self._engine.draining = True
        self.stopping.set()

    def cancel(self, lease: str) -> None:
        """Stop the task that runs under `lease`, or never start it. Its result is not reported."""
        self._engine.cancel_lease(lease)

    async def _work(self) -> None:
        engine = self._engine
        loops = (
            self._take_tasks, self._watch_cancellations, self._commit_often, engine.reports.run_publisher, engine.announce_often,
        )  # fmt: skip
        tasks = [asyncio.create_task(work()) for work in loops]
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            tasks[0].cancel()
            await self._drain()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.commit_offsets()
        await engine.announce(leaving=True)
        for task in done - {stopping}:
            task.result()

    async def _drain(self) -> None:
        try:
            await asyncio.wait_for(self._engine.drain(), self.drain_s)
        except TimeoutError:
            log.warning("tasks were cut off after %s s; Kafka delivers them again", self.drain_s)

    async def _take_tasks(self) -> None:
        # One at a time and only with a free slot: the rest stays in Kafka, where another worker may get it.
        while True:
            await self._engine.wait_for_slot()
            record = await self._transport.consumer.getone()
            position = TopicPartition(record.topic, record.partition), record.offset
            self._engine.open_tasks([position])
            try:
                task = from_record(record.value, record.headers, frozenset({StageTask.TYPE}))
            except UndecodableRecord as error:
                log.error("a task cannot be read and is skipped: %s", error)
                self._engine.reports.close_tasks([position])
                continue
            assert isinstance(task, StageTask)
            await self._engine.accept_task(Delivery(task, position, tuple(record.headers)))

    async def _watch_cancellations(self) -> None:
        # No group: every worker reads all cancellations, because any of them may hold the task.
        consumer = AIOKafkaConsumer(
            STAGE_CANCELLATIONS_TOPIC.name, bootstrap_servers=self.bootstrap_servers, group_id=None, enable_auto_commit=False,
            auto_offset_reset="earliest", **self.kafka,
        )  # fmt: skip
        await consumer.start()
        try:
            async for record in consumer:
                try:
                    note = from_record(record.value, record.headers, frozenset({TaskCancelled.TYPE}))
                except UndecodableRecord:
                    continue
                if isinstance(note, TaskCancelled):
                    self._engine.cancel_lease(note.lease)
        finally:
            await consumer.stop()

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self._transport.commit_offsets()
