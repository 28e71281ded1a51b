"""Commands to the orchestrator and their answers: published, decided there, answered here once the read model shows it."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from sqlalchemy import Connection, text

from contracts import Message
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.http.errors import ApiError
from shared.web.middleware import trace_of

NOT_FOUND = frozenset({"unknown_job", "unknown_schedule", "unknown_workflow"})
WRONG = ("invalid", "unknown")
_SEQUENCE = text("SELECT body FROM job_view WHERE id = :i")


async def send_command(request: Request, gateway: Gateway, command: Message, what: str) -> dict[str, Any]:
    """Give a command and answer what became of it. Raises the error that a refusal stands for; 503 when nobody decided in time."""
    await gateway.publisher.publish(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
    answer = await gateway.decisions.decision(command.message_id, gateway.settings.decision_timeout_s)
    if answer is None:
        raise ApiError(503, f"{what} was taken but is not decided yet: the orchestrator does not answer.", retry_after_s=5)
    if not answer["ok"]:
        code = answer["reason"] or "refused"
        status = 404 if code in NOT_FOUND else 400 if code.startswith(WRONG) else 409
        raise ApiError(status, answer["message"] or code, code=code)
    if answer.get("sequence") and answer.get("job_id"):
        await _shown(gateway, answer["job_id"], answer["sequence"])
    return answer


async def _shown(gateway: Gateway, job_id: str, sequence: int) -> None:
    """Wait (bounded) until the read model has what the command did, so that a read right after it is right."""

    def there(connection: Connection) -> bool | None:
        body = connection.execute(_SEQUENCE, {"i": job_id}).scalar()
        record = json.loads(body) if body else None
        # No record any more: the command was to erase it, and that was read before its answer.
        return True if record is None or (record["sequence"] >= sequence and not record.get("ending")) else None

    await gateway.decisions.until(there, gateway.settings.decision_timeout_s)
