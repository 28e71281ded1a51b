"""`Prefer: wait=N` (RFC 7240): the answer comes as soon as the job has ended, or after N seconds as it is then."""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import Request, Response
from sqlalchemy import Connection, text

from contracts import JobStage
from services.ingest.adapters.gateway import Gateway

MAX_WAIT_S = 60.0
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})(?:$|[,;\s])", re.IGNORECASE)
_BODY = text("SELECT body FROM job_view WHERE id = :i")


def preferred_wait(request: Request) -> float:
    """Seconds that the caller would wait, at most 60; 0 without the preference, or with one that is none."""
    found = _WAIT.search(", ".join(request.headers.getlist("prefer")))
    return min(float(found[1]), MAX_WAIT_S) if found else 0.0


async def until_ended(request: Request, response: Response, gateway: Gateway, job_id: str) -> dict[str, Any] | None:
    """The job's record, once it has ended or the caller's patience is over; None if it was not asked for, or is not there."""
    patience = preferred_wait(request)
    if not patience:
        return None
    response.headers["preference-applied"] = f"wait={patience:.0f}"

    def ended(connection: Connection) -> dict[str, Any] | None:
        body = connection.execute(_BODY, {"i": job_id}).scalar()
        record: dict[str, Any] | None = json.loads(body) if body else None
        return record if record is not None and JobStage(record["stage"]).terminal else None

    found: dict[str, Any] | None = await gateway.decisions.until(ended, patience, patient=True)
    return found
