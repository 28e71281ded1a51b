"""Publishes workflows that were sent by command: first their task topics, then the version."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from contracts import DeleteWorkflow, PublishWorkflow, WorkflowPublished
from contracts.cloudevents import describe
from contracts.identity import PLATFORM_TENANT, PRIVATE_WORKFLOWS
from contracts.parameters import check_definition
from contracts.secrecy import hide_secrets
from contracts.topics import WORKFLOWS_TOPIC
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.decisions.replies import answer
from services.job_orchestrator.ports import SteeringStore, Stores
from shared.database.statements import exclusive
from shared.errors import DeadLetter, Retry, Stop
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit
from shared.runtime.wakeup import Wakeup

log = logging.getLogger(__name__)
SWEEP_S = 15.0
"""Seconds between two looks without a wake-up: another replica may have died before it published."""
MOST_MESSAGE = 2000
"""Characters of a message to a user."""


def request_workflow(unit: Unit, store: SteeringStore, message: PublishWorkflow, trace: str | None) -> None:
    """Queue a workflow for `WorkflowPublisher`, or refuse it with what is wrong."""
    try:
        workflow = Workflow.model_validate(message.definition)
    except ValidationError as error:
        answer(unit, message, "publish", "invalid_workflow", trace, message=describe(error, message.definition)[:MOST_MESSAGE])
        return
    fault = check_definition(message.definition, message.owner.tenant_id == PLATFORM_TENANT)
    if fault is not None:
        answer(unit, message, "publish", "invalid_workflow", trace, message=str(fault)[:MOST_MESSAGE])
        return
    if workflow.name != message.name:
        answer(unit, message, "publish", "invalid_workflow", trace, message=f"name: {workflow.name!r} is not {message.name!r}")
        return
    if not _is_own(store, message):
        answer(unit, message, "publish", "invalid_workflow", trace, message="name: this tenant cannot publish under the name")
        return
    # Topics cannot be made in a transaction, and no job may find one missing: the version is published after them.
    store.queue_workflow(message)


def _is_own(store: SteeringStore, message: PublishWorkflow) -> bool:
    """True when the tenant may publish under the name. The platform has all names but those with the tenants' prefix."""
    tenant = message.owner.tenant_id
    if not message.name.startswith(PRIVATE_WORKFLOWS):
        return tenant == PLATFORM_TENANT
    return store.claim_workflow(message.name, tenant)


def delete_workflow(
    unit: Unit, store: SteeringStore, message: DeleteWorkflow, protected: frozenset[str], trace: str | None
) -> None:
    """Delete all versions of a workflow, or refuse: it is unknown, comes from a file, or a schedule or another workflow starts it."""
    versions = store.live_versions(message.name)
    user = store.user_of(message.name) if versions else None
    if not versions:
        answer(unit, message, "delete_workflow", "unknown_workflow", trace, message=f"there is no workflow {message.name}")
    elif message.name in protected:
        why = f"{message.name} comes from a file; it would return with the next start"
        answer(unit, message, "delete_workflow", "workflow_of_file", trace, message=why)
    elif user is not None:
        answer(unit, message, "delete_workflow", "workflow_in_use", trace, message=f"{user} starts jobs of {message.name}")
    else:
        store.mark_deleted(message.name, versions)
        for version in versions:
            announce_deleted(unit, message.name, version)
        answer(unit, message, "delete_workflow", None, trace)


def announce_deleted(unit: Unit, name: str, version: int) -> None:
    """Emit `WorkflowPublished` of a deleted version, which replaces the text in the topic."""
    at = datetime.fromtimestamp(unit.now, UTC)
    event = WorkflowPublished(name=name, version=version, definition={}, published_at=at, deleted=True)
    unit.emit(WORKFLOWS_TOPIC.name, event, None, traced=False)


class WorkflowPublisher:
    """Publishes queued workflows. `ensure(actions)` makes their task topics; it raises `DeadLetter` naming those that cannot be made."""

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
        """Publish until cancelled."""
        while True:
            self._wake.begin()
            try:
                for command in await self.processor.store.read(lambda c: self.stores.steering(c).queued_workflows()):
                    await self._one(command)
            except Retry as error:
                log.warning("workflows not published; they will be tried again", extra={"code": error.code, "reason": str(error)})
            await self._wake.wait(SWEEP_S)

    async def _one(self, command: PublishWorkflow) -> None:
        try:
            # Validated again: another release may have queued it.
            workflow = Workflow.model_validate(command.definition)
        except ValidationError as error:
            return await self._refuse(command, "invalid_workflow", describe(error, command.definition)[:MOST_MESSAGE])
        try:
            await self.ensure({step.action for step in workflow.all_steps if step.action})
        except DeadLetter as error:
            return await self._refuse(command, error.code, str(error))
        await self.processor.run_unit(lambda unit: self.publish(unit, command, workflow))
        return None

    async def _refuse(self, command: PublishWorkflow, code: str, why: str) -> None:
        def refuse(unit: Unit) -> None:
            self.stores.steering(unit.connection).unqueue_workflow(command.command_id)
            answer(unit, command, "publish", code, None, message=why)

        await self.processor.run_unit(refuse)

    def publish(self, unit: Unit, command: PublishWorkflow, workflow: Workflow) -> None:
        """Write the version, its event and the answer; or refuse another text under a published version."""
        exclusive(unit.connection, "workflows")
        self.stores.steering(unit.connection).unqueue_workflow(command.command_id)
        try:
            self.catalog.publish(unit.connection, workflow, command.owner.tenant_id)
        except Stop as error:
            answer(unit, command, "publish", error.code, None, message=str(error))
            return
        announce(unit, workflow, self.catalog.owners(unit.connection).get((workflow.name, workflow.version)))
        answer(unit, command, "publish", None, None)


def announce(unit: Unit, workflow: Workflow, owner: str | None) -> None:
    """Emit `WorkflowPublished`, without secrets that a definition of an earlier release has in clear; `owner` as there."""
    definition = hide_secrets(workflow.model_dump(mode="json", exclude_none=True))
    event = WorkflowPublished(
        name=workflow.name, version=workflow.version, definition=definition,
        published_at=datetime.fromtimestamp(unit.now, UTC), owner=owner,
    )  # fmt: skip
    unit.emit(WORKFLOWS_TOPIC.name, event, None, traced=False)
