"""Workflows and schedules by command: taken here, published by `publication.py`, fired by their timers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from contracts import CreateJob, DeleteSchedule, FileRef, Message, PublishWorkflow, ScheduleState, SetSchedule, derived
from contracts.cloudevents import describe
from contracts.topics import JOB_COMMANDS_TOPIC, SCHEDULES_TOPIC
from services.job_orchestrator.core.schedule import Bad, next_time
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.decisions.replies import decided
from services.job_orchestrator.ports import SteeringStore
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)


def steer(unit: Unit, store: SteeringStore, message: Message, trace: str | None) -> None:
    """One command that concerns no job."""
    if isinstance(message, PublishWorkflow):
        _publish(unit, store, message, trace)
    elif isinstance(message, SetSchedule):
        _set(unit, store, message, trace)
    elif isinstance(message, DeleteSchedule):
        _delete(unit, store, message, trace)


def _publish(unit: Unit, store: SteeringStore, message: PublishWorkflow, trace: str | None) -> None:
    try:
        workflow = Workflow.model_validate(message.definition)
    except ValidationError as error:
        decided(unit, message, "publish", "invalid_workflow", trace, message=describe(error)[:2000])
        return
    if workflow.name != message.name:
        decided(unit, message, "publish", "invalid_workflow", trace, message=f"name: {workflow.name!r} is not {message.name!r}")
        return
    # Its topics are made first, outside this transaction: no job of it may find one missing.
    store.want(message)


def _set(unit: Unit, store: SteeringStore, message: SetSchedule, trace: str | None) -> None:
    now = datetime.fromtimestamp(unit.now, UTC)
    old = store.schedule(message.schedule_id)
    if old is not None and old.owner.tenant_id != message.owner.tenant_id:
        decided(unit, message, "schedule", "exists", trace, message="schedule_id: the id is taken")
        return
    try:
        at = next_time(message.cron, message.time_zone, now)
        scheduled_files("", message.urls)
    except Bad as error:
        decided(unit, message, "schedule", f"invalid {error.field}", trace, message=str(error))
        return
    except ValidationError as error:
        decided(unit, message, "schedule", "invalid urls", trace, message=f"urls: {describe(error)}"[:2000])
        return
    state = ScheduleState(
        schedule_id=message.schedule_id, owner=message.owner, cron=message.cron, time_zone=message.time_zone, job=message.job,
        urls=message.urls, paused=message.paused, next_at=None if message.paused else at, changed_at=now,
        revision=(old.revision if old else 0) + 1, last_job_id=old.last_job_id if old else None,
    )  # fmt: skip
    _keep(unit, store, state)
    decided(unit, message, "schedule", None, trace)


def _delete(unit: Unit, store: SteeringStore, message: DeleteSchedule, trace: str | None) -> None:
    old = store.schedule(message.schedule_id)
    if old is None or old.deleted or old.owner.tenant_id != message.owner.tenant_id:
        decided(unit, message, "unschedule", "unknown_schedule", trace, message="there is no such schedule")
        return
    now = datetime.fromtimestamp(unit.now, UTC)
    changes = {"deleted": True, "next_at": None, "revision": old.revision + 1, "changed_at": now}
    _keep(unit, store, old.model_copy(update=changes))
    decided(unit, message, "unschedule", None, trace)


def _keep(unit: Unit, store: SteeringStore, state: ScheduleState) -> None:
    store.keep(state)
    unit.emit(SCHEDULES_TOPIC.name, state, None, traced=False)


def scheduled_files(root: str, urls: Sequence[str]) -> tuple[FileRef, ...]:
    """Remote files of one job of a schedule. Raises `ValidationError` for an address that is too long."""
    return tuple(
        FileRef(file_id=derived(root, "file", i), file_name=url.rpartition("/")[2][:255] or f"file-{i + 1}", url=url)
        for i, url in enumerate(urls)
    )


def _following(state: ScheduleState, now: datetime) -> datetime | None:
    try:
        return next_time(state.cron, state.time_zone, now)
    except Bad as error:
        # Right once, e.g. with other time zone data: it stands still, and `next_at` says so; the process goes on.
        log.error("schedule stands still", extra={"schedule": state.schedule_id, "reason": str(error)})
        return None


def fire_schedules(unit: Unit, store: SteeringStore, limit: int) -> int:
    """Schedules that are due: each makes one job, however many of its times have passed meanwhile."""
    now = datetime.fromtimestamp(unit.now, UTC)
    due = store.due_schedules(unit.now, limit)
    for state in due:
        assert state.next_at is not None
        # The id comes from the time it was due: fired again after a crash, it is the same job.
        root = derived(state.schedule_id, state.next_at.isoformat(), "scheduled")
        command = CreateJob(
            command_id=derived(root, "create"), job_id=derived(root, "job"), owner=state.owner, issued_at=now, job=state.job,
            files=scheduled_files(root, state.urls),
        )  # fmt: skip
        unit.emit(JOB_COMMANDS_TOPIC.name, command, None, True)
        changes = {
            "next_at": _following(state, now),
            "last_job_id": command.job_id,
            "revision": state.revision + 1,
            "changed_at": now,
        }
        _keep(unit, store, state.model_copy(update=changes))
    return len(due)
