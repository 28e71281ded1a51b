"""Schedules: set and deleted by command, fired by their timers. Each firing makes one job."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from contracts import CreateJob, DeleteSchedule, FileRef, JobRequest, ScheduleState, SetSchedule, Tenancy, derived
from contracts.field_names import reason_of
from contracts.parameters import check_arguments
from contracts.topics import JOB_COMMANDS_TOPIC, SCHEDULES_TOPIC
from services.job_orchestrator.core.schedule import InvalidSchedule, next_time
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.decisions.replies import answer
from services.job_orchestrator.ports import SteeringStore
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)


def set_schedule(unit: Unit, store: SteeringStore, workflow: Workflow | None, message: SetSchedule, trace: str | None) -> None:
    """Create or change a schedule, or refuse the command: an invalid expression, time zone, workflow, metadata, address or argument."""
    now = datetime.fromtimestamp(unit.now, UTC)
    schedule_id, old = _own(store, message)
    try:
        at = next_time(message.cron, message.time_zone, now)
        known = _checked(workflow, message)
    except InvalidSchedule as error:
        answer(unit, message, "schedule", f"invalid {error.field}", trace, message=str(error)[:2000])
        return
    fault = check_arguments(known.all_steps, message.job.args, message.owner.tenant_id)
    if fault is not None:
        answer(unit, message, "schedule", f"invalid {fault.code}", trace, message=str(fault))
        return
    state = ScheduleState(
        schedule_id=schedule_id, owner=message.owner, cron=message.cron, time_zone=message.time_zone, job=message.job,
        urls=message.urls, paused=message.paused, next_at=None if message.paused else at, changed_at=now,
        revision=(old.revision if old else 0) + 1, last_job_id=old.last_job_id if old else None, admission=message.admission,
    )  # fmt: skip
    _save(unit, store, state)
    answer(unit, message, "schedule", None, trace)


def _checked(workflow: Workflow | None, message: SetSchedule) -> Workflow:
    """The workflow of the schedule's jobs. Raises `InvalidSchedule` for what would fail each of them."""
    job = message.job
    if workflow is None:
        version = f"@{job.workflow_version}" if job.workflow_version is not None else ""
        raise InvalidSchedule("workflow", f"there is no workflow {job.workflow}{version}")
    if not isinstance(job.metadata, dict | None):
        raise InvalidSchedule("metadata", "an object is expected")
    try:
        scheduled_files("", message.urls)
    except ValidationError as error:
        raise InvalidSchedule("urls", "; ".join(reason_of(fault) for fault in error.errors()[:1])) from None
    return workflow


def delete_schedule(unit: Unit, store: SteeringStore, message: DeleteSchedule, trace: str | None) -> None:
    """Delete a schedule of the tenant's, or refuse the command. The id stays taken."""
    _, old = _own(store, message)
    if old is None or old.deleted:
        answer(unit, message, "unschedule", "unknown_schedule", trace, message="there is no such schedule")
        return
    now = datetime.fromtimestamp(unit.now, UTC)
    # Its state stays on the topic for a time, without what its jobs were to work on.
    empty = {"job": JobRequest(workflow=old.job.workflow), "urls": (), "owner": Tenancy(tenant_id=old.owner.tenant_id)}
    changes = {**empty, "deleted": True, "next_at": None, "start_job_id": None, "revision": old.revision + 1, "changed_at": now}
    _save(unit, store, old.model_copy(update=changes))
    answer(unit, message, "unschedule", None, trace)


def _own(store: SteeringStore, message: SetSchedule | DeleteSchedule) -> tuple[str, ScheduleState | None]:
    """Id and state of the tenant's schedule. Where another tenant has the id, the tenant's schedule has one of its own."""
    tenant, schedule_id = message.owner.tenant_id, message.schedule_id
    old = store.schedule(schedule_id)
    if old is not None and old.owner.tenant_id != tenant:
        schedule_id = derived(tenant, schedule_id, "own-schedule")
        old = store.schedule(schedule_id)
    return schedule_id, old


def _save(unit: Unit, store: SteeringStore, state: ScheduleState) -> None:
    store.save_schedule(state)
    unit.emit(SCHEDULES_TOPIC.name, state, None, traced=False)


def scheduled_files(root: str, urls: Sequence[str]) -> tuple[FileRef, ...]:
    """The remote files of one job; their ids derive from `root`. Raises `ValidationError` for an address that is too long."""
    return tuple(
        FileRef(file_id=derived(root, "file", i), file_name=url.rpartition("/")[2][:255] or f"file-{i + 1}", url=url)
        for i, url in enumerate(urls)
    )


def _following(state: ScheduleState, now: datetime) -> datetime | None:
    try:
        return next_time(state.cron, state.time_zone, now)
    except InvalidSchedule as error:
        # It was valid once, for example with other time zone data. The schedule stops, and its `next_at` shows it.
        log.error("schedule stopped", extra={"schedule": state.schedule_id, "reason": str(error)})
        return None


def fire_schedules(unit: Unit, store: SteeringStore, limit: int) -> int:
    """Fire up to `limit` schedules that are due; returns how many. Each makes one job, however many of its times have passed.

    With `admission` the job is named in the schedule's state, and the gateway starts it within the tenant's quotas.
    """
    now = datetime.fromtimestamp(unit.now, UTC)
    due = store.due_schedules(unit.now, limit)
    for state in due:
        assert state.next_at is not None
        # The ids derive from the time it was due: fired again after a crash, it makes the same job.
        root = derived(state.schedule_id, state.next_at.isoformat(), "scheduled")
        job_id = derived(root, "job")
        if not state.admission:
            command = CreateJob(
                command_id=derived(root, "create"), job_id=job_id, owner=state.owner, issued_at=now, job=state.job,
                files=scheduled_files(root, state.urls),
            )  # fmt: skip
            unit.emit(JOB_COMMANDS_TOPIC.name, command, None, True)
        changes = {
            "next_at": _following(state, now),
            "last_job_id": job_id,
            "start_job_id": job_id if state.admission else None,
            "revision": state.revision + 1,
            "changed_at": now,
        }
        _save(unit, store, state.model_copy(update=changes))
    return len(due)
