"""`Prefer: wait=N` (RFC 7240): the answer comes as soon as the job has ended, or after N seconds with its present state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Request, Response

from services.ingest.adapters.gateway import Gateway
from services.ingest.http.records import ended_job
from shared.web.api_keys import Principal
from shared.web.concurrency import key_of

MAX_WAIT_S = 60.0
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})(?:$|[,;\s])", re.IGNORECASE)


def preferred_wait(request: Request) -> float:
    """Seconds that the caller prefers to wait, at most 60; 0 without a valid preference."""
    found = _WAIT.search(", ".join(request.headers.getlist("prefer")))
    return min(float(found[1]), MAX_WAIT_S) if found else 0.0


@contextmanager
def place_to_wait(gateway: Gateway, who: Principal, seconds: float) -> Iterator[None]:
    """Count a request that will wait for `seconds`, during a `with` block; 0 counts nothing. Raises `TooMany`.

    Enter it before the request changes anything, so that a refused request can be repeated.
    """
    if not seconds:
        yield
        return
    with gateway.waiting.hold(who.tenant_id, key_of(who)):
        yield


async def wait_if_preferred(request: Request, response: Response, gateway: Gateway, job_id: str) -> dict[str, Any] | None:
    """The job's record once it has ended. None when the caller does not wait, or the job has not ended in that time."""
    timeout_s = preferred_wait(request)
    if not timeout_s:
        return None
    response.headers["preference-applied"] = f"wait={timeout_s:.0f}"
    return await ended_job(request, gateway, job_id, timeout_s)
