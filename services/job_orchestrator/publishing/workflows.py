"""Publishes workflows that were sent by command: first their task topics, then the version itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from contracts import PublishWorkflow, WorkflowPublished
from contracts.cloudevents import describe
from contracts.topics import WORKFLOWS_TOPIC
from services.job_orchestrator.adapters.sql_store import Catalog
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.decisions.replies import decided
from services.job_orchestrator.handlers import Stores
from shared.database.statements import exclusive
from shared.errors import DeadLetter, Retry, Stop
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit
from shared.runtime.wakeup import Wakeup

log = logging.getLogger(__name__)
SWEEP_S = 15.0
"""Looked at this often even if nothing woke us: another replica may have died before it published."""


class Publication:
    """`ensure(actions)` makes the topics of actions. It raises `Park` saying which of them there is not and how to get it."""

    def __init__(
        self, processor: BatchProcessor, stores: Stores, catalog: Catalog, ensure: Callable[[set[str]], Awaitable[None]]
    ) -> None:
        self.processor = processor
        self.stores = stores
        self.catalog = catalog
        self.ensure = ensure
        self._wake = Wakeup()
        processor.after_commit.append(self._wake.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.begin()
            try:
                for command in await self.processor.store.read(lambda c: self.stores.steering(c).wanted()):
                    await self._one(command)
            except Retry as error:
                log.warning("workflows will be published later", extra={"code": error.code, "reason": str(error)})
            await self._wake.wait(SWEEP_S)

    async def _one(self, command: PublishWorkflow) -> None:
        try:
            # Checked when it was taken, perhaps by another release than this one.
            workflow = Workflow.model_validate(command.definition)
        except ValidationError as error:
            return await self._refuse(command, "invalid_workflow", describe(error)[:2000])
        try:
            await self.ensure({step.action for step in workflow.all_steps if step.action})
        except DeadLetter as error:
            return await self._refuse(command, error.code, str(error))
        await self.processor.run_unit(lambda unit: self.publish(unit, command, workflow))
        return None

    async def _refuse(self, command: PublishWorkflow, code: str, why: str) -> None:
        def refuse(unit: Unit) -> None:
            self.stores.steering(unit.connection).got(command.command_id)
            decided(unit, command, "publish", code, None, message=why)

        await self.processor.run_unit(refuse)

    def publish(self, unit: Unit, command: PublishWorkflow, workflow: Workflow) -> None:
        """In one transaction: the version, its event, the answer."""
        exclusive(unit.connection, "workflows")
        self.stores.steering(unit.connection).got(command.command_id)
        try:
            self.catalog.publish(unit.connection, workflow)
        except Stop as error:
            decided(unit, command, "publish", error.code, None, message=str(error))
            return
        announce(unit, workflow)
        decided(unit, command, "publish", None, None)


def announce(unit: Unit, workflow: Workflow) -> None:
    """`WorkflowPublished`."""
    event = WorkflowPublished(
        name=workflow.name, version=workflow.version, definition=workflow.model_dump(mode="json", exclude_none=True),
        published_at=datetime.fromtimestamp(unit.now, UTC),
    )  # fmt: skip
    unit.emit(WORKFLOWS_TOPIC.name, event, None, traced=False)
