"""Binds the orchestrator's topics, timers and background tasks to its handlers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import yaml
from pydantic import ValidationError
from sqlalchemy import Connection

from contracts import all_topics, task_topic
from contracts.cloudevents import describe
from contracts.topics import (
    BUILT_IN_ACTIONS,
    JOB_COMMANDS_TOPIC,
    SESSION_EVENTS_TOPIC,
    STAGE_REPORTS_TOPIC,
    STAGE_WORKERS_TOPIC,
)
from services.job_orchestrator.adapters.codec import branch_from_text
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.sql_store import Catalog, SqlJobStore, next_due
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore, next_schedule
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.dispatch.backlog import BacklogPublisher
from services.job_orchestrator.dispatch.dispatcher import counts_for
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.ports import Stores
from services.job_orchestrator.publishing.job_state import JobStatePublisher
from services.job_orchestrator.publishing.schedules import fire_schedules
from services.job_orchestrator.publishing.workflows import WorkflowPublisher, announce
from services.job_orchestrator.settings import OrchestratorSettings
from shared.database.statements import exclusive
from shared.errors import DeadLetter, Stop
from shared.processing.unit_of_work import Unit
from shared.runtime.service import Host
from shared.runtime.timers import TimerLoop

GROUP = "job_orchestrator"
BUILT_IN = Path(__file__).parent / "workflows"
SLOTS = 16
"""Rows that each counter of attempts in flight is spread over. Replicas rarely share one."""


def read_workflows(folders: Iterable[Path]) -> list[Workflow]:
    """Every workflow file of the folders. Raises `Stop` naming file, field and reason."""
    found: list[Workflow] = []
    for path in sorted(p for folder in folders for p in folder.glob("*.yaml")):
        try:
            found.append(Workflow.model_validate(yaml.safe_load(path.read_text())))
        except ValidationError as error:
            raise Stop("invalid_workflow", f"{path.name}: {describe(error)}") from error
        except yaml.YAMLError as error:
            raise Stop("invalid_workflow", f"{path.name}: {error}") from error
    return found


async def build(host: Host, settings: OrchestratorSettings) -> None:
    """Open the stores, publish the workflow files, and bind topics, timers and background tasks. Raises `Stop` for an invalid file."""
    workflows = read_workflows(f for f in (BUILT_IN, settings.workflows) if f)
    await host.open_resources(all_topics(_actions(workflows)))
    catalog = Catalog()
    slot = zlib.crc32(settings.instance.encode()) % SLOTS
    stores = Stores(partial(SqlJobStore, catalog=catalog), partial(SqlDispatchStore, slot=slot), SqlSteeringStore)
    await host.run_startup_unit(lambda unit: _prepare(unit, catalog, workflows, stores))
    # Again, now with workflows that were published by command, maybe while this process was stopped.
    await host.await_topics(all_topics(_actions(catalog.versions.values())))
    orchestrator = Orchestrator(stores)
    processor, dispatcher = host.processor, orchestrator.dispatcher
    topics = [SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, STAGE_REPORTS_TOPIC, STAGE_WORKERS_TOPIC]
    host.subscribe(topics, GROUP, orchestrator.on_batch)
    host.add_timer_loop(TimerLoop(processor, next_due, orchestrator.fire))
    host.add_timer_loop(
        TimerLoop(processor, next_schedule, lambda unit, n: fire_schedules(unit, stores.steering(unit.connection), n))
    )
    host.add_timer_loop(TimerLoop(processor, dispatcher.next_at, orchestrator.grant))
    host.add_background(JobStatePublisher(processor, stores.jobs).run)
    host.add_background(BacklogPublisher(processor, dispatcher, settings.instance).run)
    host.add_background(WorkflowPublisher(processor, stores, catalog, partial(_ensure_topics, host)).run)


async def _ensure_topics(host: Host, actions: set[str]) -> None:
    """Make the task topics of `actions`. Raises `DeadLetter` naming those that cannot be made here."""
    missing = await host.missing_topics([task_topic(action) for action in sorted(actions)])
    if missing:
        # A task for a missing topic would hold up everything behind it in the outbox.
        names = ", ".join(sorted(missing))
        raise DeadLetter(
            "missing_topic",
            f"steps: there is no topic {names}, and it cannot be made here; see stageline kafka apply --action",
        )


def _actions(workflows: Iterable[Workflow]) -> tuple[str, ...]:
    used = {step.action for w in workflows for step in w.all_steps if step.action}
    return tuple(sorted(used | set(BUILT_IN_ACTIONS)))


def _prepare(unit: Unit, catalog: Catalog, workflows: Iterable[Workflow], stores: Stores) -> None:
    """Publish the workflow files, read all published versions, and count attempts in flight."""
    connection: Connection = unit.connection
    exclusive(connection, "workflows")
    for workflow in workflows:
        catalog.publish(connection, workflow)
    catalog.load(connection)
    for workflow in catalog.versions.values():
        # At each start: the topic is compacted, so a consumer that lost its copy gets it back.
        announce(unit, workflow)
    stores.dispatch(connection).recount_in_flight(partial(counts_for, catalog, branch_from_text))
