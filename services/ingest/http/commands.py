"""Commands to the session service and the orchestrator: published here, decided there, answered once the read model shows the effect."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from sqlalchemy import Connection, text

from contracts import Message
from contracts.topics import JOB_COMMANDS_TOPIC, SESSION_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.http.errors import ApiError
from shared.web.middleware import trace_of

NOT_FOUND = frozenset({"unknown_job", "unknown_schedule", "unknown_workflow"})
INVALID = ("invalid", "unknown")
"""Prefixes of refusal codes that mean the request was wrong."""
SESSION_ERRORS = {"unknown_session": 404, "closed": 409, "expired": 409, "other_body": 409, "empty": 400, "too_many_files": 400}
"""Reason of a session's refusal → HTTP status."""
_JOB = text("SELECT body FROM job_view WHERE id = :i")


async def send_command(request: Request, gateway: Gateway, command: Message, what: str) -> dict[str, Any]:
    """Send a command to the orchestrator and return its answer.

    Raises 400, 404 or 409 for a refusal, and 503 when no answer arrived in time. `what` names the command in error texts.
    """
    await gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
    answer = await gateway.decisions.decision(command.message_id, gateway.settings.decision_timeout_s)
    if answer is None:
        raise ApiError(503, f"{what} was taken but is not decided yet: the orchestrator does not answer.", retry_after_s=5)
    if not answer["ok"]:
        code = answer["reason"] or "refused"
        status = 404 if code in NOT_FOUND else 400 if code.startswith(INVALID) else 409
        raise ApiError(status, answer["message"] or code, code=code)
    if answer.get("sequence") and answer.get("job_id"):
        await wait_for_sequence(gateway, answer["job_id"], answer["sequence"])
    return answer


async def wait_for_sequence(gateway: Gateway, job_id: str, sequence: int) -> None:
    """Wait until the read model has the job's event `sequence`, so that a read right after the command is right."""

    def look(connection: Connection) -> bool | None:
        body = connection.execute(_JOB, {"i": job_id}).scalar()
        record = json.loads(body) if body else None
        # Without a record the command was an erasure, which the read model applied before this answer arrived.
        return True if record is None or (record["sequence"] >= sequence and not record.get("ending")) else None

    await gateway.decisions.wait_until(look, gateway.settings.decision_timeout_s)


async def send_session_command(request: Request, gateway: Gateway, command: Message, what: str) -> dict[str, Any]:
    """Send a command to the session service and return its answer, also a refusal. Raises 503 when none arrived in time."""
    await gateway.publisher.publish_command(SESSION_COMMANDS_TOPIC.name, command, trace_of(request))
    return await await_decision(gateway, command.message_id, what)


async def await_decision(gateway: Gateway, command_id: str, what: str) -> dict[str, Any]:
    """The answer to a published command: `{ok, reason, message, …}`. Raises 503 when none arrived in time."""
    answer = await gateway.decisions.decision(command_id, gateway.settings.decision_timeout_s)
    if answer is None:
        raise ApiError(503, f"{what} was taken but is not decided yet. Repeating the request is safe.", retry_after_s=5)
    return answer


def session_refused(answer: dict[str, Any]) -> ApiError:
    """The error that a session's refusal stands for."""
    return ApiError(SESSION_ERRORS.get(answer["reason"], 409), answer["message"], "session_id")
