"""Binds the orchestrator's topics and timers to its handlers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import yaml
from pydantic import ValidationError
from sqlalchemy import Connection

from contracts.cloudevents import describe
from contracts.topics import BUILT_IN_ACTIONS, JOB_COMMANDS_TOPIC, SESSION_EVENTS_TOPIC, STAGE_REPORTS_TOPIC, all_topics
from services.job_orchestrator.adapters.sql_store import Catalog, SqlJobStore, next_due
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.settings import OrchestratorSettings
from services.job_orchestrator.snapshots import Snapshots
from shared.due import DueLoop
from shared.errors import Stop
from shared.lifecycle import Host
from shared.sql import exclusive

GROUP = "job_orchestrator"
BUILT_IN = Path(__file__).parent / "workflows"


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
    """Open the store, publish the workflows, declare the subscription and the timers."""
    workflows = read_workflows(f for f in (BUILT_IN, settings.workflows) if f)
    actions = {*BUILT_IN_ACTIONS, *(step.action for w in workflows for step in w.steps)}
    await host.open(all_topics(tuple(sorted(actions))))
    catalog = Catalog()

    def publish(connection: Connection) -> None:
        exclusive(connection, "workflows")
        for workflow in workflows:
            catalog.publish(connection, workflow)
        catalog.load(connection)

    await host.store.transact(publish)
    orchestrator = Orchestrator(partial(SqlJobStore, catalog=catalog))
    host.subscribe([SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, STAGE_REPORTS_TOPIC], GROUP, orchestrator.on_batch)
    host.due(DueLoop(host.settler, next_due, orchestrator.fire))
    host.background(Snapshots(host.settler, partial(SqlJobStore, catalog=catalog)).run)
