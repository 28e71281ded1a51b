"""Starts of schedules: admitted within the tenant's quotas, in the transaction that reads the schedule's state."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from sqlalchemy import text

from contracts import CreateJob, FileRef, ScheduleState, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.store.quotas import quotas_in
from services.ingest.adapters.store.reservations import (
    REMOTE_HOLD_S,
    OverLimit,
    job_place,
    limits,
    remote_place,
    reserve,
)
from services.ingest.core.job_view import text as shown_time
from services.ingest.settings import IngestSettings
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
_AUDIT = text("INSERT INTO audit (tenant_id, at, body) VALUES (:t, :at, :b)")


def start_scheduled(unit: Unit, state: ScheduleState, settings: IngestSettings) -> None:
    """Start the job that `state` asks for. Past a quota it is not started: the audit says so, and the schedule goes on.

    Ids derive from the job's id, so a repeated state starts nothing twice.
    """
    assert state.start_job_id is not None
    tenant, job_id = state.owner.tenant_id, state.start_job_id
    files = tuple(
        FileRef(file_id=derived(job_id, "file", i), file_name=url.rpartition("/")[2][:255] or f"file-{i + 1}", url=url)
        for i, url in enumerate(state.urls)
    )
    places = [job_place(job_id), *(remote_place(file.file_id, settings.max_file_bytes) for file in files)]
    caps = quotas_in(unit.connection, tenant, settings)
    try:
        if files or limits(caps, places):
            reserve(unit.connection, tenant, caps, places, unit.now, REMOTE_HOLD_S)
    except OverLimit as error:
        _refuse(unit, state, str(error))
        return
    command = CreateJob(
        command_id=derived(job_id, "create"), job_id=job_id, owner=state.owner, job=state.job, files=files,
        issued_at=datetime.fromtimestamp(unit.now, UTC),
    )  # fmt: skip
    unit.emit(JOB_COMMANDS_TOPIC.name, command, None, True)


def _refuse(unit: Unit, state: ScheduleState, why: str) -> None:
    log.warning("a scheduled job was not started", extra={"schedule": state.schedule_id, "reason": why})
    body = {
        "subject": f"schedule:{state.schedule_id}", "verb": "schedule.start", "ok": False, "code": "over_limit", "message": why,
        "by": "schedule", "reason": "", "job_id": state.start_job_id, "command_id": None,
        "occurred_at": shown_time(datetime.fromtimestamp(unit.now, UTC)),
    }  # fmt: skip
    unit.connection.execute(_AUDIT, {"t": state.owner.tenant_id, "at": unit.now, "b": json.dumps(body)})
