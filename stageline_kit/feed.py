"""The state of all jobs, then every change: read the compacted `job.state`, then follow `job.events` by sequence."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import AIOKafkaConsumer

from contracts import JobStage, JobStageUpdate, JobState, UndecodableRecord, from_record
from contracts.alfred import AlfredEvent
from stageline_kit.closing import close_clients
from stageline_kit.connection import kafka_options
from stageline_kit.consumer import allowed_types
from stageline_kit.outages import Outages
from stageline_kit.record_seals import RecordSeals

OVERLAP_S = 120.0
"""Events are read from this long before the start, because a state may be published that long after its event.
Events older than the state are recognised by their sequence."""
STATE, EVENTS = "job.state", "job.events"


@dataclass(frozen=True, slots=True)
class Change:
    """The new state of a job and the event that led to it. `event` is None when only a state arrived (a snapshot, a gap)."""

    state: JobState
    event: AlfredEvent[Any] | None = None


class JobFeed:
    """An async context manager. `load` reads the snapshot into `jobs`, `changes` yields every later change.

    It joins no group and commits nothing, so every program sees all jobs. `tenant` selects the jobs of one tenant.
    `kafka` are aiokafka's options; without them, addresses and user come from `KAFKA_*` in the environment.
    """

    def __init__(self, bootstrap_servers: str | None = None, tenant: str | None = None, **kafka: Any) -> None:
        self.tenant = tenant
        self.jobs: dict[str, JobState] = {}
        self._held: dict[str, dict[int, AlfredEvent[Any]]] = {}
        self._allowed = {topic: allowed_types(topic) for topic in (STATE, EVENTS)}
        self._outages = Outages()
        self._seals = RecordSeals(kafka_options(bootstrap_servers, kafka))
        self._consumer = AIOKafkaConsumer(
            STATE, EVENTS, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            **kafka_options(bootstrap_servers, kafka),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            opened.enter_context(self._outages)
            await self._consumer.start()
            opened.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await close_clients(self._seals.close(), self._consumer.stop())
        self._outages.__exit__()

    async def load(self) -> dict[str, JobState]:
        """Read every job that Kafka still holds. A state may be two seconds old; `changes` catches up."""
        partitions = self._consumer.assignment()
        events = [tp for tp in partitions if tp.topic == EVENTS]
        start = await self._consumer.offsets_for_times({tp: int((time.time() - OVERLAP_S) * 1000) for tp in events})
        ends = await self._consumer.end_offsets(list(partitions))
        for tp in events:
            self._consumer.seek(tp, start[tp].offset if start.get(tp) else ends[tp])
            self._consumer.pause(tp)
        missing = {tp for tp in partitions if tp.topic == STATE and ends[tp] > 0}
        while missing:
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                await self._seals.open_records(records)
                for record in records:
                    self._apply_record(record)
            for tp in list(missing):
                if await self._consumer.position(tp) >= ends[tp]:
                    missing.discard(tp)
        self._consumer.resume(*events)
        return self.jobs

    async def changes(self) -> AsyncIterator[Change]:
        """Yield changes without end: each job's events by sequence, without repeats, and gaps closed by a state."""
        while True:
            arrived = await self._consumer.getmany(timeout_ms=1000)
            await self._outages.look(self._consumer)
            for records in arrived.values():
                await self._seals.open_records(records)
                for record in records:
                    for change in self._apply_record(record):
                        yield change

    def _apply_record(self, record: Any) -> list[Change]:
        try:
            message = from_record(record.value, record.headers, self._allowed[record.topic])
        except UndecodableRecord:
            return []
        if self.tenant is not None and message.tenant != self.tenant:
            return []
        if isinstance(message, JobState):
            return self._apply_state(message)
        assert isinstance(message, AlfredEvent)
        return self._apply_event(message)

    def _apply_state(self, state: JobState) -> list[Change]:
        known = self.jobs.get(state.job_id)
        if known is not None and known.sequence >= state.sequence:
            return []
        self.jobs[state.job_id] = state
        return [Change(state), *self._release_held(state.job_id)]

    def _apply_event(self, event: AlfredEvent[Any]) -> list[Change]:
        inner = event.event
        known = self.jobs.get(inner.job_id)
        if inner.sequence is None or (known is not None and inner.sequence <= known.sequence):
            return []
        # An event ahead of its turn is held until the missing ones, or a newer state, arrive.
        self._held.setdefault(inner.job_id, {})[inner.sequence] = event
        return self._release_held(inner.job_id)

    def _release_held(self, job_id: str) -> list[Change]:
        held = self._held.get(job_id, {})
        found: list[Change] = []
        while True:
            known = self.jobs.get(job_id)
            event = held.pop(known.sequence + 1 if known else 1, None)
            if event is None:
                break
            self.jobs[job_id] = apply_event(known, event)
            found.append(Change(self.jobs[job_id], event))
        known = self.jobs.get(job_id)
        for sequence in [s for s in held if known is not None and s <= known.sequence]:
            del held[sequence]
        if not held:
            self._held.pop(job_id, None)
        return found


def apply_event(state: JobState | None, event: AlfredEvent[Any]) -> JobState:
    """The state after one more event: stage, step and errors. Counts of files follow with the next snapshot."""
    inner = event.event
    if state is None:
        state = JobState(
            job_id=inner.job_id, tenant_id=inner.company_id, tenant_name=inner.company_name, sequence=1, stage=JobStage.QUEUED,
            workflow=inner.workflow or "unknown", created_at=inner.creation_date, updated_at=event.time, session_id=inner.deferred_session_id,
            metadata=getattr(inner, "metadata", None), file_count=getattr(inner, "file_count", 0), finished_files=0, failed_files=0,
            cancelled_files=0, retries=0,
        )  # fmt: skip
    more: dict[str, Any] = {"sequence": inner.sequence, "updated_at": event.time}
    if isinstance(event, JobStageUpdate):
        more |= {"stage": inner.stage, "step": inner.step or state.step}
    for name in ("finished_files", "failed_files", "error_messages", "retries", "results"):
        value = getattr(inner, name, None)
        if value is not None:
            more[name] = value
    return state.model_copy(update=more)
