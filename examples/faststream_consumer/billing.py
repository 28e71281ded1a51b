"""Bill every job once: a FastStream application that counts finished files and jobs into its own database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import ssl
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from faststream.security import SASLScram512

from contracts import TOPICS, FileDone, JobFinished, Message, UndecodableRecord, from_record

SUBSCRIBED = ("job.events", "file.events")
TYPES = {topic.name: frozenset(model.TYPE for model in topic.models) for topic in TOPICS if topic.name in SUBSCRIBED}
BACK_OFF_S = 1.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS bill (job_id TEXT PRIMARY KEY, files INTEGER NOT NULL, finished INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS unreadable (place TEXT PRIMARY KEY, reason TEXT NOT NULL, value BLOB);
"""


def user() -> SASLScram512 | None:
    """The user in `KAFKA_*`, as `stageline env` prints it; None for a broker without users."""
    protocol = os.environ.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    if not protocol.startswith("SASL"):
        return None
    context = ssl.create_default_context(cafile=os.environ.get("KAFKA_SSL_CAFILE")) if protocol.endswith("SSL") else None
    name, password = os.environ["KAFKA_SASL_USERNAME"], os.environ["KAFKA_SASL_PASSWORD"]
    return SASLScram512(name, password, ssl_context=context, use_ssl=context is not None)


database: sqlite3.Connection
broker = KafkaBroker(
    os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:29092"), security=user(), allow_auto_create_topics=False
)
app = FastStream(broker)


@app.on_startup
async def open_database() -> None:
    """Before the first record: the file and its tables."""
    global database
    database = sqlite3.connect(os.environ.get("BILLING_DB", "billing.db"), timeout=30)
    database.executescript(SCHEMA)


async def safe_headers(records: Any, parse: Any) -> Any:
    """Kafka allows headers that are null or no UTF-8. FastStream's parser fails on them, so give it readable ones."""
    readable = [tuple((name, (value or b"").decode(errors="replace").encode()) for name, value in r.headers) for r in records]
    for record, headers in zip(records, readable, strict=True):
        record.headers = headers
    return await parse(records)


async def raw(message: KafkaMessage) -> list[Any]:
    """Leave decoding to `store`: one unreadable record must not fail its whole batch."""
    return list(message.raw_message)


@broker.subscriber(
    *SUBSCRIBED, group_id="consumers.acme-billing", batch=True, max_records=500, batch_timeout_ms=10, auto_offset_reset="earliest",
    ack_policy=AckPolicy.MANUAL, parser=safe_headers, decoder=raw,
)  # fmt: skip
async def on_batch(records: list[Any], message: KafkaMessage) -> None:
    """Keep the effects first, then commit the offsets. A crash in between repeats the batch; `seen` drops the repeats."""
    try:
        store(records)
    except Exception:
        await asyncio.sleep(BACK_OFF_S)
        for record in reversed(records):  # read them again: a later commit must not pass what was not kept
            message.consumer.seek(TopicPartition(record.topic, record.partition), record.offset)
        raise
    await commit(message, {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records})


def store(records: list[ConsumerRecord]) -> None:
    """One transaction for what was seen and what it changes: both are kept, or neither."""
    with database:
        for record in records:
            try:
                event = from_record(record.value, record.headers, TYPES[record.topic])
            except UndecodableRecord as error:
                place = f"{record.topic}/{record.partition}/{record.offset}"
                database.execute("INSERT OR IGNORE INTO unreadable VALUES (?, ?, ?)", (place, str(error), record.value))
                continue
            identity = f"{event.TYPE}/{event.message_id}"
            if database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (identity,)).rowcount:
                bill(event)


def bill(event: Message) -> None:
    """Your business logic; it sees each event once."""
    match event:
        case FileDone():
            job_id, files, finished = event.event.job_id, 1, 0
        case JobFinished():
            job_id, files, finished = event.event.job_id, 0, 1
        case _:
            return
    database.execute(
        "INSERT INTO bill VALUES (?, ?, ?) ON CONFLICT (job_id) DO UPDATE "
        "SET files = files + excluded.files, finished = finished + excluded.finished",
        (job_id, files, finished),
    )


async def commit(message: KafkaMessage, offsets: dict[TopicPartition, int]) -> None:
    """Commit these offsets; `message.ack()` would commit the position of every partition instead."""
    await message.consumer.commit(offsets)
