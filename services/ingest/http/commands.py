"""Commands to the session service and the orchestrator: published here, decided there, answered once the read model shows the effect."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from sqlalchemy import Connection, text

from contracts import CreateJob, Message
from contracts.topics import JOB_COMMANDS_TOPIC, SESSION_COMMANDS_TOPIC, command_topic
from services.ingest.adapters.admission import Admission
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import read_model as rm
from services.ingest.http.errors import ApiError
from shared.web.middleware import trace_of

NOT_FOUND = frozenset(
    {"unknown_job", "unknown_schedule", "unknown_workflow", "no_such_file", "no_such_value", "no_such_property", "no_tag"}
)
INVALID = ("invalid", "unknown")
"""Prefixes of refusal codes that mean the request was wrong."""
SESSION_ERRORS = {"unknown_session": 404, "closed": 409, "expired": 409, "other_body": 409, "empty": 400, "too_many_files": 400}
"""Reason of a session's refusal → HTTP status."""
ID_TAKEN = "job_id: the id cannot be used for a new job"
"""The same words whether the job is another tenant's, was erased, or is a different one: the answer tells nobody what exists."""
_JOB = text("SELECT body FROM job_view WHERE id = :i")
_OWN_JOB = text("SELECT body FROM job_view WHERE id = :i AND tenant_id = :t")
_ERASED = text("SELECT 1 FROM erased WHERE job_id = :j")


async def send_command(request: Request, gateway: Gateway, command: Message, what: str) -> dict[str, Any]:
    """Send a command to the orchestrator and return its answer.

    Raises 400, 404 or 409 for a refusal, and 503 when no answer arrived in time. `what` names the command in error texts.
    """
    answer = await _ask(request, gateway, command_topic(command).name, command, repeated=True)
    if answer is None:
        raise ApiError(503, f"{what} was taken but is not decided yet: the orchestrator does not answer.", retry_after_s=5)
    if not answer["ok"]:
        code = answer["reason"] or "refused"
        status = 404 if code in NOT_FOUND else 400 if code.startswith(INVALID) else 409
        raise ApiError(status, answer["message"] or code, code=code)
    if answer.get("sequence") and answer.get("job_id"):
        await wait_for_sequence(gateway, answer["job_id"], answer["sequence"])
    if answer.get("revision"):
        await _wait_for_revision(gateway, answer)
    return answer


async def _wait_for_revision(gateway: Gateway, answer: dict[str, Any]) -> None:
    """Wait until the read model has the change of a file, or the file has gone to another job."""
    file_id, job_id, revision = answer["file_id"], answer["job_id"], answer["revision"]

    def look(connection: Connection) -> bool | None:
        record = rm.records(connection, "file_view", [file_id]).get(file_id)
        return True if record is None or record["job_id"] != job_id or (record.get("revision") or 0) >= revision else None

    await gateway.decisions.wait_until(look, gateway.settings.decision_timeout_s)


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
    return await send_to(request, gateway, SESSION_COMMANDS_TOPIC.name, command, what)


async def send_to(request: Request, gateway: Gateway, topic: str, command: Message, what: str) -> dict[str, Any]:
    """Send a command to the readers of `topic` and return their answer, also a refusal. Raises 503 when none arrived in time."""
    answer = await _ask(request, gateway, topic, command)
    if answer is None:
        raise ApiError(503, f"{what} was taken but is not decided yet. Repeating the request is safe.", retry_after_s=5)
    return answer


async def _ask(request: Request, gateway: Gateway, topic: str, command: Message, repeated: bool = False) -> dict[str, Any] | None:
    wait = gateway.decisions.wait(topic, repeated)
    wait.on_command(command.message_id)
    with gateway.pending.hold(command.tenant), wait:
        await gateway.publisher.publish_command(topic, command, trace_of(request))
        answer: dict[str, Any] | None = await wait.result(gateway.settings.decision_timeout_s)
    return answer


async def create_job(
    request: Request, gateway: Gateway, command: CreateJob, what: str, repeatable: bool, admission: Admission
) -> dict[str, Any] | None:
    """Send a `CreateJob`. Returns the job's record once the read model has it; None when its id belongs to another job.

    `admission` holds the job's places, which a refusal gives back. `repeatable`: the ids derive from something that the caller sends again, so the job may be there already. Raises 409 for the id
    of an erased job, and 503 when the job does not show in time.
    """
    if repeatable and (known := await _known(gateway, command)) is not None:
        return known

    def own(record: dict[str, Any] | None) -> dict[str, Any] | None:
        return record if record is not None and record["company_id"] == command.tenant else None

    wait = gateway.decisions.wait("create")
    wait.on_job(command.job_id, own)
    # The orchestrator answers the command only to refuse it.
    wait.on_command(command.command_id, lambda answer: False)
    with gateway.pending.hold(command.tenant), wait:
        admission.published = True
        await gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
        found: dict[str, Any] | bool | None = await wait.result(gateway.settings.decision_timeout_s)
    if found is None:
        again = (
            "Repeating the request is safe."
            if repeatable
            else f"It has the id {command.job_id}; the same request makes another job."
        )
        raise ApiError(503, f"{what} was taken but does not show yet. {again}", retry_after_s=5)
    if isinstance(found, dict):
        return found
    # Refused: the id is another job's, or the caller's own under another key.
    await admission.release()
    return await _known(gateway, command)


async def _known(gateway: Gateway, command: CreateJob) -> dict[str, Any] | None:
    """The record of the caller's own job with this id; None when there is none. Raises 409 for an erased job."""
    await require_not_erased(gateway, command.job_id)
    values = {"i": command.job_id, "t": command.tenant}
    body = await gateway.store.look_up(lambda c: c.execute(_OWN_JOB, values).scalar())
    return json.loads(body) if body is not None else None


async def require_not_erased(gateway: Gateway, job_id: str) -> None:
    """Raises 409 for an erased job: its id cannot be used again."""
    if await gateway.store.look_up(lambda c: c.execute(_ERASED, {"j": job_id}).first()) is not None:
        raise ApiError(409, ID_TAKEN, "job_id")


def session_refused(answer: dict[str, Any]) -> ApiError:
    """The error that a session's refusal stands for."""
    return ApiError(SESSION_ERRORS.get(answer["reason"], 409), answer["message"], "session_id")
