"""Operators' verbs count on `operator.commands` alone. On `job.commands`, which producers write, they are answered with a refusal."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from contracts import CreateJob, JobRequest, Message, PauseJob, PokeJob, SetControl, Tenancy, to_record
from contracts.topics import JOB_COMMANDS_TOPIC, OPERATOR_COMMANDS_TOPIC
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.seal_store import SqlSealStore
from services.job_orchestrator.adapters.sql_store import SqlJobStore
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore
from services.job_orchestrator.app import BUILT_IN, read_workflows
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.ports import Stores
from shared.database.store import Store
from shared.processing.inbox import DedupPolicy, unseen
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener
from tests.contracts.examples import AT

OWNER = Tenancy(tenant_id="acme", user_name="ann")


class Orchestrated:
    """The orchestrator's handlers on a store, with its inbox."""

    def __init__(self, store: Store) -> None:
        self.store, self.catalog = store, Catalog()
        self.handlers = Orchestrator(
            Stores(partial(SqlJobStore, catalog=self.catalog), partial(SqlDispatchStore, slot=0), SqlSteeringStore, SqlSealStore)
        )
        self.offset = 0

    async def start(self) -> None:
        def publish(connection: Any) -> None:
            for workflow in read_workflows([BUILT_IN]):
                self.catalog.publish(connection, workflow)

        await self.store.transact(publish)

    async def take(self, topic: str, message: Message) -> list[dict[str, Any]]:
        """Handle one record; returns the answers that it makes."""
        self.offset += 1
        record = to_record(message, "/test")
        item = Inbound(message, topic, 0, self.offset, 1.0, record.key, record.value, record.headers)

        def work(connection: Any) -> list[dict[str, Any]]:
            unit = Unit(connection, 1_800_000_000.0, "/test", Telemetry("test", "test"))
            self.handlers.on_batch(unit, unseen(unit, [item], DedupPolicy.BY_ID))
            return [json.loads(out.value) for out in unit.outgoing if out.topic == "job.answers"]

        found: list[dict[str, Any]] = await self.store.transact(work)
        return found


async def test_a_verb_counts_on_its_own_topic_alone(opened: Opener) -> None:
    made = Orchestrated(await opened("job_orchestrator"))
    await made.start()
    create = CreateJob(command_id="c", job_id="j", owner=OWNER, issued_at=AT, job=JobRequest(workflow="noop-five"))
    pause = PauseJob(command_id="p", job_id="j", owner=OWNER, issued_at=AT)
    assert await made.take(JOB_COMMANDS_TOPIC.name, create) == []
    [refused] = await made.take(JOB_COMMANDS_TOPIC.name, pause)
    assert (refused["ok"], refused["code"], refused["verb"], refused["command_id"]) == (False, "operator_topic", "pause", "p")
    assert "operator.commands" in refused["message"]
    # The same command, sent again by a gateway of this release, is no repeat.
    [done] = await made.take(OPERATOR_COMMANDS_TOPIC.name, pause)
    assert (done["ok"], done["verb"]) == (True, "pause")
    assert await made.take(OPERATOR_COMMANDS_TOPIC.name, pause) == [], "and this is one"


async def test_other_verbs_and_approvals_too(opened: Opener) -> None:
    made = Orchestrated(await opened("job_orchestrator"))
    await made.start()
    control = SetControl(command_id="s", owner=OWNER, issued_at=AT, kind="action", name="noop", paused=True)
    approval = PokeJob(command_id="a", job_id="j", owner=OWNER, issued_at=AT, approval=True)
    for command, verb in ((control, "control"), (approval, "poke")):
        [refused] = await made.take(JOB_COMMANDS_TOPIC.name, command)
        assert (refused["ok"], refused["code"], refused["verb"]) == (False, "operator_topic", verb)
    [signal] = await made.take(JOB_COMMANDS_TOPIC.name, approval.model_copy(update={"approval": False}))
    assert signal["code"] == "unknown_job", "a producer may signal a step"
    [done] = await made.take(OPERATOR_COMMANDS_TOPIC.name, control)
    assert done["ok"] is True
