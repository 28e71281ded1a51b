"""Documents by claim check: content-addressed bytes in a folder, S3, GCS or Azure, through obstore.

A file is written before the event that names it, and its hash is checked when it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from shared.clock import new_root
from shared.errors import Outcome, Retry

INCOMING = "incoming/"
"""Where everything lies that is being written, until it is whole and has its name."""
TORN = re.compile(r"#\d+$")
"""How a local store names a file that it has not finished; it neither lists nor deletes one."""


class ObjectMissing(Outcome):
    """No object has that name, or its bytes do not hash to what was promised."""


class TooLarge(Outcome):
    """More bytes came than allowed; nothing was kept."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object and its facts: `name` in the store, `size` in bytes, hex digests."""

    name: str
    size: int
    sha256: str
    md5: str


def open_objects(url: str) -> Objects:
    """The store behind `url` (`file:///…`, `s3://…`, `gs://…`, `az://…`); a local folder is created."""
    if url.startswith("file://"):
        folder = Path(url.removeprefix("file://"))
        folder.mkdir(parents=True, exist_ok=True)
        return Objects(LocalStore(folder))
    return Objects(from_url(url))


class Objects:
    """Reads and writes objects of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.folder = Path(store.prefix) if isinstance(store, LocalStore) and store.prefix is not None else None

    async def put_stream(self, tenant: str, chunks: AsyncIterator[bytes], limit: int) -> StoredObject:
        """Store a stream under its SHA-256, hashing while it passes. Raises `TooLarge` past `limit` bytes."""
        digests = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        size = 0
        staging = INCOMING + new_root()
        try:
            async with obstore.open_writer_async(self.store, staging, buffer_size=5 * 1024 * 1024) as writer:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge("too_large", f"the file is larger than the limit of {limit} bytes")
                    for digest in digests:
                        digest.update(chunk)
                    await writer.write(chunk)
        except BaseException as error:
            await self._discard(staging)
            if isinstance(error, (BaseError, OSError)):
                raise Retry("object_store_unavailable", str(error)) from error
            raise
        sha256, md5 = (digest.hexdigest() for digest in digests)
        name = object_name(tenant, sha256)
        await obstore.rename_async(self.store, staging, name, overwrite=True)
        return StoredObject(name, size, sha256, md5)

    async def put_object(self, tenant: str, data: bytes) -> StoredObject:
        """Store bytes under their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = object_name(tenant, sha256)
        try:
            if self.folder is None:
                await obstore.put_async(self.store, name, data)
            else:  # by way of `INCOMING`, so that a process killed here leaves nothing beside the tenant's objects
                staging = INCOMING + new_root()
                await obstore.put_async(self.store, staging, data)
                await obstore.rename_async(self.store, staging, name, overwrite=True)
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error
        return StoredObject(name, len(data), sha256, hashlib.md5(data, usedforsecurity=False).hexdigest())

    async def put_named(self, name: str, data: bytes) -> None:
        """Store bytes under a name of ours."""
        try:
            await obstore.put_async(self.store, name, data)
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error

    async def put_json(self, tenant: str, value: Any) -> StoredObject:
        """Store a JSON value."""
        return await self.put_object(tenant, json.dumps(value, ensure_ascii=False, sort_keys=True).encode())

    async def get_object(self, name: str, sha256: str | None = None) -> bytes:
        """The bytes of an object. Raises `ObjectMissing` when absent or not what `sha256` promises."""
        try:
            data = bytes(await (await obstore.get_async(self.store, name)).bytes_async())
        except (NotFoundError, FileNotFoundError) as error:
            raise ObjectMissing("object_missing", f"no object {name}") from error
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise ObjectMissing("hash_mismatch", f"object {name} does not hash to what was stored")
        return data

    async def object_size(self, name: str) -> int:
        """Size in bytes. Raises `ObjectMissing`."""
        try:
            return int((await obstore.head_async(self.store, name))["size"])
        except (NotFoundError, FileNotFoundError) as error:
            raise ObjectMissing("object_missing", f"no object {name}") from error
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error

    async def stream_object(self, name: str, part: tuple[int, int] | None = None) -> tuple[int, AsyncIterator[bytes]]:
        """Size in bytes and the chunks of an object, or of its `part` (first byte, byte after the last). Raises `ObjectMissing`."""
        try:
            result = await obstore.get_async(self.store, name, options={"range": part} if part else None)
        except (NotFoundError, FileNotFoundError) as error:
            raise ObjectMissing("object_missing", f"no object {name}") from error
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in result.stream(min_chunk_size=256 * 1024):
                yield bytes(chunk)

        return result.meta["size"], chunks()

    async def presigned_put_url(self, name: str, valid: timedelta) -> str | None:
        """An address to PUT an object to, or None where the store cannot sign."""
        if not isinstance(self.store, (S3Store, GCSStore, AzureStore)):
            return None
        try:
            return await obstore.sign_async(self.store, "PUT", name, valid)
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error

    async def list_stale(self, prefix: str, before: datetime, limit: int = 1000) -> list[str]:
        """Names of objects under `prefix` that were last written before `before`, at most `limit`."""
        found: list[str] = []
        try:
            async for batch in obstore.list(self.store, prefix):
                found += [entry["path"] for entry in batch if entry["last_modified"] < before]
                if len(found) >= limit:
                    break
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error
        return found[:limit]

    async def delete_torn(self, before: datetime) -> int:
        """Delete what killed processes were writing before `before`; answers how many files. In a bucket nothing is visible until it is
        whole, and its own rule for incomplete uploads applies. Raises `Retry` when the folder is away."""
        if self.folder is None:
            return 0
        try:
            return await asyncio.to_thread(_clear_torn, self.folder / INCOMING, before.timestamp())
        except OSError as error:
            raise Retry("object_store_unavailable", str(error)) from error

    async def delete_object(self, name: str) -> None:
        """Delete an object, whether it is there or not. Raises `Retry` when the store is away."""
        try:
            await obstore.delete_async(self.store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise Retry("objects_unavailable", str(error)) from error

    async def _discard(self, name: str) -> None:
        try:
            await obstore.delete_async(self.store, name)
        except (BaseError, OSError):
            return  # an abandoned upload that was never visible


def _clear_torn(folder: Path, before: float) -> int:
    cleared = 0
    for path in folder.rglob("*"):
        # One that is gone by now was finished, or another process clears as well.
        with contextlib.suppress(FileNotFoundError):
            if TORN.search(path.name) and path.stat().st_mtime < before:
                path.unlink()
                cleared += 1
    return cleared


def object_name(tenant: str, sha256: str) -> str:
    """Where content lies: per tenant, spread over 256 folders, named by nothing that a user chose."""
    return f"{tenant}/{sha256[:2]}/{sha256}"
