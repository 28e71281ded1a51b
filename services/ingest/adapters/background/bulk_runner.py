"""Carries out bulk runs: finds a page of jobs, sends a command for each, counts the answers, goes on. After a crash it repeats
the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, text

from contracts import CancelJob, PauseJob, RerunJob, ResumeJob, RetryJobNow, Tenancy, TerminateJob, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.job_search import find
from services.ingest.core.job_filter import BadFilter, Filter, encode_cursor
from shared import clock
from shared.database.statements import exclusive
from shared.errors import Retry

log = logging.getLogger(__name__)
PAGE = 50
ANSWER_TIMEOUT_S = 30.0
_NEXT = text("SELECT id, tenant_id, body FROM bulk WHERE state = 'running' ORDER BY created_at LIMIT 1")
_SAVE = text("UPDATE bulk SET body = :b, state = CASE WHEN state = 'running' THEN :s ELSE state END WHERE id = :i")
_DECISION = text("SELECT body FROM decision WHERE command_id = :i")
KINDS: dict[str, Any] = {
    "cancel": CancelJob, "terminate": TerminateJob, "pause": PauseJob, "resume": ResumeJob, "retry": RetryJobNow, "rerun": RerunJob,
}  # fmt: skip


class BulkRunner:
    """One per process. All replicas work on the oldest run, one page at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self.gateway.bulk_wake.clear()
            try:
                row = await self.gateway.store.read(lambda c: c.execute(_NEXT).first())
                if row is not None:
                    await self._page(row)
                    continue
            except Retry as error:
                log.warning("bulk run failed, will retry", extra={"code": error.code, "reason": str(error)})
                await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gateway.bulk_wake.wait(), 15 if self.gateway.store.shared else None)

    async def _page(self, row: Any) -> None:
        state = json.loads(row.body)
        try:
            search = Filter.model_validate(state["filter"]).query(row.tenant_id, clock.unix(), state["cursor"])
        except (ValidationError, BadFilter) as error:
            # Another release stored this filter. The run ends with the reason, and the process goes on with others.
            state["error"] = str(error)[:1000]
            log.error("bulk run ended, its filter is not valid", extra={"bulk": row.id, "reason": state["error"]})
            await self.gateway.store.transact(lambda c: c.execute(_SAVE, {"b": json.dumps(state), "s": "failed", "i": row.id}))
            return
        jobs, following = await self.gateway.store.read(lambda c: find(c, search, PAGE))
        # Command ids derive from the run and the job, so a repeated page sends the same commands.
        commands = [self._command(state, row.tenant_id, job["id"]) for job in jobs]
        for command in commands:
            await self.gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, None)
            await asyncio.sleep(1 / state["rate_per_s"])
        for command in commands:
            body = await self._decision(command.command_id)
            if body is None:
                raise Retry("not_decided", f"no answer to command {command.command_id} in time")
            state["done" if json.loads(body)["ok"] else "refused"] += 1
        # The cursor is a place, not an offset: jobs that no longer fit the filter shift nothing.
        state["cursor"] = following or (encode_cursor(jobs[-1]["created_at"], jobs[-1]["id"]) if jobs else state["cursor"])
        await self.gateway.store.transact(lambda c: self._save(c, row.id, state, following is not None))

    def _save(self, connection: Connection, bulk_id: str, state: dict[str, Any], more: bool) -> None:
        exclusive(connection, "bulk")
        connection.execute(_SAVE, {"b": json.dumps(state), "s": "running" if more else "done", "i": bulk_id})

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
