"""What the topics and the orchestrator's store say of jobs, side by side: `stageline verify`, `stageline workflows check-running`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from sqlalchemy import Connection, text

from cli.client import CliError
from contracts import CreateJob, Message, SessionClosed, SessionFiles, StageReport, UndecodableRecord, from_record
from contracts.job_control import JOB_COMMANDS, ExplainJob
from contracts.topics import JOB_COMMANDS_TOPIC, SESSION_EVENTS_TOPIC, STAGE_REPORTS_TOPIC, Topic
from services.job_orchestrator.adapters.sql_store import Catalog, SqlJobStore
from services.job_orchestrator.core.job import JOB_BRANCH, Job
from services.job_orchestrator.core.replay import Recorded
from shared.database.open import open_store
from shared.database.store import Store
from shared.errors import Outcome
from shared.kafka.connection import KafkaAccess
from shared.settings import Settings

T = TypeVar("T")


def access(data_dir: Path) -> KafkaAccess:
    """The cluster of `KAFKA_BOOTSTRAP_SERVERS`, or the broker of the pipeline that runs in `data_dir`."""
    state = data_dir / "run" / "state.json"
    given = KafkaAccess()
    if "bootstrap_servers" in given.model_fields_set or not state.exists():
        return given
    return KafkaAccess(bootstrap_servers=json.loads(state.read_text())["kafka"])


def store_of(data_dir: Path, service: str) -> Store:
    """A service's own database, to be read."""
    settings = Settings(data_dir=data_dir)
    if settings.database_url is None and not (data_dir / f"{service}.db").exists():
        raise CliError(f"{data_dir} holds no {service}.db: name the data directory, or set STAGELINE_DATABASE_URL", 3)
    return open_store(settings.database_for(service))


def jobs(connection: Connection, only_open: bool) -> list[Job]:
    """Jobs of the orchestrator's store, open ones with all of their branches."""
    catalog = Catalog()
    catalog.load(connection)
    store = SqlJobStore(connection, catalog)
    ids = list(connection.execute(text("SELECT id FROM job")).scalars())
    found: list[Job] = []
    for start in range(0, len(ids), 500):
        page = store.load({i: {JOB_BRANCH} for i in ids[start : start + 500]}).values()
        found += [store.with_all_branches(j) if only_open else j for j in page if not (only_open and j.ended)]
    return found


async def records(kafka: KafkaAccess, topics: Iterable[Topic]) -> AsyncIterator[tuple[str, float, Message]]:
    """Everything that the topics hold up to now, as far as it can be read: (topic, Unix time, message)."""
    allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}
    consumer = AIOKafkaConsumer(*allowed, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", **kafka.options)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        missing = {tp for tp, end in ends.items() if end > 0 and await consumer.position(tp) < end}
        while missing:
            for tp, batch in (await consumer.getmany(timeout_ms=1000, max_records=5000)).items():
                for r in batch:
                    try:
                        yield tp.topic, r.timestamp / 1000, from_record(r.value, r.headers, allowed[tp.topic])
                    except UndecodableRecord:
                        continue
            missing = {tp for tp in missing if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()


async def histories(kafka: KafkaAccess, wanted: set[str]) -> dict[str, list[Recorded]]:
    """What was said to the orchestrator of some jobs, in the order it was written."""
    found: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    parts: dict[str, list[SessionFiles]] = defaultdict(list)
    kinds = (SessionClosed, StageReport, *JOB_COMMANDS)
    async for _, at, message in records(kafka, (SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, STAGE_REPORTS_TOPIC)):
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
        # What makes the job stands first, whatever the clocks of two producers said.
        found[job_id] = sorted(whole, key=lambda e: (not isinstance(e[1], (CreateJob, SessionClosed)), e[0]))
    return found


def reading(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what Kafka or a database refuses is one sentence. Raises `CliError`."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except Outcome as error:
        raise CliError(str(error), 3) from None
    except KafkaError as error:
        raise CliError(f"Kafka cannot be read: {error}", 3) from None
