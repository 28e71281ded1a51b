"""Erases tenants, a step at a time: stops what makes new content, erases jobs and sessions, then rows, other services' parts, objects.

Each turn looks at what is left, so a crash at any place only repeats a turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from contracts import DeleteSchedule, DeleteWorkflow, Message, SecretChanged, Tenancy, TenantErased, derived
from contracts.identity import PLATFORM_TENANT
from contracts.topics import JOB_ERASURES_TOPIC, SECRETS_TOPIC, command_topic
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims, row_turns, tenant_erasures, tenant_secrets
from services.ingest.adapters.store.audit import Entry, add_entries
from services.ingest.adapters.store.operations import LIVE, rows_of
from shared import clock
from shared.errors import Retry
from shared.processing.unit_of_work import Unit
from shared.runtime.row_loop import EventWake, RowLoop, pause_after

POLL_S, AGAIN_S = 15.0, 1.0
SHUT_OUT_S = 10.0
"""Seconds after which no request of the tenant is under way any more. Until then an erasure does not end."""
OBJECTS = 5000
"""Objects of one turn."""
GONE = frozenset({"unknown_schedule", "unknown_workflow"})
_SCHEDULES = "SELECT body FROM schedule_view WHERE tenant_id = :t"
_WORKFLOWS = f"SELECT body FROM workflow_view WHERE body LIKE :owned AND {LIVE}"
_FORGET_WORKFLOW = text("DELETE FROM workflow_view WHERE name = :n")


class TenantErasures:
    """Works on several tenants at once."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wake = EventWake(gateway.tenant_erasure_wake)
        self.loop = RowLoop("erasure of a tenant", self.due, self.work, self._later, wake, "tenant_id", poll_s=POLL_S)

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def due(self) -> Sequence[Any]:
        """Erasures whose turn has come."""
        rows = await self.gateway.store.read(lambda c: row_turns.rows_due(c, tenant_erasures.DUE, clock.unix()))
        following = await self.gateway.store.read(lambda c: c.execute(tenant_erasures.NEXT).scalar())
        self.loop.poll_s = POLL_S if following is None else max(0.05, min(POLL_S, following - clock.unix()))
        return rows

    async def work(self, row: Any) -> None:
        """One turn of an erasure. Raises `Retry` when nobody answers."""
        store, tenant = self.gateway.store, row.tenant_id
        await self._stop_schedules(row)
        await store.transact(lambda c: tenant_erasures.ask_for_all(c, tenant, row.by_user, clock.unix()))
        self.gateway.erasure_wake.set()
        left = await store.read(lambda c: tenant_erasures.left(c, tenant))
        if left["jobs"] or left["sessions"] or left["erasures"]:
            await self._next(row, AGAIN_S)
            return
        await self._delete_workflows(row)
        await store.transact(lambda c: tenant_erasures.erase_entries(c, tenant, clock.unix()))
        if (await store.read(lambda c: tenant_erasures.left(c, tenant)))["entries"]:
            await self._next(row, 0.0)
            return
        await self.gateway.processor.run_unit(lambda unit: self._erase_rest(unit, row))
        names = await self.gateway.object_names(tenant, OBJECTS)
        await store.transact(lambda c: object_claims.doom(c, names, clock.unix()))
        self.gateway.deletion_wake.set()
        if names or clock.unix() < row.started_at + SHUT_OUT_S:
            await self._next(row, AGAIN_S)
            return
        await store.transact(lambda c: _end(c, row, clock.unix()))

    async def _stop_schedules(self, row: Any) -> None:
        states = await self.gateway.store.read(lambda c: rows_of(c, _SCHEDULES, {"t": row.tenant_id}))
        for state in (s for s in states if not s["deleted"]):
            await self._command(DeleteSchedule(schedule_id=state["schedule_id"], **_common(row, state["schedule_id"])))

    async def _delete_workflows(self, row: Any) -> None:
        """Delete the workflows that the tenant has published, and what is shown of them: no job runs them any more."""
        owned = f'%"owner":{json.dumps(row.tenant_id)}%'
        found = await self.gateway.store.read(lambda c: rows_of(c, _WORKFLOWS, {"owned": owned}))
        refused: Retry | None = None
        for name in sorted({w["name"] for w in found if w.get("owner") == row.tenant_id}):
            try:
                await self._command(DeleteWorkflow(name=name, **_common(row, name)))
            except Retry as error:
                # Another of these workflows may start it. That one is deleted first, and this one in the next turn.
                refused = error
                continue
            await self.gateway.store.transact(lambda c, n=name: c.execute(_FORGET_WORKFLOW, {"n": n}) and None)  # type: ignore[misc]
        if refused is not None:
            raise refused

    async def _command(self, command: Message) -> None:
        await self.gateway.publisher.publish_command(command_topic(command).name, command, None)
        answer = await self.gateway.decisions.decision(command.message_id, self.gateway.settings.decision_timeout_s)
        if answer is None or not (answer["ok"] or answer["reason"] in GONE):
            raise Retry("undecided", f"command {command.message_id}: {answer['message'] if answer else 'no answer in time'}")

    def _erase_rest(self, unit: Unit, row: Any) -> None:
        for secret in tenant_secrets.listed(unit.connection, row.tenant_id):
            gone = SecretChanged(
                event_id=clock.new_root(), tenant_id=row.tenant_id, name=secret["name"], by=row.by_user, occurred_at=clock.now()
            )
            unit.emit(SECRETS_TOPIC.name, gone, None)
        tenant_erasures.erase_rows(unit.connection, row.tenant_id)
        if row.announced_at is None:
            at = datetime.fromtimestamp(unit.now, UTC)
            event_id = derived(row.tenant_id, "erased", str(row.started_at))
            event = TenantErased(event_id=event_id, tenant_id=row.tenant_id, occurred_at=at, by=row.by_user)
            unit.emit(JOB_ERASURES_TOPIC.name, event, None)
            tenant_erasures.announced(unit.connection, row.tenant_id, unit.now)

    async def _later(self, row: Any) -> None:
        await self._next(row, pause_after(row.attempts + 1))

    async def _next(self, row: Any, after_s: float) -> None:
        at = clock.unix() + after_s
        await self.gateway.store.transact(
            lambda c: row_turns.set_turn(c, tenant_erasures.KIND, row.tenant_id, row.attempts + 1, at)
        )


def _end(connection: Connection, row: Any, now: float) -> None:
    tenant_erasures.end(connection, row.tenant_id, now)
    add_entries(connection, [Entry(PLATFORM_TENANT, now, "tenant.erased", row.tenant_id, row.by_user)])


def _common(row: Any, subject: str) -> dict[str, Any]:
    # Each try is a command of its own: a repeat of a refused one would not be decided again.
    owner = Tenancy(tenant_id=row.tenant_id, user_name=row.by_user)
    command_id = derived(row.tenant_id, "erasure", subject, str(row.started_at), row.attempts)
    return {"command_id": command_id, "owner": owner, "issued_at": clock.now()}
