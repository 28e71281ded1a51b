"""Turns complete uploads into files of their sessions, and deletes expired ones. Uploads are rows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection

from contracts import AddFile, FileRef, Tenancy, derived
from contracts.topics import SESSION_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims, reservations, row_turns, uploads
from shared import clock
from shared.errors import Outcome, Retry
from shared.objects.object_store import StoredObject
from shared.objects.verified_reads import ObjectDamaged
from shared.runtime.row_loop import EventWake, RowLoop, pause_after

log = logging.getLogger(__name__)
LEASE_S = 60.0
SWEEP_S = 5.0
KIND = "upload"
_DUE = row_turns.fair(KIND, "upload", "id", "tenant_id", "due_at", "r.state = 'whole' AND r.due_at <= :now")


class UploadAssembly:
    """Assembles several uploads at once, tenants in turn. Leases share the uploads among replicas."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wake = EventWake(gateway.upload_wake)
        self.loop = RowLoop("assembly of uploads", self._due, self._assemble, self._later, wake, "id", at_once=4, poll_s=SWEEP_S)

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def _due(self) -> Sequence[Any]:
        now = clock.unix()
        for upload_id in await self.gateway.store.read(lambda c: uploads.expired(c, now)):
            await self._forget(upload_id)
        return await self.gateway.store.read(lambda c: row_turns.rows_due(c, _DUE, now))

    async def _assemble(self, row: Any) -> None:
        """Make a file of a complete upload, unless another replica does."""
        if await self.gateway.store.transact(lambda c: uploads.claim(c, row.id, clock.unix(), LEASE_S)):
            await self._finish(row)

    async def _later(self, row: Any) -> None:
        attempts, now = row.attempts + 1, clock.unix()

        def put_off(connection: Connection) -> None:
            row_turns.set_turn(connection, KIND, row.id, attempts, now + pause_after(attempts))
            uploads.renew(connection, row.id, now)

        await self.gateway.store.transact(put_off)

    async def _finish(self, row: Any) -> None:
        parts = await self.gateway.store.read(lambda c: uploads.parts_of(c, row.id))
        leasing = asyncio.create_task(self._keep(row.id))
        try:
            objects = self.gateway.claiming(row.tenant_id, uploads.file_id_of(row.id))
            stored = await objects.put_stream(self._bytes(row.tenant_id, parts), row.length)
            answer = await self._add(row, stored)
        except Retry:
            raise
        except Outcome as error:
            stored, answer = None, {"ok": False, "reason": error.code, "message": str(error)}
        finally:
            leasing.cancel()
        if answer is None:
            raise Retry("undecided", f"upload {row.id}: the session service does not answer")
        await self.gateway.store.transact(lambda c: _settle(c, row, stored, answer))
        self.gateway.decisions.wake()
        await self.gateway.discard_objects([p.blob for p in parts])

    async def _keep(self, upload_id: str) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with contextlib.suppress(Retry):
                await self.gateway.store.transact(lambda c: uploads.renew(c, upload_id, clock.unix() + LEASE_S))

    async def _add(self, row: Any, stored: Any) -> dict[str, Any] | None:
        file = FileRef(
            file_id=uploads.file_id_of(row.id), file_name=row.file_name, content_type=row.content_type, size=stored.size,
            sha256=stored.sha256, md5=stored.md5, blob_name=stored.name, metadata=from_json(row.metadata),
        )  # fmt: skip
        owner = Tenancy(tenant_id=row.tenant_id, tenant_name=row.tenant_name, user_name=row.user_name)
        command = AddFile(
            command_id=derived(row.id, "add"), session_id=row.session_id, owner=owner, issued_at=clock.now(), file=file
        )
        await self.gateway.publisher.publish_command(SESSION_COMMANDS_TOPIC.name, command, None)
        return await self.gateway.decisions.decision(command.command_id, self.gateway.settings.decision_timeout_s)

    async def _bytes(self, tenant: str, parts: Sequence[uploads.Part]) -> AsyncIterator[bytes]:
        for part in parts:
            size, chunks = await self.gateway.objects.of(tenant).stream_object(part.blob)
            if size != part.size:
                raise ObjectDamaged("size_mismatch", f"a part of the upload has {size} bytes; it was received with {part.size}")
            async for chunk in chunks:
                yield chunk

    async def _forget(self, upload_id: str) -> None:
        await self.gateway.discard_objects(await self.gateway.store.transact(lambda c: uploads.forget(c, upload_id)))


def _settle(connection: Connection, row: Any, stored: StoredObject | None, answer: dict[str, Any]) -> None:
    """End the upload, and count its file once."""
    file_id, now = uploads.file_id_of(row.id), clock.unix()
    done: uploads.State = "done" if answer["ok"] else "failed"
    if not uploads.end(connection, row.id, done, None if answer["ok"] else answer["reason"], answer.get("message")):
        if stored is not None and not answer["ok"]:
            # Its session was erased meanwhile, and the upload with it.
            object_claims.unclaim(connection, stored.name, file_id, now)
        return
    if row.attempts:
        row_turns.clear(connection, KIND, row.id)
    if stored is None:
        return
    if answer["ok"]:
        reservations.count(connection, row.tenant_id, 1, stored.size, now)
    else:
        object_claims.unclaim(connection, stored.name, file_id, now)
