"""Rows of another release that this one cannot read: their work ends with a reason, and the service continues."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from contracts import CommandDecided, PublishWorkflow
from services.ingest.adapters.background.bulk_runner import BulkRunner
from services.ingest.adapters.store.operations import BulkRow
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.seal_store import SqlSealStore
from services.job_orchestrator.adapters.sql_store import SqlJobStore
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore
from services.job_orchestrator.ports import Stores
from services.job_orchestrator.publishing.workflows import WorkflowPublisher
from shared.database.store import Store, table_of
from shared.errors import DeadLetter, Retry
from shared.processing.processor import BatchProcessor
from tests.conformance.conftest import Opener
from tests.contracts.examples import OTHERS
from tests.eventually import eventually
from tests.unit.fake_relay import NotingRelay

COMMAND = next(m for m in OTHERS if isinstance(m, PublishWorkflow))
GOOD = {"name": "letters", "version": 1, "steps": [{"name": "read", "action": "acme.read"}]}


@contextlib.asynccontextmanager
async def running(work: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def wanted(store: Store, definition: dict[str, Any]) -> None:
    command = COMMAND.model_copy(update={"definition": definition})
    await store.transact(lambda c: SqlSteeringStore(c).queue_workflow(command))


async def published(store: Store, ensure: Callable[[set[str]], Awaitable[None]]) -> tuple[CommandDecided, list[str], Catalog]:
    """Run the publication until it has answered; the answer, what it sent, what is in the catalogue."""
    relay: Any = NotingRelay()
    processor, catalog = BatchProcessor("job_orchestrator", store, relay, relay.telemetry), Catalog()
    stores = Stores(partial(SqlJobStore, catalog=catalog), partial(SqlDispatchStore, slot=0), SqlSteeringStore, SqlSealStore)

    async def answered() -> Any:
        return next((row for row in relay.sent if row.topic == "job.answers"), None)

    async with running(WorkflowPublisher(processor, stores, catalog, ensure).run):
        answer = await eventually(answered, 20)
    assert await store.read(lambda c: list(SqlSteeringStore(c).queued_workflows())) == [], "it is asked once"
    return CommandDecided.read(answer.value), [row.topic for row in relay.sent], catalog


async def there(actions: set[str]) -> None:
    """Every topic is there."""


async def test_a_workflow_that_this_release_cannot_read_is_refused(opened: Opener) -> None:
    store = await opened("job_orchestrator")
    await wanted(store, GOOD | {"steps": [{"name": "read", "action": "acme.read", "of_tomorrow": 1}]})
    answer, sent, catalog = await published(store, there)
    assert (answer.ok, answer.code) == (False, "invalid_workflow") and "of_tomorrow" in answer.message
    assert "workflow.events" not in sent and not catalog.versions


async def test_a_workflow_whose_topic_cannot_be_made_is_refused_with_its_name(opened: Opener) -> None:
    store = await opened("job_orchestrator")
    await wanted(store, GOOD)

    async def ensure(actions: set[str]) -> None:
        assert actions == {"acme.read"}
        raise DeadLetter("missing_topic", "steps: there is no topic stage.tasks.acme.read")

    answer, sent, catalog = await published(store, ensure)
    assert (answer.ok, answer.code) == (False, "missing_topic") and "stage.tasks.acme.read" in answer.message
    assert "workflow.events" not in sent and not catalog.versions


async def test_a_workflow_waits_while_kafka_cannot_say(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.job_orchestrator.publishing.workflows.SWEEP_S", 0.05)
    store, asked = await opened("job_orchestrator"), 0
    await wanted(store, GOOD)

    async def ensure(actions: set[str]) -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise Retry("kafka_unavailable", "away")

    answer, sent, catalog = await published(store, ensure)
    assert answer.ok and asked == 3 and sent.count("workflow.events") == 1 and ("letters", 1) in catalog.versions


@pytest.mark.parametrize("filter_", [{"of_tomorrow": 1}, {"stage": ["failed"], "sort": "of tomorrow"}])
async def test_a_bulk_run_that_this_release_cannot_read_ends_with_the_reason(opened: Opener, filter_: dict[str, Any]) -> None:
    store = await opened("ingest")
    body = json.dumps({"id": "b-1", "verb": "cancel", "filter": filter_, "cursor": None, "rate_per_s": 10})
    row = {"id": "b-1", "tenant_id": "t", "created_at": 1.0, "state": "running", "body": body}
    await store.transact(lambda c: c.execute(table_of(BulkRow).insert(), row) and None)
    gateway: Any = SimpleNamespace(store=store, bulk_wake=asyncio.Event())

    async def ended() -> Any:
        found = await store.read(lambda c: c.execute(table_of(BulkRow).select()).one())
        return found if found.state != "running" else None

    async with running(BulkRunner(gateway).run):
        found = await eventually(ended, 20)
    assert found.state == "failed" and json.loads(found.body)["error"]
