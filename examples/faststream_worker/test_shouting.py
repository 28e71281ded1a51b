"""The worker on FastStream's in-memory broker: every way a task can end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock

import pytest
import shouting
from faststream.kafka import TestKafkaBroker

from contracts import Message, StageReport, StageTask, TaskCancelled, TaskStatus, to_record

AT = datetime(2026, 1, 2, tzinfo=UTC)
ATTEMPT = {"job_id": "job-1", "tenant_id": "acme", "step": "shout", "action": "acme.shout", "attempt": 2, "lease": "lease-1"}


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> Iterator[AsyncMock]:
    """A stand-in for Kafka's offsets, and no memory of other tests."""
    commit = AsyncMock()
    monkeypatch.setattr(shouting, "commit", commit)
    yield commit
    shouting.cancelled.clear()
    assert shouting.running == {}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the action runs; it does not end by itself."""
    event = asyncio.Event()

    async def endless(task: StageTask) -> dict[str, Any]:
        event.set()
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(shouting, "shout", endless)
    return event


async def publish(message: Message, topic: str = "stage.tasks.acme.shout") -> None:
    record = to_record(message, "/test")
    await shouting.broker.publish(record.value, topic, key=record.key, headers={k: v.decode() for k, v in record.headers})


def task(config: dict[str, Any], **more: Any) -> StageTask:
    return StageTask(task_id="task-1", issued_at=AT, config=config, **ATTEMPT, **more)


def reported() -> list[StageReport]:
    assert shouting.reports.mock is not None
    return [StageReport.read_object(call.args[0]) for call in shouting.reports.mock.call_args_list]


@pytest.mark.asyncio
async def test_a_report_repeats_the_fence_of_its_task(committed: AsyncMock) -> None:
    async with TestKafkaBroker(shouting.broker):
        await publish(task({"text": "hello"}))
        await publish(task({"text": "hello"}))
        first, second = reported()
    assert first.status is TaskStatus.OK and first.result == {"shout": "HELLO"}
    assert first.model_dump(include=set(ATTEMPT)) == ATTEMPT
    assert first.report_id == second.report_id, "a task done twice ends once"
    assert committed.await_count == 2


@pytest.mark.asyncio
async def test_a_task_that_can_never_work_is_a_ko_and_a_bug_is_an_err() -> None:
    async with TestKafkaBroker(shouting.broker):
        await publish(task({}))
        await publish(task({"text": 7}))
        assert [(r.status, r.code) for r in reported()] == [(TaskStatus.KO, "failed"), (TaskStatus.ERR, "worker_error")]


@pytest.mark.asyncio
async def test_heartbeats_extend_the_lease_until_the_time_limit() -> None:
    async with TestKafkaBroker(shouting.broker):
        await publish(task({"text": "hello", "takes_s": 60}, timeout_s=0.3, heartbeat_s=0.1))
        *beats, last = reported()
    assert beats and {beat.status for beat in beats} == {TaskStatus.RUN}
    assert len({beat.report_id for beat in beats}) == len(beats)
    assert (last.status, last.code) == (TaskStatus.ERR, "limit_time")


@pytest.mark.asyncio
async def test_a_cancelled_task_stops_and_reports_nothing(committed: AsyncMock, begun: asyncio.Event) -> None:
    cancel = TaskCancelled(event_id="c-1", occurred_at=AT, **ATTEMPT)
    async with TestKafkaBroker(shouting.broker):
        doing = asyncio.create_task(publish(task({"text": "hello"})))
        await begun.wait()
        await publish(cancel, "stage.cancellations")
        await doing
        await publish(task({"text": "delivered again"}))
        assert reported() == [] and committed.await_count == 2


@pytest.mark.asyncio
async def test_an_unreadable_task_is_left_to_its_lease(committed: AsyncMock) -> None:
    async with TestKafkaBroker(shouting.broker):
        await shouting.broker.publish(b"{not json", "stage.tasks.acme.shout", headers={"ce_type": StageTask.TYPE})
        assert reported() == [] and committed.await_count == 1


@pytest.mark.asyncio
async def test_nothing_is_committed_when_the_application_stops(committed: AsyncMock, begun: asyncio.Event) -> None:
    async with TestKafkaBroker(shouting.broker):
        doing = asyncio.create_task(publish(task({"text": "hello"})))
        await begun.wait()
        doing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doing
        assert reported() == [] and committed.await_count == 0
