"""Erasure of sessions that became no job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from contracts import EraseSession
from services.ingest.http.commands import send_session_command, session_refused
from services.ingest.http.dependencies import GatewayDep, Writer
from shared import clock

router = APIRouter(prefix="/v1", tags=["Operations"], max_body_size=1 << 20)


@router.delete("/sessions/{session_id}", status_code=204, summary="Erase a session without a job", operation_id="eraseSession")
async def erase(
    session_id: str, request: Request, gateway: GatewayDep, who: Writer, reason: Annotated[str, Query(max_length=1000)] = ""
) -> None:
    """Erases an open or expired session with its files, uploads and objects. An object with the content of another file stays.

    Consumers get a `SessionErased` event. 404 for an unknown session; 409 when a job was created from it: erase the job.
    """
    command = EraseSession(
        command_id=clock.new_root(), session_id=session_id, owner=who.tenancy, issued_at=clock.now(), reason=reason
    )
    answer = await send_session_command(request, gateway, command, "The erasure")
    if not answer["ok"]:
        raise session_refused(answer)
