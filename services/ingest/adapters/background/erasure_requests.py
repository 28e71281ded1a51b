"""Carries out erasures that were asked for: cancels what runs, and erases it once it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from contracts import CancelJob, EraseJob, EraseSession, JobStage, Message, Tenancy, TerminateJob, derived
from contracts.topics import SESSION_COMMANDS_TOPIC, command_topic
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import erasure_requests, row_turns
from shared import clock
from shared.errors import Retry
from shared.runtime.row_loop import EventWake, RowLoop, pause_after

POLL_S = 5.0
AGAIN_S, LONGEST_S = 0.25, 60.0
"""Seconds until a job that runs is looked at again, doubled each time, and the most of them."""
PATIENCE = 6
"""Looks after which a job is terminated that does not end by its cancellation."""

_FORGET_SESSION = text("DELETE FROM session_view WHERE id = :s AND tenant_id = :t")


class ErasureRequests:
    """Works on several requests at once, tenants in turn. A repeat after a crash changes nothing."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wake = EventWake(gateway.erasure_wake)
        self.loop = RowLoop("erasure", self.due, self.work, self._later, wake, "id", poll_s=POLL_S)

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def due(self) -> Sequence[Any]:
        """Requests whose turn has come."""
        rows = await self.gateway.store.read(lambda c: row_turns.rows_due(c, erasure_requests.DUE, clock.unix()))
        following = await self.gateway.store.read(lambda c: c.execute(erasure_requests.NEXT).scalar())
        self.loop.poll_s = POLL_S if following is None else max(0.05, min(POLL_S, following - clock.unix()))
        return rows

    async def work(self, row: Any) -> None:
        """One step of a request. Raises `Retry` when nobody answers."""
        owner = Tenancy(tenant_id=row.tenant_id, user_name=row.by_user)
        if row.kind == "session":
            await self._erase_session(row, owner)
            return
        job = await self.gateway.record("job_view", row.id, row.tenant_id)
        if job is None:
            await self.gateway.store.transact(lambda c: erasure_requests.done(c, row.id))
        elif JobStage(job["stage"]).terminal:
            await self._erase_job(row, owner)
        else:
            await self._end_job(row, owner)

    async def _erase_session(self, row: Any, owner: Tenancy) -> None:
        command = EraseSession(session_id=row.id, reason=row.reason, **_common(row, owner, "session"))
        answer = await self._answer(SESSION_COMMANDS_TOPIC.name, command)
        job_id = answer["job_id"]
        job = await self.gateway.record("job_view", job_id, row.tenant_id) if job_id else None

        def settle(connection: Connection) -> None:
            erasure_requests.done(connection, row.id)
            if job is not None:
                erasure_requests.ask(connection, "job", job_id, row.tenant_id, row.by_user, row.reason, clock.unix())
            elif not answer["ok"]:
                # The session service has no such session, or its job is erased: only the record here is left.
                connection.execute(_FORGET_SESSION, {"s": row.id, "t": row.tenant_id})

        await self.gateway.store.transact(settle)
        self.gateway.erasure_wake.set()

    async def _erase_job(self, row: Any, owner: Tenancy) -> None:
        command = EraseJob(job_id=row.id, reason=row.reason, **_common(row, owner, "job"))
        answer = await self._answer(command_topic(command).name, command)
        if not answer["ok"]:
            raise Retry(answer["reason"] or "refused", f"job {row.id} was not erased: {answer['message']}")
        await self.gateway.store.transact(lambda c: erasure_requests.done(c, row.id))

    async def _end_job(self, row: Any, owner: Tenancy) -> None:
        kind = CancelJob if row.attempts < PATIENCE else TerminateJob
        command = kind(job_id=row.id, reason=row.reason, **_common(row, owner, "end"))
        await self.gateway.publisher.publish_command(command_topic(command).name, command, None)
        await self._next(row, min(LONGEST_S, AGAIN_S * 2.0 ** min(row.attempts, 20)))

    async def _answer(self, topic: str, command: Message) -> dict[str, Any]:
        await self.gateway.publisher.publish_command(topic, command, None)
        answer = await self.gateway.decisions.decision(command.message_id, self.gateway.settings.decision_timeout_s)
        if answer is None:
            raise Retry("undecided", f"no answer to command {command.message_id} in time")
        return answer

    async def _later(self, row: Any) -> None:
        await self._next(row, pause_after(row.attempts + 1))

    async def _next(self, row: Any, after_s: float) -> None:
        at = clock.unix() + after_s
        kind = erasure_requests.KIND
        await self.gateway.store.transact(lambda c: row_turns.set_turn(c, kind, row.id, row.attempts + 1, at))


def _common(row: Any, owner: Tenancy, role: str) -> dict[str, Any]:
    # Each try is a command of its own: a repeat of a refused one would not be decided again.
    return {"command_id": derived(row.id, "erasure", role, row.attempts), "owner": owner, "issued_at": clock.now()}
