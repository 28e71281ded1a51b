"""Turns complete uploads into files of their sessions, and deletes expired and abandoned ones. Uploads are rows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection

from contracts import AddFile, FileRef, Tenancy, derived
from contracts.topics import SESSION_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import uploads
from shared import clock
from shared.errors import Outcome, Retry
from shared.objects.object_store import INCOMING

log = logging.getLogger(__name__)
LEASE_S = 60.0
SWEEP_S = 5.0
TIDY_S = 3600.0
ABANDONED = timedelta(days=1)


class UploadAssembly:
    """Assembles one upload after the other. Leases share the uploads among replicas."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.next_tidy = 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self.gateway.upload_wake.clear()
            try:
                # Read first: even a transaction that changes nothing costs a write to disk.
                due = await self.gateway.store.read(lambda c: uploads.any_due(c, clock.unix()))
                row = await self.gateway.store.transact(lambda c: uploads.claim(c, clock.unix(), LEASE_S)) if due else None
                if row is not None:
                    await self._finish(row)
                    continue
                await self._sweep()
            except Retry as error:
                log.warning("assembly of uploads failed, will retry", extra={"code": error.code, "reason": str(error)})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gateway.upload_wake.wait(), SWEEP_S)

    async def _finish(self, row: Any) -> None:
        parts = await self.gateway.store.read(lambda c: uploads.parts_of(c, row.id))
        leasing = asyncio.create_task(self._keep(row.id))
        try:
            stored = await self.gateway.objects.put_stream(row.tenant_id, self._bytes(parts), row.length)
            answer = await self._add(row, stored)
        except Retry:
            raise
        except Outcome as error:
            answer = {"ok": False, "reason": error.code, "message": str(error)}
        finally:
            leasing.cancel()
        if answer is None:
            raise Retry("undecided", f"upload {row.id}: the session service does not answer")
        state: uploads.State = "done" if answer["ok"] else "failed"

        def settle(c: Connection) -> None:
            uploads.end(c, row.id, state, None if answer["ok"] else answer["reason"], answer.get("message"))

        await self.gateway.store.transact(settle)
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
        answer = await self.gateway.decisions.decision(command.command_id, self.gateway.settings.decision_timeout_s)
        if answer is not None and answer["ok"]:
            await self.gateway.limits.count_upload(row.tenant_id, 1, stored.size)
        return answer

    async def _bytes(self, parts: Sequence[uploads.Part]) -> AsyncIterator[bytes]:
        for part in parts:
            _, chunks = await self.gateway.objects.stream_object(part.blob)
            async for chunk in chunks:
                yield chunk

    async def _sweep(self) -> None:
        for upload_id in await self.gateway.store.read(lambda c: uploads.expired(c, clock.unix())):
            await self._forget(upload_id)
        if clock.unix() < self.next_tidy:
            return
        self.next_tidy = clock.unix() + TIDY_S
        # Objects of a killed process: no row names them, and they are older than any upload still in progress.
        before = clock.now() - ABANDONED
        await self.gateway.objects.delete_torn(before)
        stale = await self.gateway.objects.list_stale(INCOMING, before)
        needed = await self.gateway.store.read(lambda c: uploads.needed(c, stale))
        await self.gateway.discard_objects([blob for blob in stale if blob not in needed])

    async def _forget(self, upload_id: str) -> None:
        await self.gateway.discard_objects(await self.gateway.store.transact(lambda c: uploads.forget(c, upload_id)))
