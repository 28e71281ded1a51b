"""The limit: two bare aiokafka processes that pass a job through five stages with the same durable writes as ours.

Per hop: the id seen, the job's state and the outgoing rows (the stage's fact and the next task) in one transaction per batch, on
the database that ours runs on (SQLite: WAL, FULL; PostgreSQL: asyncpg, one statement per table), then both records to Kafka (facts
first), then the offsets. Same broker, hops, fsyncs and payloads of about 500 bytes. Left out is what we do beside it: contracts,
decisions, branches, fencing, timers, read model, notifier, traces.
Run as `python -m benchmarks.limit relay|worker BOOTSTRAP [DATABASE]`; `DATABASE` is a file or a URL as ours.
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

STAGES = 5
PADDING = "x" * 380
Job = tuple[str, int, str]
"""Id, stage, JSON."""
Row = tuple[str, bytes, bytes]
"""Topic, key, value."""
Save = Callable[[list[Job], list[Row]], Awaitable[None]]


def consumer(bootstrap: str, group: str, *topics: str) -> AIOKafkaConsumer:
    """As fast as aiokafka gets: batches, explicit commits, no rebalance delays."""
    return AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )  # fmt: skip


def producer(bootstrap: str) -> AIOKafkaProducer:
    """Idempotent, as ours."""
    return AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=262_144)


async def relay(bootstrap: str, database: str) -> None:
    """Commands and reports in; state to the database; tasks and ends out; offsets last."""
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
    """One transaction: drop what was published, then seen, state and outbox of this batch."""
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
    """The same on PostgreSQL, in a schema of its own: four statements a batch, prepared, their rows as arrays."""
    db = await asyncpg.connect(database.replace("+asyncpg", ""))
    await db.execute("CREATE SCHEMA IF NOT EXISTS bare; SET search_path = bare")
    await db.execute("CREATE TABLE IF NOT EXISTS job (id text PRIMARY KEY, stage int, body text)")
    await db.execute("CREATE TABLE IF NOT EXISTS seen (id text PRIMARY KEY, at float8)")
    await db.execute("CREATE TABLE IF NOT EXISTS outbox (id bigserial PRIMARY KEY, topic text, key bytea, value bytea)")
    drop = await db.prepare("DELETE FROM outbox")
    see = await db.prepare("INSERT INTO seen SELECT i, 0 FROM unnest($1::text[]) AS t(i) ON CONFLICT DO NOTHING")
    # A job may be in a batch once more: of each the last.
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
    """Tasks in, reports out, offsets last."""
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
