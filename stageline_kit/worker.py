"""A worker of your own: it takes tasks of its actions, keeps their leases alive and reports how they ended."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import SealedRecord, StageTask, TaskCancelled, UndecodableRecord, from_record, task_topic
from contracts.topics import STAGE_CANCELLATIONS_TOPIC
from stageline_kit.child_processes import kill_processes, started_processes
from stageline_kit.connection import kafka_options
from stageline_kit.dead_letters import DeadLetters
from stageline_kit.engine import TaskEngine
from stageline_kit.hooks import Delivery, WorkerHooks
from stageline_kit.isolation import IsolatedAction, in_action_process
from stageline_kit.kafka_transport import KafkaTransport
from stageline_kit.outages import AWAY, Outages
from stageline_kit.partition_listener import PartitionListener
from stageline_kit.runner import Action
from stageline_kit.stop_signals import StopSignals
from stageline_kit.task import Task
from stageline_kit.version import CLIENT
from stageline_kit.watermark import Position

log = logging.getLogger(__name__)
A = TypeVar("A", bound=Callable[[Task], Any])
COMMIT_EVERY_S = 0.2
RESERVE_S = 3.0
"""The last seconds of `drain_s`: for reports, offsets and goodbyes, or a quarter of it, if that is less."""
MOMENT_S = 0.2
CONNECT_AGAIN_S = 1.0
NO_USER = " This program has no user and no TLS; a broker that asks for one closes the connection (KAFKA_SECURITY_PROTOCOL)."
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


class WorkerStuck(RuntimeError):
    """As many plain functions hang as tasks may run at once. Only a new process gets rid of their threads."""


class Worker:
    """`@worker.action("acme.translate")` on an `async` or plain function of one `Task`; then `asyncio.run(worker.run())`.

    The function returns the step's result (a JSON object, or None) or raises an `Outcome`. Any other exception is reported
    as ERR, and the step's retry policy decides. At most `concurrency` tasks run at a time; plain functions run in threads.
    `name` is what operators see. `group` defaults to a name made of the actions. On shutdown running tasks have `drain_s`
    seconds. `hooks` are your extension points. `kafka` are aiokafka's options (`security_protocol`, …); without them, addresses
    (None) and user come from `KAFKA_*` in the environment.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
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
        self._deadline: float | None = None
        self._cancellations_read = asyncio.Event()
        self._cut_short = False
        self._outages = Outages()
        self._transport = KafkaTransport(bootstrap_servers, f"/worker/{self.name}", self._outages, **kafka)
        self._letters = DeadLetters(bootstrap_servers, f"/worker/{self.name}", group or "workers", **kafka)
        self._engine = TaskEngine(self.name, self.actions, concurrency, self._transport, hooks, client=CLIENT)

    def action(self, name: str, *, isolation: Literal["process"] | None = None) -> Callable[[A], A]:
        """Register a function as the action `name`, e.g. `acme.translate`. Raises `ValueError` for a bad or taken name.

        `isolation="process"` runs each task in a new process, which time limits and cancellations kill with all that it has started.
        The function must stand at the top of a module, and its result must be picklable.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name of an action: lower-case words with dots, e.g. acme.translate")

        def register(function: A) -> A:
            if name in self.actions:
                raise ValueError(f"there is an action {name!r} already")
            self.actions[name] = IsolatedAction(function) if isolation == "process" else function
            return function

        return register

    async def run(self) -> None:
        """Work until SIGTERM, SIGINT or `stop()`; then finish what runs and leave the group. Waits for Kafka while it is away.

        After a signal the whole program has `drain_s`: what has not ended then is ended, from outside the event loop if need be.
        Raises `WorkerStuck`, and `KafkaError` where Kafka refuses the user or a topic.
        """
        if in_action_process():
            return  # the process of one action imports the program's main module, and this call may stand there
        before = started_processes()
        with self._outages, StopSignals(self.stop, self.drain_s):
            try:
                if await self._start():
                    await self._work()
            finally:
                await self._bounded(self._transport.stop())
                self._engine.threads.close()
                if self._engine.cut_off or self._engine.threads.hung:
                    kill_processes(started_processes() - before)
        if self._engine.stuck.is_set():
            raise WorkerStuck(f"{self._engine.threads.hung} functions do not stop; a new process is needed")

    async def _start(self) -> bool:
        """Connect and join the group, as soon as Kafka answers. False when the worker is stopped meanwhile. Raises `KafkaError`."""
        group = self._letters.group = self.group or "workers." + "+".join(sorted(self.actions))
        topics = [task_topic(name).name for name in self.actions]
        starting = asyncio.create_task(self._connect(group, topics))
        stopping = asyncio.create_task(self.stopping.wait())
        done, _ = await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in {starting, stopping} - done:
            task.cancel()
        if starting in done:
            starting.result()
        return starting in done

    async def _connect(self, group: str, topics: list[str]) -> None:
        if "security_protocol" not in kafka_options(self.bootstrap_servers, self.kafka):
            self._outages.hint = NO_USER
        while True:
            try:
                await self._transport.start(group, topics, PartitionListener(self._engine))
                self._outages.hint = ""
                return
            except AWAY as error:
                if not self._outages.lasts:
                    raise  # Kafka answers, and refuses the user
                self._outages.note(error)
            await self._transport.stop()
            await asyncio.sleep(CONNECT_AGAIN_S)

    async def _bounded(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a part of the shutdown for as long as `drain_s` lasts, and a moment in any case."""
        # Not `wait_for`: a client that is cut off may end in an exception of its own, or not at all.
        task = asyncio.ensure_future(work)
        _, late = await asyncio.wait({task}, timeout=self._left_s())
        if late:
            if not self._cut_short:
                log.warning("the shutdown is cut short: Kafka does not answer")
            self._cut_short = True
            task.cancel()
            await asyncio.wait({task}, timeout=MOMENT_S)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, KafkaError):
                raise error
            log.warning("the shutdown is incomplete: %r", error)

    def _left_s(self) -> float:
        left = self._deadline - asyncio.get_running_loop().time() if self._deadline is not None else self.drain_s
        return max(left, MOMENT_S)

    def stop(self) -> None:
        """Begin to drain: no task starts any more."""
        self._engine.draining = True
        if self._deadline is None:
            with suppress(RuntimeError):  # no loop runs yet
                self._deadline = asyncio.get_running_loop().time() + self.drain_s
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
        ending = [asyncio.create_task(event.wait()) for event in (self.stopping, engine.stuck)]
        try:
            done, _ = await asyncio.wait([*tasks, *ending], return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            tasks[0].cancel()
            await self._bounded(engine.drain(self.drain_s - min(RESERVE_S, self.drain_s / 4)))
        finally:
            for task in (*tasks, *ending):
                task.cancel()
            await asyncio.wait(tasks, timeout=self._left_s())
        await self._bounded(engine.announce(leaving=True))
        for task in done - set(ending):
            task.result()

    async def _take_tasks(self) -> None:
        # First what is cancelled: the group's offset may stand before tasks that nobody wants any more.
        await self._cancellations_read.wait()
        # One at a time and only with a free slot: the rest stays in Kafka, where another worker may get it.
        while True:
            await self._engine.wait_for_slot()
            record = await self._transport.consumer.getone()
            position = TopicPartition(record.topic, record.partition), record.offset
            self._engine.open_tasks([position])
            await self._transport.seals.open_records([record])
            task = await self._read_task(record, position)
            if task is not None:
                await self._engine.accept_task(Delivery(task, position, tuple(record.headers)))

    async def _read_task(self, record: Any, position: Position) -> StageTask | None:
        """The task of a record. None for one that cannot be read: it is a dead letter, and its offset is free."""
        try:
            task = from_record(record.value, record.headers, frozenset({StageTask.TYPE}))
            assert isinstance(task, StageTask)
            if task_topic(task.action).name == record.topic:
                return task
            code, reason = "wrong_topic", "action: not the topic's"
        except SealedRecord:  # its job is erased
            self._engine.reports.close_tasks([position])
            return None
        except UndecodableRecord as error:
            code, reason = error.code, str(error)
        await self._letters.keep_record(record, code, reason)
        self._engine.reports.close_tasks([position])
        return None

    async def _watch_cancellations(self) -> None:
        # No group: every worker reads all cancellations, because any of them may hold the task.
        consumer = AIOKafkaConsumer(
            STAGE_CANCELLATIONS_TOPIC.name, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            **kafka_options(self.bootstrap_servers, self.kafka),
        )  # fmt: skip
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            while True:
                if not self._cancellations_read.is_set():
                    behind = [tp for tp, end in ends.items() if await consumer.position(tp) < end]
                    if not behind:
                        self._cancellations_read.set()
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        self._note_cancellation(record)
        finally:
            await consumer.stop()

    def _note_cancellation(self, record: Any) -> None:
        try:
            note = from_record(record.value, record.headers, frozenset({TaskCancelled.TYPE}))
        except UndecodableRecord:
            return
        if isinstance(note, TaskCancelled):
            self._engine.cancel_lease(note.lease)

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self._transport.commit_offsets()
