"""The object store: content-addressed bytes in a folder, S3, GCS or Azure, through obstore.

Messages carry an object's name and hash instead of its bytes (claim check). An object is written before the event that names it.
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
"""Prefix of objects that are being written, until they are complete and get their name."""
TORN = re.compile(r"#\d+$")
"""Suffix of an unfinished file in a local store, which neither lists nor deletes such files."""


class ObjectMissing(Outcome):
    """No object has that name, or its bytes do not match the expected hash."""


class TooLarge(Outcome):
    """The stream was longer than allowed; nothing was stored."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A stored object: `name` in the store, `size` in bytes, digests in hexadecimal."""

    name: str
    size: int
    sha256: str
    md5: str


def open_objects(url: str) -> Objects:
    """Open the store at `url` (`file:///…`, `s3://…`, `gs://…`, `az://…`). A local folder is created."""
    if url.startswith("file://"):
        folder = Path(url.removeprefix("file://"))
        folder.mkdir(parents=True, exist_ok=True)
        return Objects(LocalStore(folder))
    return Objects(from_url(url))


class Objects:
    """Objects of one store. Every method raises `Retry` when the store is unavailable."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.folder = Path(store.prefix) if isinstance(store, LocalStore) and store.prefix is not None else None

    async def put_stream(self, tenant: str, chunks: AsyncIterator[bytes], limit: int) -> StoredObject:
        """Store a stream under its SHA-256. Raises `TooLarge` after `limit` bytes; whatever is raised, nothing is stored."""
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
        """Store bytes under their SHA-256. Storing the same bytes again changes nothing."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = object_name(tenant, sha256)
        try:
            if self.folder is None:
                await obstore.put_async(self.store, name, data)
            else:  # through `INCOMING`, so that a killed process leaves no unfinished file among the tenant's objects
                staging = INCOMING + new_root()
                await obstore.put_async(self.store, staging, data)
                await obstore.rename_async(self.store, staging, name, overwrite=True)
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error
        return StoredObject(name, len(data), sha256, hashlib.md5(data, usedforsecurity=False).hexdigest())

    async def put_named(self, name: str, data: bytes) -> None:
        """Store bytes under a given name, which no caller chose."""
        try:
            await obstore.put_async(self.store, name, data)
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error

    async def put_json(self, tenant: str, value: Any) -> StoredObject:
        """Store a JSON value under the SHA-256 of its text."""
        return await self.put_object(tenant, json.dumps(value, ensure_ascii=False, sort_keys=True).encode())

    async def get_object(self, name: str, sha256: str | None = None) -> bytes:
        """The bytes of an object. Raises `ObjectMissing` when it does not exist or does not match `sha256`."""
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
        """Size of an object in bytes and its chunks, or those of `part` (first byte, byte after the last). Raises `ObjectMissing`."""
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
        """A signed URL to which an object can be PUT; None when the store cannot sign."""
        if not isinstance(self.store, (S3Store, GCSStore, AzureStore)):
            return None
        try:
            return await obstore.sign_async(self.store, "PUT", name, valid)
        except (BaseError, OSError) as error:
            raise Retry("object_store_unavailable", str(error)) from error

    async def list_stale(self, prefix: str, before: datetime, limit: int = 1000) -> list[str]:
        """Names of at most `limit` objects under `prefix` that were last written before `before`."""
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
        """Delete unfinished files that killed processes left before `before`; returns how many.

        A bucket shows no unfinished object, and its own rule for incomplete uploads applies.
        """
        if self.folder is None:
            return 0
        try:
            return await asyncio.to_thread(_clear_torn, self.folder / INCOMING, before.timestamp())
        except OSError as error:
            raise Retry("object_store_unavailable", str(error)) from error

    async def delete_object(self, name: str) -> None:
        """Delete an object if it exists."""
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


def object_name(tenant: str, sha256: str) -> str:
    """The name of content in the store: by tenant, spread over 256 folders, with nothing that a user chose."""
    return f"{tenant}/{sha256[:2]}/{sha256}"
