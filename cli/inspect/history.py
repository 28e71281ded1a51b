"""Reads the topics and the services' databases, for `stageline verify` and `stageline workflows check-running`."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from cli.client import CliError
from cli.inspect.cluster import cluster_of
from contracts import CreateJob, Message, SessionClosed, SessionFiles, StageReport, UndecodableRecord, from_record
from contracts.job_control import JOB_COMMANDS, ExplainJob
from contracts.topics import (
    JOB_COMMANDS_TOPIC,
    OPERATOR_COMMANDS_TOPIC,
    SESSION_EVENTS_TOPIC,
    STAGE_REPORTS_TOPIC,
    Topic,
)
from services.job_orchestrator.inspect import Recorded
from shared.database.open import open_store
from shared.database.store import Store
from shared.errors import Outcome
from shared.kafka.connection import KafkaAccess
from shared.settings import Settings
from stageline_kit.record_seals import RecordSeals

T = TypeVar("T")
OPERATOR = "operator"
"""The Kafka user with which commands read topics."""


def access(data_dir: Path) -> KafkaAccess:
    """The cluster of `KAFKA_*`, or the broker of the pipeline that runs in `data_dir`, as its operator."""
    found = cluster_of(data_dir)
    return found.admin if found.credentials is None else found.credentials.access(OPERATOR, found.bootstrap)


def store_of(data_dir: Path, service: str) -> Store:
    """A service's own database, for reading. Raises `CliError` (code 3) when the data directory holds none."""
    settings = Settings(data_dir=data_dir)
    if settings.database_url is None and not (data_dir / f"{service}.db").exists():
        raise CliError(f"{data_dir} holds no {service}.db: name the data directory, or set STAGELINE_DATABASE_URL", 3)
    return open_store(settings.database_for(service))


async def records(kafka: KafkaAccess, topics: Iterable[Topic]) -> AsyncIterator[tuple[str, float, Message]]:
    """Every decodable record up to the current end of the topics: (topic, Unix time, message)."""
    allowed = {t.name: t.types for t in topics}
    seals = RecordSeals(kafka.options)
    consumer = AIOKafkaConsumer(*allowed, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", **kafka.options)
    try:
        await consumer.start()
        ends = await consumer.end_offsets(consumer.assignment())
        missing = {tp for tp, end in ends.items() if end > 0 and await consumer.position(tp) < end}
        while missing:
            for tp, batch in (await consumer.getmany(timeout_ms=1000, max_records=5000)).items():
                await seals.open_records(batch)
                for r in batch:
                    try:
                        yield tp.topic, r.timestamp / 1000, from_record(r.value, r.headers, allowed[tp.topic])
                    except UndecodableRecord:
                        continue
            missing = {tp for tp in missing if await consumer.position(tp) < ends[tp]}
    finally:
        await seals.close()
        await consumer.stop()


async def histories(kafka: KafkaAccess, wanted: set[str]) -> dict[str, list[Recorded]]:
    """Job id → the messages that the orchestrator received about it, oldest first, for the `wanted` jobs."""
    found: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    parts: dict[str, list[SessionFiles]] = defaultdict(list)
    kinds = (SessionClosed, StageReport, *JOB_COMMANDS)
    topics = (SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, OPERATOR_COMMANDS_TOPIC, STAGE_REPORTS_TOPIC)
    async for _, at, message in records(kafka, topics):
        job_id = getattr(message, "job_id", None)
        if job_id not in wanted or isinstance(message, ExplainJob):
            continue
        if isinstance(message, SessionFiles):
            parts[job_id].append(message)
        elif isinstance(message, kinds):
            found[job_id].append((at, message))
    for job_id, entries in found.items():
        earlier = tuple(f for p in sorted(parts[job_id], key=lambda p: p.part) for f in p.files)
        whole = [
            (at, m.model_copy(update={"files": earlier + m.files}) if isinstance(m, SessionClosed) else m) for at, m in entries
        ]
        # The creating message comes first, even when the producers' clocks disagree.
        found[job_id] = sorted(whole, key=lambda e: (not isinstance(e[1], (CreateJob, SessionClosed)), e[0]))
    return found


def reading(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`. Raises `CliError` with one sentence when Kafka or a database refuses."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except Outcome as error:
        raise CliError(str(error), 3) from None
    except KafkaError as error:
        raise CliError(f"Kafka cannot be read: {error}", 3) from None
