"""Bytes of a resumable upload, from the connection into the object store, in stretches that share one budget of memory."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import uploads
from services.ingest.http.errors import ApiError
from shared import clock
from shared.objects.object_store import INCOMING

BUDGET = 24 << 20
"""Bytes that all uploads of a process together hold in memory."""
LARGEST, SMALLEST = 4 << 20, 64 << 10


@dataclass
class _Taking:
    """One request's bytes: `pending` are not in the store yet, `held` are but not counted (until the checksum is known)."""

    gateway: Gateway
    row: Any
    position: int
    checked: bool
    pending: bytearray = field(default_factory=bytearray)
    held: list[uploads.Part] = field(default_factory=list)

    async def add(self, chunk: bytes) -> None:
        self.pending += chunk
        if len(self.pending) >= max(SMALLEST, min(LARGEST, BUDGET // max(1, self.gateway.uploading))):
            await self.flush()

    async def flush(self) -> None:
        if not self.pending:
            return
        data, self.pending = bytes(self.pending), bytearray()
        start = self.position + sum(p.size for p in self.held)
        blob = f"{INCOMING}{self.row.tenant_id}/{self.row.id}/{start:016d}-{clock.new_root()}"
        await self.gateway.objects.put_named(blob, data)
        self.held.append(uploads.Part(start, len(data), blob))
        if not self.checked:
            await self.commit()

    async def commit(self) -> None:
        held, self.held = self.held, []
        if not held:
            return
        expires = clock.unix() + self.gateway.settings.upload_ttl_s
        moved = await self.gateway.store.transact(lambda c: uploads.advance(c, self.row.id, self.position, held, expires))
        if not moved:
            await self.discard(held)
            raise ApiError(409, "Upload-Offset: another request has brought bytes meanwhile", "Upload-Offset")
        self.position = held[-1].start + held[-1].size

    async def discard(self, parts: list[uploads.Part]) -> None:
        for part in parts:
            await self.gateway.objects.delete_object(part.blob)


async def take(request: Request, gateway: Gateway, row: Any, checksum: tuple[str, bytes] | None) -> int:
    """Take the request's body; answers the offset after it. What came of a broken request counts, unless it had a checksum, which it then
    cannot meet. Raises 409, 413 past the upload's length, 460 for a wrong checksum."""
    taking = _Taking(gateway, row, row.position, checksum is not None)
    digest = hashlib.new(checksum[0], usedforsecurity=False) if checksum else None
    gateway.uploading += 1
    try:
        async for chunk in _chunks(request):
            if digest is not None:
                digest.update(chunk)
            if taking.position + sum(p.size for p in taking.held) + len(taking.pending) + len(chunk) > _most(gateway, row):
                await taking.discard(taking.held)
                raise ApiError(413, "body: more bytes than Upload-Length says", "Upload-Length")
            await taking.add(chunk)
        await taking.flush()
    except ClientDisconnect:
        if digest is None:
            await taking.flush()
        await taking.discard(taking.held)
        raise ApiError(400, "body: the client went away before the end") from None
    finally:
        gateway.uploading -= 1
    if checksum is not None and digest is not None and not hmac.compare_digest(digest.digest(), checksum[1]):
        await taking.discard(taking.held)
        raise ApiError(460, "Upload-Checksum: the bytes are others", "Upload-Checksum", code="checksum_mismatch")
    await taking.commit()
    return taking.position


def _most(gateway: Gateway, row: Any) -> int:
    return int(row.length) if row.length is not None else gateway.settings.max_upload_bytes


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
