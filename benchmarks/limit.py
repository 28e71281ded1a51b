"""The limit: two bare aiokafka processes that pass a job through five stages with the same durable writes as Stageline.

Each hop commits one transaction per batch: the ids seen, the jobs' states and the outgoing rows (the stage's event and the next
task). It uses the database that Stageline runs on (SQLite: WAL, FULL; PostgreSQL: asyncpg, one statement per table). Then it
sends both records to Kafka, events first, and commits the offsets. Broker, hops, fsyncs and payloads (about 500 bytes) are the
same. Not included: contracts, decisions, branches, fencing, timers, read model, notifier, traces.

Run as `python -m benchmarks.limit relay|worker BOOTSTRAP [DATABASE]`. `DATABASE` is a file, or a URL as in Stageline's settings.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Awaitable, Callable

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from stageline_kit import kafka_options

STAGES = 5
PADDING = "x" * 380
Job = tuple[str, int, str]
"""Id, stage, JSON."""
Row = tuple[str, bytes, bytes]
"""Topic, key, value."""
Save = Callable[[list[Job], list[Row]], Awaitable[None]]


def consumer(bootstrap: str, group: str, *topics: str) -> AIOKafkaConsumer:
    """A consumer with explicit commits, which reads whole batches."""
    return AIOKafkaConsumer(
        *topics, **kafka_options(bootstrap), group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )  # fmt: skip


def producer(bootstrap: str) -> AIOKafkaProducer:
    """An idempotent producer, like Stageline's."""
    return AIOKafkaProducer(**kafka_options(bootstrap), enable_idempotence=True, max_batch_size=262_144)


async def relay(bootstrap: str, database: str) -> None:
    """Read commands and reports, save the state, send tasks and ends, commit the offsets last."""
    save = await (on_postgres if database.startswith("postgresql") else on_sqlite)(database)
    source, sink = consumer(bootstrap, "limit-relay", "limit.commands", "limit.reports"), producer(bootstrap)
    await source.start()
    await sink.start()
    while True:
        facts: list[Row] = []
        tasks: list[Row] = []
        jobs: list[Job] = []
        for records in (await source.getmany(timeout_ms=1000, max_records=500)).values():
            for record in records:
                job = json.loads(record.value)
                job["stage"] += 1
                body = json.dumps(job)
                jobs.append((job["id"], job["stage"], body))
                ended = job["stage"] > STAGES
                facts.append(("limit.done" if ended else "limit.events", record.key, body.encode()))
                if not ended:
                    tasks.append(("limit.tasks", record.key, body.encode()))
        if jobs:
            await save(jobs, facts + tasks)
            for rows in (facts, tasks):
                await asyncio.gather(*[await sink.send(topic, value, key) for topic, key, value in rows])
            await source.commit()


async def on_sqlite(database: str) -> Save:
    """Open a SQLite file. Returns a function that saves a batch in one transaction: ids seen, states, outbox rows.

    It also deletes the outbox rows of the batch before, which are published by then.
    """
    db = sqlite3.connect(database, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        db.execute(f"PRAGMA {pragma}")
    for table in ("job (id TEXT PRIMARY KEY, stage INTEGER, body TEXT)", "seen (id TEXT PRIMARY KEY, at REAL)"):
        db.execute(f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID")
    db.execute("CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY, topic TEXT, key BLOB, value BLOB)")

    async def save(jobs: list[Job], rows: list[Row]) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM outbox")
        db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", [(f"{i}-{stage}", 0.0) for i, stage, _ in jobs])
        db.executemany(
            "INSERT INTO job VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, body = excluded.body", jobs
        )
        db.executemany("INSERT INTO outbox (topic, key, value) VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")

    return save


async def on_postgres(database: str) -> Save:
    """As `on_sqlite`, on PostgreSQL, in a schema of its own: four prepared statements per batch, with rows as arrays."""
    db = await asyncpg.connect(database.replace("+asyncpg", ""))
    await db.execute("CREATE SCHEMA IF NOT EXISTS bare; SET search_path = bare")
    await db.execute("CREATE TABLE IF NOT EXISTS job (id text PRIMARY KEY, stage int, body text)")
    await db.execute("CREATE TABLE IF NOT EXISTS seen (id text PRIMARY KEY, at float8)")
    await db.execute("CREATE TABLE IF NOT EXISTS outbox (id bigserial PRIMARY KEY, topic text, key bytea, value bytea)")
    drop = await db.prepare("DELETE FROM outbox")
    see = await db.prepare("INSERT INTO seen SELECT i, 0 FROM unnest($1::text[]) AS t(i) ON CONFLICT DO NOTHING")
    # A batch may hold a job several times; `save` passes the last state of each.
    keep = await db.prepare(
        "INSERT INTO job SELECT * FROM unnest($1::text[], $2::int[], $3::text[]) "
        "ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, body = excluded.body"
    )
    send = await db.prepare("INSERT INTO outbox (topic, key, value) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[])")

    async def save(jobs: list[Job], rows: list[Row]) -> None:
        async with db.transaction():
            await drop.fetch()
            await see.fetch([f"{i}-{stage}" for i, stage, _ in jobs])
            await keep.fetch(*map(list, zip(*{job[0]: job for job in jobs}.values(), strict=True)))
            await send.fetch(*map(list, zip(*rows, strict=True)))

    return save


async def worker(bootstrap: str) -> None:
    """Read tasks, send reports, commit the offsets last."""
    source, sink = consumer(bootstrap, "limit-worker", "limit.tasks"), producer(bootstrap)
    await source.start()
    await sink.start()
    while True:
        batch = await source.getmany(timeout_ms=1000, max_records=500)
        if batch:
            records = [r for rs in batch.values() for r in rs]
            await asyncio.gather(*[await sink.send("limit.reports", r.value, r.key) for r in records])
            await source.commit()


if __name__ == "__main__":
    role, where, *rest = sys.argv[1:]
    uvloop.run(relay(where, rest[0]) if role == "relay" else worker(where))
