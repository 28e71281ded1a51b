"""The application on FastStream's in-memory broker: repeats, unreadable records and a failing database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock

import billing
import pytest
from faststream.kafka import TestKafkaBroker

from contracts import FileDone, FileStatus, JobFinished, Message, to_record

AT = datetime(2026, 1, 2, tzinfo=UTC)
OWNER = {"company_id": "acme", "company_name": "Acme", "creation_date": AT, "update_date": AT}
FINISHED = JobFinished.of(event_id="e-1", at=AT, job_id="job-1", **OWNER)
FILE = {"job_id": "job-1", "file_id": "f-1", "blob_name": "a", "blob_url": "a", "file_status": FileStatus.FINISHED, **OWNER}
DONE = FileDone.of(event_id="e-2", at=AT, **FILE)


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> Iterator[AsyncMock]:
    """A fresh database, and a stand-in for Kafka's offsets."""
    commit = AsyncMock()
    monkeypatch.setattr(billing, "commit", commit)
    monkeypatch.setattr(billing, "database", sqlite3.connect(":memory:"), raising=False)
    monkeypatch.setattr(billing, "BACK_OFF_S", 0)
    billing.database.executescript(billing.SCHEMA)
    yield commit
    billing.database.close()


async def publish(message: Message) -> None:
    record = to_record(message, "/test")
    topic = "file.events" if isinstance(message, FileDone) else "job.events"
    await billing.broker.publish(record.value, topic, key=record.key, headers={k: v.decode() for k, v in record.headers})


def rows(table: str) -> list[Any]:
    return billing.database.execute(f"SELECT * FROM {table}").fetchall()


@pytest.mark.asyncio
async def test_a_repeated_event_counts_once(committed: AsyncMock) -> None:
    async with TestKafkaBroker(billing.broker):
        for message in (DONE, FINISHED, DONE, FINISHED):
            await publish(message)
    assert rows("bill") == [("job-1", 1, 1)]
    assert committed.await_count == 4, "repeats are committed too"


@pytest.mark.asyncio
async def test_an_unreadable_record_is_set_aside_and_holds_nothing_up(committed: AsyncMock) -> None:
    async with TestKafkaBroker(billing.broker):
        await billing.broker.publish(b"{not json", "job.events", headers={"ce_type": JobFinished.TYPE})
        await publish(FINISHED)
    [(place, _, value)] = rows("unreadable")
    assert place == "job.events/0/0" and value == b"{not json"
    assert rows("bill") == [("job-1", 0, 1)] and committed.await_count == 2


@pytest.mark.asyncio
async def test_nothing_is_committed_when_the_database_fails(committed: AsyncMock) -> None:
    billing.database.execute("DROP TABLE bill")
    async with TestKafkaBroker(billing.broker):
        with pytest.raises(sqlite3.OperationalError):
            await publish(FINISHED)
    assert rows("seen") == [] and committed.await_count == 0


@pytest.mark.asyncio
async def test_headers_without_text_do_not_lose_the_record() -> None:
    class Record:
        headers = (("null", None), ("bytes", b"\xff"), ("ce_id", b"e-1"))

    parse = AsyncMock()
    await billing.safe_headers([record := Record()], parse)
    parse.assert_awaited_once()
    assert dict(record.headers) == {"null": b"", "bytes": "\ufffd".encode(), "ce_id": b"e-1"}
