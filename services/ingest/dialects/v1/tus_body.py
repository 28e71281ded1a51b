"""Writes the bytes of a resumable upload to the object store, in parts whose size depends on a shared memory budget."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from contracts.ownership import INCOMING
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import uploads
from services.ingest.adapters.store.quotas import OverLimit
from services.ingest.http.errors import ApiError
from shared import clock

BUDGET = 24 << 20
"""Bytes that all uploads of a process may hold in memory together."""
LARGEST, SMALLEST = 4 << 20, 64 << 10


@dataclass
class _Receiver:
    """The bytes of one request. `pending` are in memory; `held` are stored but not counted until their checksum is known."""

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
        if self.row.length is None:
            # The length is not declared: the reservation grows with what arrives.
            await self.gateway.limits.grow(self.row.tenant_id, self.row.id, start + len(data))
        blob = f"{INCOMING}{self.row.tenant_id}/{self.row.id}/{start:016d}-{clock.new_root()}"
        await self.gateway.objects.of(self.row.tenant_id).put_named(blob, data)
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
            raise ApiError(409, "Upload-Offset: another request has added bytes meanwhile", "Upload-Offset")
        self.position = held[-1].start + held[-1].size

    async def discard(self, parts: list[uploads.Part]) -> None:
        for part in parts:
            await self.gateway.objects.of(self.row.tenant_id).delete_object(part.blob)


async def receive_bytes(request: Request, gateway: Gateway, row: Any, checksum: tuple[str, bytes] | None) -> int:
    """Store the request's body; returns the offset after it. Bytes of an interrupted request count, unless it has a checksum.

    Raises 409 when another request was faster, 413 past the upload's length, 460 for a wrong checksum.
    """
    receiver = _Receiver(gateway, row, row.position, checksum is not None)
    digest = hashlib.new(checksum[0], usedforsecurity=False) if checksum else None
    gateway.uploading += 1
    try:
        async for chunk in _chunks(request):
            if digest is not None:
                digest.update(chunk)
            if receiver.position + sum(p.size for p in receiver.held) + len(receiver.pending) + len(chunk) > _most(gateway, row):
                await receiver.discard(receiver.held)
                raise ApiError(413, "body: more bytes than Upload-Length allows", "Upload-Length")
            await receiver.add(chunk)
        await receiver.flush()
    except ClientDisconnect:
        if digest is None:
            await receiver.flush()
        await receiver.discard(receiver.held)
        raise ApiError(400, "body: the client went away before the end") from None
    except OverLimit:
        await receiver.discard(receiver.held)
        raise
    finally:
        gateway.uploading -= 1
    if checksum is not None and digest is not None and not hmac.compare_digest(digest.digest(), checksum[1]):
        await receiver.discard(receiver.held)
        raise ApiError(460, "Upload-Checksum: the bytes do not match", "Upload-Checksum", code="checksum_mismatch")
    await receiver.commit()
    return receiver.position


def _most(gateway: Gateway, row: Any) -> int:
    return int(row.length) if row.length is not None else gateway.settings.max_upload_bytes


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
