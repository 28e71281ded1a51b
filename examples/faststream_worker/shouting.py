"""Work the tasks of one action: a FastStream application that does one task at a time and reports how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from faststream.security import SASLScram512

from contracts import (
    StageReport,
    StageTask,
    TaskCancelled,
    TaskStatus,
    UndecodableRecord,
    WorkerSeen,
    derived,
    from_record,
    task_topic,
    to_record,
)

log = logging.getLogger(__name__)
ACTION = os.environ.get("ACTION", "acme.shout")
WORKER = f"{socket.gethostname()}-{os.getpid()}"
SEEN_EVERY_S = 10
REMEMBERED = 10_000


def user() -> SASLScram512 | None:
    """The user in `KAFKA_*`, as `stageline env` prints it; None for a broker without users."""
    protocol = os.environ.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    if not protocol.startswith("SASL"):
        return None
    context = ssl.create_default_context(cafile=os.environ.get("KAFKA_SSL_CAFILE")) if protocol.endswith("SSL") else None
    name, password = os.environ["KAFKA_SASL_USERNAME"], os.environ["KAFKA_SASL_PASSWORD"]
    return SASLScram512(name, password, ssl_context=context, use_ssl=context is not None)


broker = KafkaBroker(
    os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:29092"), security=user(), acks="all", enable_idempotence=True, max_batch_size=262_144,
    allow_auto_create_topics=False, graceful_timeout=30,
)  # fmt: skip
app = FastStream(broker)
reports = broker.publisher("stage.reports")
workers = broker.publisher("stage.workers")
running: dict[str, asyncio.Task[Any]] = {}
cancelled: OrderedDict[str, None] = OrderedDict()


class Failed(Exception):
    """KO: this task can never work. Any other exception is an ERR, which the step's retry policy decides about."""


async def shout(task: StageTask) -> dict[str, Any]:
    """Your action: returns the step's result. `config` is the workflow's, `inputs` are the results of earlier steps."""
    if not task.config.get("text"):
        raise Failed("The step's configuration has no text.")
    await asyncio.sleep(task.config.get("takes_s", 0))
    return {"shout": task.config["text"].upper()}


async def safe_headers(record: Any, parse: Any) -> Any:
    """Kafka allows headers that are null or no UTF-8. FastStream's parser fails on them, so give it readable ones."""
    record.headers = tuple((name, (value or b"").decode(errors="replace").encode()) for name, value in record.headers)
    return await parse(record)


async def typed(message: KafkaMessage) -> Any:
    """The record as its model. None: the record is unreadable; its lease ends, and the orchestrator dispatches the task again."""
    try:
        record = message.raw_message
        return from_record(record.value, record.headers, frozenset({StageTask.TYPE, TaskCancelled.TYPE}))
    except UndecodableRecord as error:
        log.error("a record that cannot be read is left out: %s", error)
        return None


@broker.subscriber(
    task_topic(ACTION).name, group_id=f"workers.{ACTION}", auto_offset_reset="earliest", ack_policy=AckPolicy.MANUAL,
    max_poll_interval_ms=3_600_000, parser=safe_headers, decoder=typed,
)  # fmt: skip
async def on_task(task: Any, message: KafkaMessage) -> None:
    """Do the task, then commit its offset: after a crash in between it is delivered again, and one report of the two counts."""
    if isinstance(task, StageTask) and task.lease not in cancelled:
        await perform(task, message.headers.get("traceparent"))
    record = message.raw_message
    await commit(message, {TopicPartition(record.topic, record.partition): record.offset + 1})


@broker.subscriber(
    "stage.cancellations", auto_offset_reset="earliest", ack_policy=AckPolicy.MANUAL, parser=safe_headers, decoder=typed
)
async def on_cancelled(note: Any) -> None:
    """No group, so every process reads every cancellation: the one that runs the task stops it."""
    if isinstance(note, TaskCancelled):
        cancelled[note.lease] = None
        while len(cancelled) > REMEMBERED:
            cancelled.popitem(last=False)
        if note.lease in running:
            running[note.lease].cancel()


async def perform(task: StageTask, trace: str | None) -> None:
    """Run the action under its time limit, with heartbeats. Report its end, or nothing when it was cancelled."""
    work = running[task.lease] = asyncio.create_task(shout(task))
    beating = asyncio.create_task(beat(task, trace))
    end: dict[str, Any]
    try:
        async with asyncio.timeout(task.timeout_s):
            end = {"status": TaskStatus.OK, "result": await work}
    except Failed as error:
        end = {"status": TaskStatus.KO, "code": "failed", "message": str(error)}
    except TimeoutError:
        end = {"status": TaskStatus.ERR, "code": "limit_time", "message": f"It took longer than {task.timeout_s:.0f} s."}
    except asyncio.CancelledError:
        if task.lease not in cancelled:
            raise  # the application stops: nothing is committed, so the task is delivered again
        return
    except Exception as error:
        log.exception("action %s failed", task.action)
        end = {"status": TaskStatus.ERR, "code": "worker_error", "message": repr(error)[:4000]}
    finally:
        beating.cancel()
        work.cancel()
        del running[task.lease]
    await report(task, "end", trace, **end)


async def beat(task: StageTask, trace: str | None) -> None:
    """A RUN report per heartbeat extends the lease."""
    number = 0
    while True:
        await asyncio.sleep(task.heartbeat_s)
        number += 1
        await report(task, f"beat-{number}", trace, status=TaskStatus.RUN)


async def report(task: StageTask, role: str, trace: str | None, **said: Any) -> None:
    """Send one report until Kafka has it. Its id comes from the lease, so the same report sent twice counts once."""
    made = StageReport(
        report_id=derived(task.lease, WORKER, role), job_id=task.job_id, tenant_id=task.tenant_id, file_id=task.file_id,
        step=task.step, action=task.action, attempt=task.attempt, lease=task.lease, reported_at=datetime.now(UTC),
        worker=WORKER, client="acme/1.0", **said,
    )  # fmt: skip
    record = to_record(made, "/acme/worker")
    headers = {name: value.decode() for name, value in record.headers} | ({"traceparent": trace} if trace else {})
    while True:
        try:
            await reports.publish(record.value, key=record.key, headers=headers)
            return
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("a report is sent again: %r", error)
            await asyncio.sleep(1)


@app.after_startup
async def say_often() -> None:
    """Tell operators every ten seconds that this action has a worker."""
    app.context.set_global("presence", asyncio.create_task(presence()))


async def presence() -> None:
    while True:
        seen = WorkerSeen(worker=WORKER, actions=(ACTION,), slots=1, client="acme/1.0", seen_at=datetime.now(UTC))
        record = to_record(seen, "/acme/worker")
        with contextlib.suppress(KafkaError):  # the work goes on without it
            await workers.publish(record.value, key=record.key, headers={name: value.decode() for name, value in record.headers})
        await asyncio.sleep(SEEN_EVERY_S)


async def commit(message: KafkaMessage, offsets: dict[TopicPartition, int]) -> None:
    """Commit these offsets; `message.ack()` would commit the position of every partition instead."""
    await message.consumer.commit(offsets)
