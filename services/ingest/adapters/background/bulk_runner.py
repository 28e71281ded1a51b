"""Carries out bulk runs: finds some jobs, sends a command for each, counts the answers, goes on at its next turn. After a crash it
repeats the turn."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, text

from contracts import CancelJob, PauseJob, RerunJob, ResumeJob, RetryJobNow, Tenancy, TerminateJob, derived
from contracts.topics import command_topic
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import row_turns
from services.ingest.adapters.store.job_search import find
from services.ingest.adapters.store.quotas import OverLimit
from services.ingest.adapters.store.reservations import job_place
from services.ingest.core.job_filter import BadFilter, Filter, encode_cursor
from shared import clock
from shared.database.statements import exclusive
from shared.errors import Retry
from shared.runtime.row_loop import EventWake, RowLoop, pause_after

log = logging.getLogger(__name__)
PAGE = 50
ANSWER_TIMEOUT_S = 30.0
KIND = "bulk"
LEASE_S = 60.0
TURN_S = 1.0
"""Seconds' worth of commands in one turn."""
MIN_RATE, MAX_RATE = 0.1, 1000.0
"""Commands per second of a run. The bounds also hold for runs that an earlier release has stored."""
_DUE = row_turns.fair(KIND, "bulk", "id", "tenant_id", "created_at", "r.state = 'running'")
_NEXT = text("SELECT min(w.next_at) FROM row_turn w JOIN bulk b ON b.id = w.id WHERE w.kind = 'bulk' AND b.state = 'running'")
_SAVE = text("UPDATE bulk SET body = :b, state = CASE WHEN state = 'running' THEN :s ELSE state END WHERE id = :i")
_DECISION = text("SELECT body FROM decision WHERE command_id = :i")
KINDS: dict[str, Any] = {
    "cancel": CancelJob, "terminate": TerminateJob, "pause": PauseJob, "resume": ResumeJob, "retry": RetryJobNow, "rerun": RerunJob,
}  # fmt: skip


class BulkRunner:
    """Works on several runs at once, tenants in turn. A run's turn is a part of a page, as its rate allows; its next turn comes when the
    rate allows more. Replicas take turns by a lease."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wake = EventWake(gateway.bulk_wake)
        self.loop = RowLoop("bulk run", self._due, self.work, self._later, wake, "id", poll_s=15)

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def _due(self) -> Sequence[Any]:
        now = clock.unix()
        rows = await self.gateway.store.read(lambda c: row_turns.rows_due(c, _DUE, now))
        following = await self.gateway.store.read(lambda c: c.execute(_NEXT, {"now": now}).scalar())
        self.loop.poll_s = 15 if following is None else max(0.01, min(15.0, following - clock.unix()))
        return rows

    async def work(self, row: Any) -> None:
        """One turn of a run."""
        began = clock.unix()
        if not await self.gateway.store.transact(lambda c: row_turns.claim(c, KIND, row.id, began, began + LEASE_S)):
            return
        state = json.loads(row.body)
        rate = min(MAX_RATE, max(MIN_RATE, float(state["rate_per_s"])))
        most = max(1, min(PAGE, int(rate * TURN_S)))
        try:
            search = Filter.model_validate(state["filter"]).query(row.tenant_id, clock.unix(), state["cursor"])
        except (ValidationError, BadFilter) as error:
            # Another release stored this filter. The run ends with the reason, and the process goes on with others.
            state["error"] = str(error)[:1000]
            log.error("bulk run ended, its filter is not valid", extra={"bulk": row.id, "reason": state["error"]})
            await self.gateway.store.transact(lambda c: self._save(c, row.id, state, "failed"))
            return
        jobs, following = await self.gateway.store.read(lambda c: find(c, search, most))
        try:
            await self._command_jobs(row, state, jobs)
        except OverLimit as error:
            await self._next(row.id, 0, clock.unix() + min(LEASE_S, error.retry_after_s))
            return
        # The cursor is a place, not an offset: jobs that no longer fit the filter shift nothing.
        state["cursor"] = following or (encode_cursor(jobs[-1]["created_at"], jobs[-1]["id"]) if jobs else state["cursor"])
        more = following is not None
        await self.gateway.store.transact(lambda c: self._save(c, row.id, state, "running" if more else "done"))
        if more:
            await self._next(row.id, 0, began + len(jobs) / rate)

    async def _command_jobs(self, row: Any, state: dict[str, Any], jobs: Sequence[dict[str, Any]]) -> None:
        """Send a command for each job and count the answers. Raises `OverLimit` when the tenant may not open that many jobs."""
        # Command ids derive from the run and the job, so a repeated page sends the same commands.
        commands = [self._command(state, row.tenant_id, job["id"]) for job in jobs]
        places = [job_place(c.new_job_id) for c in commands if isinstance(c, RerunJob)]
        new = await self.gateway.limits.reserve(row.tenant_id, places)
        for command in commands:
            await self.gateway.publisher.publish_command(command_topic(command).name, command, None)
        refused = set()
        for command in commands:
            body = await self._decision(command.command_id)
            if body is None:
                raise Retry("not_decided", f"no answer to command {command.command_id} in time")
            done = json.loads(body)["ok"]
            state["done" if done else "refused"] += 1
            refused |= set() if done else {getattr(command, "new_job_id", "")}
        await self.gateway.limits.release(row.tenant_id, new & refused)

    async def _next(self, bulk_id: str, attempts: int, at: float) -> None:
        await self.gateway.store.transact(lambda c: row_turns.set_turn(c, KIND, bulk_id, attempts, at))

    async def _later(self, row: Any) -> None:
        await self._next(row.id, row.attempts + 1, clock.unix() + pause_after(row.attempts + 1))

    def _save(self, connection: Connection, bulk_id: str, state: dict[str, Any], then: str) -> None:
        exclusive(connection, "bulk")
        connection.execute(_SAVE, {"b": json.dumps(state), "s": then, "i": bulk_id})
        if then != "running":
            row_turns.clear(connection, KIND, bulk_id)

    async def _decision(self, command_id: str) -> str | None:
        def look(connection: Connection) -> str | None:
            body: str | None = connection.execute(_DECISION, {"i": command_id}).scalar()
            return body

        return await self.gateway.decisions.wait_until(look, ANSWER_TIMEOUT_S)

    def _command(self, state: dict[str, Any], tenant: str, job_id: str) -> Any:
        root = derived(state["id"], job_id, "bulk")
        owner = Tenancy(tenant_id=tenant, tenant_name=state["tenant_name"], user_name=state["by"])
        more: dict[str, Any] = {"reason": state["reason"] or f"bulk {state['id']}"}
        if state["verb"] == "rerun":
            options = {k: v for k, v in state["options"].items() if k not in ("reason", "file_ids")}
            more |= {**options, "new_job_id": derived(root, "job")}
        return KINDS[state["verb"]](command_id=root, job_id=job_id, owner=owner, issued_at=clock.now(), **more)
