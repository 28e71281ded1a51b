"""Bill every job once with plain aiokafka. Usage: python consumer.py BOOTSTRAP DATABASE

The event's id and its effect are kept in one transaction, then the offset is committed. A crash in between repeats records;
their ids are known by then.
"""

import asyncio
import os
import signal
import sqlite3
import ssl
import sys

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, IllegalStateError

from contracts import TOPICS, FileDone, JobFinished, Message, UndecodableRecord, from_record

SUBSCRIBED = ("job.events", "file.events")
TYPES = {topic.name: frozenset(model.TYPE for model in topic.models) for topic in TOPICS if topic.name in SUBSCRIBED}
SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS bill (job_id TEXT PRIMARY KEY, files INTEGER NOT NULL, finished INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS unreadable (place TEXT PRIMARY KEY, reason TEXT NOT NULL, value BLOB);
"""


def bill(database: sqlite3.Connection, event: Message) -> None:
    """Your business logic; it sees each event once."""
    if isinstance(event, FileDone | JobFinished):
        files, finished = (1, 0) if isinstance(event, FileDone) else (0, 1)
        database.execute(
            "INSERT INTO bill VALUES (?, ?, ?) ON CONFLICT (job_id) DO UPDATE "
            "SET files = files + excluded.files, finished = finished + excluded.finished",
            (event.event.job_id, files, finished),
        )


def store(database: sqlite3.Connection, records: list) -> None:
    """One transaction for what was seen and what it changes. An unreadable record is set aside and holds nothing up."""
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
                bill(database, event)


def security() -> dict:
    """aiokafka's options for the user in `KAFKA_*`, as `stageline env` prints them."""
    protocol = os.environ.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    options = {"security_protocol": protocol}
    if protocol.startswith("SASL"):
        options["sasl_mechanism"] = os.environ.get("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        options["sasl_plain_username"] = os.environ["KAFKA_SASL_USERNAME"]
        options["sasl_plain_password"] = os.environ["KAFKA_SASL_PASSWORD"]
    if protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=os.environ.get("KAFKA_SSL_CAFILE"))
    return options


async def main(bootstrap: str, path: str) -> None:
    database = sqlite3.connect(path, timeout=30)
    database.executescript(SCHEMA)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    consumer = AIOKafkaConsumer(
        *SUBSCRIBED,
        bootstrap_servers=bootstrap,
        **security(),
        group_id="consumers.acme-billing-plain",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while not stopping.is_set():
            found = await consumer.getmany(timeout_ms=500, max_records=500)
            if not found:
                continue
            store(database, [record for records in found.values() for record in records])
            try:
                await consumer.commit({partition: records[-1].offset + 1 for partition, records in found.items()})
            except (CommitFailedError, IllegalStateError):
                pass  # a rebalance gave the partition away: its new owner reads these records again
    finally:
        await consumer.stop()


asyncio.run(main(sys.argv[1], sys.argv[2]))
