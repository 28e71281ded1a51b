"""Binds the orchestrator's topics and timers to its handlers."""

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
from services.job_orchestrator.dispatch.backlog import Backlog
from services.job_orchestrator.dispatch.dispatcher import Dispatcher, counts_for
from services.job_orchestrator.handlers import Orchestrator, Stores, dedup_policy
from services.job_orchestrator.publishing.job_state import Snapshots
from services.job_orchestrator.publishing.schedules import fire_schedules
from services.job_orchestrator.publishing.workflows import Publication, announce
from services.job_orchestrator.settings import OrchestratorSettings
from shared.database.statements import exclusive
from shared.errors import DeadLetter, Stop
from shared.processing.unit_of_work import Unit
from shared.runtime.service import Host
from shared.runtime.timers import TimerLoop

GROUP = "job_orchestrator"
BUILT_IN = Path(__file__).parent / "workflows"
SLOTS = 16


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
    """Open the store, publish the workflows, declare the subscriptions and the timers."""
    workflows = read_workflows(f for f in (BUILT_IN, settings.workflows) if f)
    await host.open_resources(all_topics(_actions(workflows)))
    catalog = Catalog()
    slot = zlib.crc32(settings.instance.encode()) % SLOTS
    stores = Stores(partial(SqlJobStore, catalog=catalog), partial(SqlDispatchStore, slot=slot), SqlSteeringStore)
    await host.run_startup_unit(lambda unit: _prepare(unit, catalog, workflows, stores))
    # Those that were published by command, maybe while this process was away.
    await host.await_topics(all_topics(_actions(catalog.versions.values())))
    orchestrator = Orchestrator(stores)
    topics = [SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, STAGE_REPORTS_TOPIC, STAGE_WORKERS_TOPIC]
    host.subscribe(topics, GROUP, orchestrator.on_batch, dedup_policy)
    host.add_timer_loop(TimerLoop(host.processor, next_due, orchestrator.fire))
    host.add_timer_loop(
        TimerLoop(host.processor, next_schedule, lambda unit, n: fire_schedules(unit, stores.steering(unit.connection), n))
    )
    host.add_timer_loop(TimerLoop(host.processor, Dispatcher(orchestrator).next_at, orchestrator.grant))
    host.add_background(Snapshots(host.processor, stores.jobs).run)
    host.add_background(Backlog(host.processor, orchestrator, settings.instance).run)

    async def ensure(actions: set[str]) -> None:
        topics = [task_topic(action) for action in sorted(actions)]
        missing = await host.missing_topics(topics)
        if missing:
            # A task for a topic that is not there would hold up everything behind it in the outbox.
            names = ", ".join(sorted(missing))
            raise DeadLetter(
                "missing_topic",
                f"steps: there is no topic {names}, and it cannot be made here; see stageline kafka apply --action",
            )

    host.add_background(Publication(host.processor, stores, catalog, ensure).run)


def _actions(workflows: Iterable[Workflow]) -> tuple[str, ...]:
    used = {step.action for w in workflows for step in w.all_steps if step.action}
    return tuple(sorted(used | set(BUILT_IN_ACTIONS)))


def _prepare(unit: Unit, catalog: Catalog, workflows: Iterable[Workflow], stores: Stores) -> None:
    connection: Connection = unit.connection
    exclusive(connection, "workflows")
    for workflow in workflows:
        catalog.publish(connection, workflow)
    catalog.load(connection)
    for workflow in catalog.versions.values():
        # Every time: the topic keeps one of each, and whoever lost it gets it back.
        announce(unit, workflow)
    stores.dispatch(connection).recount(partial(counts_for, catalog, branch_from_text))
