"""A worker of your own: takes tasks of its actions, keeps their leases alive, reports how they ended."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from contracts import StageReport, StageTask, TaskCancelled, UndecodableRecord, WorkerSeen, from_record, task_topic
from contracts.topics import STAGE_CANCELLATIONS_TOPIC
from stageline_kit.producer import Producer
from stageline_kit.run import CLIENT, Action, Runner
from stageline_kit.task import Task
from stageline_kit.telemetry import processing
from stageline_kit.watermark import Place, Watermark

log = logging.getLogger(__name__)
A = TypeVar("A", bound=Action)
COMMIT_EVERY_S = 0.2
REMEMBER = 10_000
SEEN_EVERY_S = 10.0
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


class Worker(ConsumerRebalanceListener):  # type: ignore[misc]
    """`@worker.action("acme.translate")` on an `async` or plain function of one `Task`; then `asyncio.run(worker.run())`.

    The function returns the step's result (a JSON object, or None) or raises an `Outcome`; anything else it raises is an ERR that
    the step's retry policy decides about. At most `concurrency` tasks run at once, plain functions in threads. `name` is who "has
    it now" for an operator. `kafka` are aiokafka's options (`security_protocol`, …).
    """

    def __init__(
        self,
        bootstrap_servers: str,
        name: str | None = None,
        *,
        group: str | None = None,
        concurrency: int = 4,
        drain_s: float = 30,
        **kafka: Any,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.name = name or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self.group = group
        self.concurrency = concurrency
        self.drain_s = drain_s
        self.kafka = kafka
        self.actions: dict[str, Action] = {}
        self.running: dict[str, tuple[Task, asyncio.Task[None], list[Place]]] = {}
        """Lease → the task, its run, and the deliveries that it answers."""
        self.cancelled: OrderedDict[str, None] = OrderedDict()
        self.watermark = Watermark()
        self._traces: dict[str, str | None] = {}
        self.stopping = asyncio.Event()
        self._slots = asyncio.Semaphore(concurrency)
        self._runner = Runner(self.name, uuid.uuid4().hex, self._send)
        self._producer: Producer
        self._tasks: AIOKafkaConsumer

    def action(self, name: str) -> Callable[[A], A]:
        """Register the function as the action of this name, e.g. `acme.translate`. Raises `ValueError` if that is taken or no name."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name of an action: lower-case words with dots, e.g. acme.translate")

        def register(function: A) -> A:
            if name in self.actions:
                raise ValueError(f"there is an action {name!r} already")
            self.actions[name] = function
            return function

        return register

    async def run(self) -> None:
        """Work until SIGTERM, SIGINT or `stop()`; then take nothing new, finish what runs (for `drain_s`) and leave the group."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self._producer = Producer(self.bootstrap_servers, f"/worker/{self.name}", **self.kafka)
        self._tasks = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap_servers, group_id=self.group or "workers." + "+".join(sorted(self.actions)),
            enable_auto_commit=False, auto_offset_reset="earliest", max_poll_interval_ms=3_600_000, metadata_max_age_ms=5000,
            **self.kafka,
        )  # fmt: skip
        self._tasks.subscribe([task_topic(name).name for name in self.actions], listener=self)
        async with self._producer:
            await self._tasks.start()
            try:
                await self._work()
            finally:
                await self._tasks.stop()

    def stop(self) -> None:
        """Begin to drain."""
        self.stopping.set()

    async def _work(self) -> None:
        helpers = [
            asyncio.create_task(work()) for work in (self._take, self._watch_cancellations, self._commit_often, self._say_often)
        ]
        stopping = asyncio.create_task(self.stopping.wait())
        done, _ = await asyncio.wait([*helpers, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        helpers[0].cancel()
        if self.running:
            await asyncio.wait([run for _, run, _ in self.running.values()], timeout=self.drain_s)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await self._commit()
        await self._say(leaving=True)
        for helper in helpers:
            if helper in done:
                helper.result()

    async def _take(self) -> None:
        # One at a time and only with a free slot: what we cannot run yet stays in Kafka, where another worker may get it.
        while True:
            await self._slots.acquire()
            try:
                record = await self._tasks.getone()
            except BaseException:
                self._slots.release()
                raise
            place = TopicPartition(record.topic, record.partition), record.offset
            self.watermark.opened(place)
            try:
                task = from_record(record.value, record.headers, frozenset({StageTask.TYPE}))
                assert isinstance(task, StageTask)
            except UndecodableRecord as error:
                log.error("a task that cannot be read is left out: %s", error)
                task = None
            if task is not None and task.lease in self.running:
                # Delivered again after a rebalance while we still run it: one run answers both.
                self._slots.release()
                self.running[task.lease][2].append(place)
                continue
            if task is None or task.lease in self.cancelled:
                self._slots.release()
                self.watermark.closed(place)
                continue
            self._start(Task(task), place, tuple(record.headers))

    def _start(self, task: Task, place: Place, headers: tuple[tuple[str, bytes], ...]) -> None:
        run = asyncio.create_task(self._one(task, place[0].topic, headers))
        self.running[task.message.lease] = task, run, [place]
        run.add_done_callback(partial(self._ended, task.message.lease))

    async def _one(self, task: Task, topic: str, headers: tuple[tuple[str, bytes], ...]) -> None:
        with processing(topic, None, headers, **{"job.id": task.job_id, "attempt": task.attempt}) as trace:
            self._traces[task.message.lease] = trace
            await self._runner.run(task, self.actions.get(task.message.action))

    def _ended(self, lease: str, run: asyncio.Task[None]) -> None:
        _, _, places = self.running.pop(lease)
        self._traces.pop(lease, None)
        self._slots.release()
        if run.cancelled() and lease not in self.cancelled:
            return  # cut off while draining: delivered again to somebody else
        if not run.cancelled() and run.exception() is not None:
            log.error("the report of a task could not be sent", exc_info=run.exception())
            return
        for place in places:
            self.watermark.closed(place)

    async def _say_often(self) -> None:
        while True:
            await self._say()
            await asyncio.sleep(SEEN_EVERY_S)

    async def _say(self, leaving: bool = False) -> None:
        # How an operator can know that nobody does an action; work goes on without it.
        actions = tuple(sorted(self.actions))
        seen = WorkerSeen(
            worker=self.name, actions=actions, slots=self.concurrency, leaving=leaving, client=CLIENT, seen_at=datetime.now(UTC)
        )
        try:
            await self._producer.publish(seen)
        except KafkaError as error:
            log.warning("not said that this worker is here: %r", error)

    async def _send(self, report: StageReport) -> None:
        while True:
            try:
                return await self._producer.publish(report, traceparent=self._traces.get(report.lease))
            except KafkaError as error:
                log.warning("a report will be sent again: %r", error)
                await asyncio.sleep(1)

    async def _watch_cancellations(self) -> None:
        # No group: whoever holds the task must hear of it, so everybody hears everything.
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
                    self.cancel(note.lease)
        finally:
            await consumer.stop()

    def cancel(self, lease: str) -> None:
        """Nobody wants the result of this attempt any more."""
        self.cancelled[lease] = None
        while len(self.cancelled) > REMEMBER:
            self.cancelled.popitem(last=False)
        if lease in self.running:
            task, run, _ = self.running[lease]
            task._cancelled.set()
            run.cancel()

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self._commit()

    async def _commit(self) -> None:
        offsets = {tp: offset for tp, offset in self.watermark.moved().items() if tp in self._tasks.assignment()}
        if not offsets:
            return
        try:
            await self._tasks.commit(offsets)
        except KafkaError as error:
            log.warning("offsets were not committed, some tasks may come again: %r", error)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Kafka gives our partitions to somebody else: tell it what is done, forget the rest."""
        await self._commit()
        self.watermark.forget(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Kafka has given us partitions."""
