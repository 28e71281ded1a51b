"""The object store: content-addressed bytes in a folder, S3, GCS or Azure, through obstore.

Messages carry an object's name and hash instead of its bytes (claim check). An object is written before the event that names it.
Objects belong to tenants: `Objects.of(tenant)` alone can read, write, sign and delete, and only what is that tenant's.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from contracts.ownership import INCOMING, is_tenant, owns
from shared.clock import new_root
from shared.errors import Outcome, Retry
from shared.objects.access import ObjectMissing, StoreAccess
from shared.objects.verified_reads import VerifiedReads

Naming = Callable[[str, int], Awaitable[None]]
"""Gets an object's name and its size in bytes before the object gets that name. What it raises ends the storing."""
TORN = re.compile(r"#\d+$")
"""Suffix of an unfinished file in a local store, which neither lists nor deletes such files."""


class ForeignObject(ObjectMissing):
    """The name is not that of an object of the tenant. Answers treat it as one that does not exist."""


class TooLarge(Outcome):
    """The stream was longer than allowed; nothing was stored."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A stored object: `name` in the store, `size` in bytes, digests in hexadecimal."""

    name: str
    size: int
    sha256: str
    md5: str


@dataclass(frozen=True, slots=True)
class StagedObject:
    """A stream that is written, but belongs to nobody yet: its name under `INCOMING`, its size in bytes, its digests."""

    name: str
    size: int
    sha256: str
    md5: str


def open_objects(url: str) -> Objects:
    """Open the store at `url` (`file:///…`, `s3://…`, `gs://…`, `az://…`). A local folder is created.

    Raises `Retry` when it cannot be: a mount may be away.
    """
    if url.startswith("file://"):
        folder = Path(url.removeprefix("file://"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return Objects(LocalStore(folder))
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", f"{folder}: {error}") from error
    return Objects(from_url(url))


class Objects:
    """The objects of one store, for maintenance by the platform. Every method raises `Retry` when the store is unavailable."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.access = StoreAccess(store)
        self.reads = VerifiedReads(self.access)
        self.folder = self.access.folder

    def of(self, tenant: str, job_id: str | None = None) -> TenantObjects:
        """The objects of one tenant. With `job_id`, what is stored gets a name that no other job's objects have, so that the erasure of
        another job cannot take it. Raises `ForeignObject` for a tenant that cannot own any."""
        return TenantObjects(self, tenant, job_id)

    async def delete_unneeded(self, name: str) -> None:
        """Delete an object that nothing refers to any more, if it exists. For names that were judged before they were kept."""
        await _delete(self.access, name)

    async def stale_pages(self, before: datetime, prefix: str | None = None) -> AsyncIterator[list[str]]:
        """Names of all objects that were last written before `before`, page by page; of those under `prefix`, if there is one."""
        try:
            async for batch in obstore.list(self.store, prefix=prefix, chunk_size=1000):
                found = [entry["path"] for entry in batch if entry["last_modified"] < before]
                if found:
                    yield found
        except (BaseError, OSError) as error:
            raise self.access.unavailable(error, writing=False) from error

    async def written_at(self, name: str) -> float | None:
        """When an object was last written (Unix seconds); None when it does not exist."""
        try:
            with self.access.asking(name):
                return (await obstore.head_async(self.store, name))["last_modified"].timestamp()
        except ObjectMissing:
            return None

    async def delete_torn(self, before: datetime) -> int:
        """Delete unfinished files that killed processes left before `before`; returns how many.

        A bucket shows no unfinished object, and its own rule for incomplete uploads applies.
        """
        if self.folder is None:
            return 0
        with self.access.asking(INCOMING, writing=True):
            return await asyncio.to_thread(_clear_torn, self.folder / INCOMING, before.timestamp())


class TenantObjects:
    """The objects of one tenant. Raises `ForeignObject` for the name of another's, and `Retry` when the store is unavailable."""

    def __init__(self, objects: Objects, tenant: str, job_id: str | None = None) -> None:
        if not is_tenant(tenant):
            raise ForeignObject("object_missing", "the tenant's id cannot be part of the name of an object")
        self.tenant = tenant
        self.job_id = job_id
        self.naming: Naming | None = None
        self.store = objects.store
        self.access = objects.access
        self.reads = objects.reads
        self.folder = objects.folder

    def announcing(self, naming: Naming) -> TenantObjects:
        """The same objects. `naming` gets the name of what is stored through them first."""
        objects = copy.copy(self)
        objects.naming = naming
        return objects

    def owned(self, name: str) -> str:
        """`name`. Raises `ForeignObject` unless it is the name of an object of this tenant."""
        if not owns(self.tenant, name):
            raise ForeignObject("object_missing", f"no object {name[:400]}")
        return name

    async def put_stream(self, chunks: AsyncIterator[bytes], limit: int) -> StoredObject:
        """Store a stream under its SHA-256. Raises `TooLarge` after `limit` bytes; whatever is raised, nothing is stored."""
        staged = await self.stage_stream(chunks, limit)
        try:
            return await self.commit_staged(staged)
        except BaseException:
            await self.discard_staged(staged)
            raise

    async def stage_stream(self, chunks: AsyncIterator[bytes], limit: int) -> StagedObject:
        """Write a stream under `INCOMING`, where it belongs to nobody until `commit_staged` or `discard_staged`. Raises as `put_stream`."""
        digests = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        size = 0
        staging = INCOMING + new_root()
        try:
            with self.access.asking(staging, writing=True):
                writer = await obstore.open_writer_async(self.store, staging, buffer_size=5 * 1024 * 1024).__aenter__()
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise TooLarge("too_large", f"the file is larger than the limit of {limit} bytes")
                for digest in digests:
                    digest.update(chunk)
                # Errors of the source are not errors of the store.
                with self.access.asking(staging, writing=True):
                    await writer.write(chunk)
            with self.access.asking(staging, writing=True):
                await writer.close()
        except BaseException:
            await _discard(self.store, staging)
            raise
        sha256, md5 = (digest.hexdigest() for digest in digests)
        return StagedObject(staging, size, sha256, md5)

    async def commit_staged(self, staged: StagedObject) -> StoredObject:
        """Give a staged stream to the tenant, under its SHA-256."""
        name = object_name(self.tenant, staged.sha256, self.job_id)
        if self.naming is not None:
            await self.naming(name, staged.size)
        with self.access.asking(name, writing=True):
            await obstore.rename_async(self.store, staged.name, name, overwrite=True)
        return StoredObject(name, staged.size, staged.sha256, staged.md5)

    async def discard_staged(self, staged: StagedObject) -> None:
        """Delete a staged stream."""
        await _discard(self.store, staged.name)

    async def put_object(self, data: bytes) -> StoredObject:
        """Store bytes under their SHA-256. Storing the same bytes again changes nothing."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = object_name(self.tenant, sha256, self.job_id)
        if self.naming is not None:
            await self.naming(name, len(data))
        with self.access.asking(name, writing=True):
            if self.folder is None:
                await obstore.put_async(self.store, name, data)
            else:  # through `INCOMING`, so that a killed process leaves no unfinished file among the tenant's objects
                staging = INCOMING + new_root()
                await obstore.put_async(self.store, staging, data)
                await obstore.rename_async(self.store, staging, name, overwrite=True)
        return StoredObject(name, len(data), sha256, hashlib.md5(data, usedforsecurity=False).hexdigest())

    async def put_named(self, name: str, data: bytes) -> None:
        """Store bytes under a given name of this tenant, such as a part of an upload."""
        with self.access.asking(self.owned(name), writing=True):
            await obstore.put_async(self.store, name, data)

    async def put_json(self, value: Any) -> StoredObject:
        """Store a JSON value under the SHA-256 of its text."""
        return await self.put_object(json.dumps(value, ensure_ascii=False, sort_keys=True).encode())

    async def get_object(self, name: str, sha256: str | None = None) -> bytes:
        """The bytes of an object. Raises `ObjectMissing` when it does not exist, and `ObjectDamaged` when the bytes have not the hash that
        the name holds, or `sha256`."""
        return await self.reads.read(self.owned(name), sha256)

    async def object_size(self, name: str) -> int:
        """Size in bytes. Raises `ObjectMissing`."""
        with self.access.asking(self.owned(name)):
            return int((await obstore.head_async(self.store, name))["size"])

    async def stream_object(self, name: str, part: tuple[int, int] | None = None) -> tuple[int, AsyncIterator[bytes]]:
        """Size of an object in bytes and its chunks, or those of `part` (first byte, byte after the last). Raises `ObjectMissing` and
        `ObjectDamaged`, the latter also from the chunks: then the last of them does not come."""
        return await self.reads.stream(self.owned(name), part)

    async def presigned_put_url(self, name: str, valid: timedelta) -> str | None:
        """A signed URL to which an object can be PUT; None when the store cannot sign."""
        self.owned(name)
        if not isinstance(self.store, (S3Store, GCSStore, AzureStore)):
            return None
        with self.access.asking(name):
            return await obstore.sign_async(self.store, "PUT", name, valid)

    async def list_names(self, limit: int) -> list[str]:
        """Names of at most `limit` objects of the tenant, also of those that are being written."""
        found: list[str] = []
        try:
            for prefix in (f"{self.tenant}/", f"{INCOMING}{self.tenant}/"):
                async for batch in obstore.list(self.store, prefix=prefix, chunk_size=min(1000, limit)):
                    found += [entry["path"] for entry in batch]
                    if len(found) >= limit:
                        return found[:limit]
        except (BaseError, OSError) as error:
            raise self.access.unavailable(error, writing=False) from error
        return found

    async def delete_object(self, name: str) -> None:
        """Delete an object if it exists."""
        await _delete(self.access, self.owned(name))


async def _delete(access: StoreAccess, name: str) -> None:
    try:
        with access.asking(name):
            await obstore.delete_async(access.store, name)
    except ObjectMissing:
        return


async def _discard(store: ObjectStore, name: str) -> None:
    try:
        await obstore.delete_async(store, name)
    except (BaseError, OSError):
        return  # an unfinished upload, which no reader sees


def _clear_torn(folder: Path, before: float) -> int:
    cleared = 0
    for path in folder.rglob("*"):
        # A file that no longer exists was finished or deleted by another process.
        with contextlib.suppress(FileNotFoundError):
            if TORN.search(path.name) and path.stat().st_mtime < before:
                path.unlink()
                cleared += 1
    return cleared


def object_name(tenant: str, sha256: str, job_id: str | None = None) -> str:
    """The name of content in the store: by tenant, spread over 256 folders, with nothing that a user chose. What a step of a job stored has
    a mark of the job at its end (`CONTENT`)."""
    mark = f"-{hashlib.sha256(job_id.encode()).hexdigest()[:16]}" if job_id is not None else ""
    return f"{tenant}/{sha256[:2]}/{sha256}{mark}"
