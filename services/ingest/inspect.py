"""What the command line may read of the gateway: job records, and the projection that makes them. Read only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from services.ingest.adapters.store.read_model import records
from services.ingest.core import job_view
from services.ingest.core.job_end import with_held_end

Record = dict[str, Any]


def job_records(connection: Connection, ids: Iterable[str]) -> dict[str, Record]:
    """Job id → record of the read model, for the ids that it knows."""
    return {i: with_held_end(record) for i, record in records(connection, "job_view", ids).items()}


def projected(record: Record | None, job_id: str, event: Any) -> Record:
    """`record` (None for the first event) after one more job event, exactly as the projector would write it."""
    return job_view.apply_event(record or job_view.new_job(job_id, event.tenant, event.time), event)
