"""Schedules: set and deleted by command, fired by their timers. Each firing makes one job."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from contracts import CreateJob, DeleteSchedule, FileRef, ScheduleState, SetSchedule, derived
from contracts.cloudevents import describe
from contracts.topics import JOB_COMMANDS_TOPIC, SCHEDULES_TOPIC
from services.job_orchestrator.core.schedule import InvalidSchedule, next_time
from services.job_orchestrator.decisions.replies import answer
from services.job_orchestrator.ports import SteeringStore
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)


def set_schedule(unit: Unit, store: SteeringStore, message: SetSchedule, trace: str | None) -> None:
    """Create or change a schedule, or refuse the command: another tenant's id, or an invalid expression, time zone or address."""
    now = datetime.fromtimestamp(unit.now, UTC)
    old = store.schedule(message.schedule_id)
    if old is not None and old.owner.tenant_id != message.owner.tenant_id:
        answer(unit, message, "schedule", "exists", trace, message="schedule_id: the id is taken")
        return
    try:
        at = next_time(message.cron, message.time_zone, now)
        scheduled_files("", message.urls)
    except InvalidSchedule as error:
        answer(unit, message, "schedule", f"invalid {error.field}", trace, message=str(error))
        return
    except ValidationError as error:
        answer(unit, message, "schedule", "invalid urls", trace, message=f"urls: {describe(error)}"[:2000])
        return
    state = ScheduleState(
        schedule_id=message.schedule_id, owner=message.owner, cron=message.cron, time_zone=message.time_zone, job=message.job,
        urls=message.urls, paused=message.paused, next_at=None if message.paused else at, changed_at=now,
        revision=(old.revision if old else 0) + 1, last_job_id=old.last_job_id if old else None,
    )  # fmt: skip
    _save(unit, store, state)
    answer(unit, message, "schedule", None, trace)


def delete_schedule(unit: Unit, store: SteeringStore, message: DeleteSchedule, trace: str | None) -> None:
    """Delete a schedule of the tenant's, or refuse the command. The id stays taken."""
    old = store.schedule(message.schedule_id)
    if old is None or old.deleted or old.owner.tenant_id != message.owner.tenant_id:
        answer(unit, message, "unschedule", "unknown_schedule", trace, message="there is no such schedule")
        return
    now = datetime.fromtimestamp(unit.now, UTC)
    changes = {"deleted": True, "next_at": None, "revision": old.revision + 1, "changed_at": now}
    _save(unit, store, old.model_copy(update=changes))
    answer(unit, message, "unschedule", None, trace)


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
    """Fire up to `limit` schedules that are due; returns how many. Each makes one job, however many of its times have passed."""
    now = datetime.fromtimestamp(unit.now, UTC)
    due = store.due_schedules(unit.now, limit)
    for state in due:
        assert state.next_at is not None
        # The ids derive from the time it was due: fired again after a crash, it makes the same job.
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
        _save(unit, store, state.model_copy(update=changes))
    return len(due)
