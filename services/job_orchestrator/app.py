"""Binds the orchestrator's topics, timers and background tasks to its handlers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import yaml
from pydantic import ValidationError
from sqlalchemy import Connection, text

from contracts import all_topics, task_topic
from contracts.cloudevents import describe
from contracts.topics import (
    BUILT_IN_ACTIONS,
    JOB_COMMANDS_TOPIC,
    OPERATOR_COMMANDS_TOPIC,
    SESSION_EVENTS_TOPIC,
    STAGE_REPORTS_TOPIC,
    STAGE_WORKERS_TOPIC,
)
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.codec import branch_from_text
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.seal_store import SqlSealStore
from services.job_orchestrator.adapters.sql_store import SqlJobStore, next_due
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore, next_schedule
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.decisions.task_addresses import TaskAddresses
from services.job_orchestrator.dispatch.backlog import BacklogPublisher
from services.job_orchestrator.dispatch.dispatcher import counts_for
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.ports import Stores
from services.job_orchestrator.publishing.job_state import JobStatePublisher
from services.job_orchestrator.publishing.references import ReferenceSearch
from services.job_orchestrator.publishing.schedules import fire_schedules
from services.job_orchestrator.publishing.seal_keys import SealKeyTimer
from services.job_orchestrator.publishing.workflows import WorkflowPublisher, announce, announce_deleted
from services.job_orchestrator.settings import OrchestratorSettings
from shared.database.statements import exclusive
from shared.errors import DeadLetter, Stop
from shared.processing.unit_of_work import Unit
from shared.runtime.service import Host
from shared.runtime.timers import TimerLoop
from shared.task_grants import TaskSeal

GROUP = "job_orchestrator"
BUILT_IN = Path(__file__).parent / "workflows"
EVERYBODY = "*"
"""Owner of the workflows of the release, which hold no configuration of anybody."""
SLOTS = 16
"""Rows that each counter of attempts in flight is spread over. Replicas rarely share one."""


def read_workflows(folders: Iterable[Path]) -> list[Workflow]:
    """Every workflow file of the folders. Raises `Stop` naming file, field and reason."""
    found: list[Workflow] = []
    for path in sorted(p for folder in folders for p in folder.glob("*.yaml")):
        try:
            definition = yaml.safe_load(path.read_text())
            found.append(Workflow.model_validate(definition))
        except ValidationError as error:
            raise Stop("invalid_workflow", f"{path.name}: {describe(error, definition)}") from error
        except yaml.YAMLError as error:
            raise Stop("invalid_workflow", f"{path.name}: {error}") from error
    return found


async def build(host: Host, settings: OrchestratorSettings) -> None:
    """Open the stores, publish the workflow files, and bind topics, timers and background tasks. Raises `Stop` for an invalid file."""
    packaged, further = read_workflows([BUILT_IN]), read_workflows([settings.workflows] if settings.workflows else [])
    await host.open_resources(all_topics(_actions([*packaged, *further])), seal=False)
    catalog = Catalog()
    slot = zlib.crc32(settings.instance.encode()) % SLOTS
    stores = Stores(partial(SqlJobStore, catalog=catalog), partial(SqlDispatchStore, slot=slot), SqlSteeringStore, SqlSealStore)
    await _seal(host, SealKeyTimer(stores.seals))
    await host.run_startup_unit(lambda unit: _prepare(unit, catalog, packaged, further, stores))
    # Again, now with workflows that were published by command, maybe while this process was stopped.
    await host.topics.ensure_at_start(all_topics(_actions(catalog.versions.values())))
    protected = frozenset(w.name for w in (*packaged, *further))
    addresses = TaskAddresses(settings.public_url, TaskSeal.from_file(settings.task_key_file))
    orchestrator = Orchestrator(stores, protected, lambda action: host.relay.held.reason(task_topic(action).name), addresses)
    processor, dispatcher = host.processor, orchestrator.dispatcher
    topics = [SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, OPERATOR_COMMANDS_TOPIC, STAGE_REPORTS_TOPIC, STAGE_WORKERS_TOPIC]
    host.subscribe(topics, GROUP, orchestrator.on_batch)
    host.add_timer_loop(TimerLoop(processor, next_due, orchestrator.fire))
    host.add_timer_loop(
        TimerLoop(processor, next_schedule, lambda unit, n: fire_schedules(unit, stores.steering(unit.connection), n))
    )
    host.add_timer_loop(TimerLoop(processor, dispatcher.next_at, orchestrator.grant))
    host.add_background(JobStatePublisher(processor, stores.jobs).run)
    host.add_background(BacklogPublisher(processor, dispatcher, settings.instance).run)
    host.add_background(ReferenceSearch(processor, stores).run)
    host.add_background(WorkflowPublisher(processor, stores, catalog, partial(_ensure_topics, host)).run)


async def _seal(host: Host, keys: SealKeyTimer) -> None:
    """Seal records from now on, if the deployment wants it, and renew the key. Without a key yet, nothing is sealed that is sent before the first."""
    if not host.settings.seal_records:
        return
    if await host.store.read(keys.next_due):
        await host.sealing.start()
    await host.run_startup_unit(lambda unit: keys.fire(unit, 1))
    await host.sealing.start()
    host.add_timer_loop(TimerLoop(host.processor, keys.next_due, keys.fire))


async def _ensure_topics(host: Host, actions: set[str]) -> None:
    """Make the task topics of `actions`. Raises `DeadLetter` naming those that cannot be made here."""
    missing = await host.topics.missing([task_topic(action) for action in sorted(actions)])
    if missing:
        # Jobs of the workflow would wait for it.
        names = ", ".join(sorted(missing))
        raise DeadLetter(
            "missing_topic",
            f"steps: there is no topic {names}, and it cannot be made here; see stageline kafka apply --action",
        )


def _actions(workflows: Iterable[Workflow]) -> tuple[str, ...]:
    used = {step.action for w in workflows for step in w.all_steps if step.action}
    return tuple(sorted(used | set(BUILT_IN_ACTIONS)))


def _prepare(unit: Unit, catalog: Catalog, packaged: Iterable[Workflow], further: Iterable[Workflow], stores: Stores) -> None:
    """Publish the workflow files, read all published versions, and count attempts in flight."""
    connection: Connection = unit.connection
    exclusive(connection, "workflows")
    for workflow in packaged:
        catalog.publish(connection, workflow, EVERYBODY)
    for workflow in further:  # files of the operator, with configuration that is the platform's own
        catalog.publish(connection, workflow)
    _forget_deleted(connection)
    catalog.load(connection)
    catalog.note_deleted(connection)
    owners = catalog.owners(connection)
    for (name, version), workflow in catalog.versions.items():
        # At each start: the topic is compacted, so a consumer that lost its copy gets it back.
        if (name, version) in catalog.deleted:
            announce_deleted(unit, name, version)
        else:
            announce(unit, workflow, owners.get((name, version)))
    stores.dispatch(connection).recount_in_flight(partial(counts_for, catalog, branch_from_text))


def _forget_deleted(connection: Connection) -> None:
    """Delete the texts of deleted workflows that no job is pinned to. Looking through the jobs costs too much at any other time."""
    connection.execute(
        text(
            "DELETE FROM workflow WHERE EXISTS (SELECT 1 FROM workflow_deleted d WHERE d.name = workflow.name AND d.version = workflow.version) "
            "AND NOT EXISTS (SELECT 1 FROM job j WHERE j.workflow_name = workflow.name AND j.workflow_version = workflow.version)"
        )
    )
