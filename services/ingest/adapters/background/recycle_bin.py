"""Erases files that have been in the recycle bin for as long as the setting `recycle_days` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from contracts import EraseFile, Tenancy, derived
from contracts.topics import command_topic
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import recycle_bin, row_turns
from shared import clock
from shared.errors import Retry
from shared.runtime.row_loop import RowLoop, pause_after
from shared.runtime.wakeup import Wakeup

DAY_S = 86_400.0
SWEEP_S = 600.0
GONE = frozenset({"unknown_job", "no_such_file", "file_is_not_recycled"})
"""Refusals after which the file is not in the recycle bin any more."""
_FORGET = text("DELETE FROM recycled_file WHERE file_id = :f AND job_id = :j")


class RecycleBinSweeper:
    """Looks for files to erase every ten minutes at the latest. Takes tenants in turn."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.kept_s = gateway.settings.recycle_days * DAY_S
        poll_s = max(1.0, min(SWEEP_S, self.kept_s / 10))
        self.loop = RowLoop("recycle bin", self.due, self.erase, self._later, Wakeup(), "file_id", poll_s=poll_s)

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def due(self) -> Sequence[Any]:
        """Files whose time is over."""
        now = clock.unix()
        return await self.gateway.store.read(lambda c: recycle_bin.rows_due(c, now - self.kept_s, now))

    async def erase(self, row: Any) -> None:
        """Erase a file in one of its jobs. Raises `Retry` when nobody answers."""
        # Each try is a command of its own: a repeat of a refused one would not be decided again.
        command = EraseFile(
            command_id=derived(row.job_id, row.file_id, row.at, "recycled", row.attempts), job_id=row.job_id, file_id=row.file_id,
            owner=Tenancy(tenant_id=row.tenant_id, user_name="recycle bin"), issued_at=clock.now(), reason="recycled",
            recycled=not row.follows,
        )  # fmt: skip
        await self.gateway.publisher.publish_command(command_topic(command).name, command, None)
        answer = await self.gateway.decisions.decision(command.command_id, self.gateway.settings.decision_timeout_s)
        if answer is None or not (answer["ok"] or answer["reason"] in GONE):
            raise Retry("undecided", f"file {row.file_id} was not erased: {answer['message'] if answer else 'no answer in time'}")

        def done(connection: Connection) -> None:
            if not answer["ok"]:
                connection.execute(_FORGET, {"f": row.file_id, "j": row.job_id})
            row_turns.clear(connection, recycle_bin.KIND, row.file_id)

        await self.gateway.store.transact(done)
        if answer["ok"]:
            await self.gateway.decisions.wait_until(lambda c: _gone(c, row), self.gateway.settings.decision_timeout_s)
            self.gateway.deletion_wake.set()

    async def _later(self, row: Any) -> None:
        at = clock.unix() + pause_after(row.attempts + 1)
        await self.gateway.store.transact(lambda c: row_turns.set_turn(c, recycle_bin.KIND, row.file_id, row.attempts + 1, at))


def _gone(connection: Connection, row: Any) -> bool | None:
    found = connection.execute(
        text("SELECT 1 FROM recycled_file WHERE file_id = :f AND job_id = :j"), {"f": row.file_id, "j": row.job_id}
    ).first()
    return None if found else True
