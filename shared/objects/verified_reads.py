"""Reads of stored content. The name of content is its hash, and each read compares the two: a cut or damaged object is never taken
for the whole one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import obstore
from cachetools import LRUCache
from obstore.exceptions import BaseError

from contracts.ownership import CONTENT
from shared.objects.access import ObjectMissing, StoreAccess

log = logging.getLogger(__name__)
SMALL_BYTES = 4 << 20
"""A stream of at most this size is read and verified before its first byte is passed on."""
CHUNK_BYTES = 256 * 1024
READS = 2
"""Reads until an object counts as damaged: the first may have met a broken connection or a cache."""
_REMEMBERED = 4096


class ObjectDamaged(ObjectMissing):
    """The stored bytes are not those that the object's name promises, and a second read gave no others."""


def content_hash(name: str) -> str | None:
    """The SHA-256 in an object's name; None for an object that is not named by its content, such as a part of an upload."""
    found = CONTENT.fullmatch(name)
    return found["sha256"] if found else None


class VerifiedReads:
    """Reads objects of one store. Every method raises `Retry`, `ObjectMissing` and `ObjectDamaged`."""

    def __init__(self, access: StoreAccess) -> None:
        self.access = access
        self._whole: LRUCache[tuple[str, Any, int], None] = LRUCache(_REMEMBERED)
        """Objects that were read and compared: name, version and size. A range of them needs no second look at the rest."""

    async def read(self, name: str, sha256: str | None = None) -> bytes:
        """The bytes of an object, whose hash is that of its name, and `sha256` if given."""
        expected = {known for known in (content_hash(name), sha256) if known is not None}
        for _ in range(READS):
            with self.access.asking(name):
                result = await obstore.get_async(self.access.store, name)
                data = bytes(await result.bytes_async())
            if len(data) == result.meta["size"] and (not expected or expected == {hashlib.sha256(data).hexdigest()}):
                return data
        raise _damaged(name)

    async def stream(self, name: str, part: tuple[int, int] | None = None) -> tuple[int, AsyncIterator[bytes]]:
        """Size of an object in bytes and its chunks, or those of `part` (first byte, byte after the last).

        A small object is verified before anything is returned, and so is one of which a part is asked for. The chunks of a large one
        raise `ObjectDamaged` in place of its last chunk.
        """
        with self.access.asking(name):
            result = await obstore.get_async(self.access.store, name)
        size = int(result.meta["size"])
        if size <= SMALL_BYTES:
            data = await self.read(name)
            return len(data), _one(data[slice(*part)] if part else data)
        if part is None:
            return size, self._compared(name, result)
        await self._verify(name, result)
        with self.access.asking(name):
            asked = await obstore.get_async(self.access.store, name, options={"range": part})
        return size, self._counted(name, asked, part[1] - part[0])

    async def _verify(self, name: str, result: Any) -> None:
        if _version(name, result) in self._whole:
            return
        for attempt in range(READS):
            try:
                async for _ in self._compared(name, result):
                    pass
            except ObjectDamaged:
                if attempt == READS - 1:
                    raise
                with self.access.asking(name):
                    result = await obstore.get_async(self.access.store, name)
            else:
                return

    async def _compared(self, name: str, result: Any) -> AsyncIterator[bytes]:
        """The chunks of a whole object. The last is held back until the hash is known."""
        digest, expected = hashlib.sha256(), content_hash(name)
        held = b""
        async for chunk in self._counted(name, result, int(result.meta["size"])):
            if held:
                yield held
            digest.update(chunk)
            held = chunk
        if expected is not None and digest.hexdigest() != expected:
            raise _damaged(name)
        self._whole[_version(name, result)] = None
        yield held

    async def _counted(self, name: str, result: Any, size: int) -> AsyncIterator[bytes]:
        """The chunks of a response, which must have `size` bytes together."""
        received = 0
        try:
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                received += len(chunk)
                yield bytes(chunk)
        except (BaseError, OSError) as error:
            raise self.access.unavailable(error, writing=False) from error
        if received != size:
            raise _damaged(name)


def _version(name: str, result: Any) -> tuple[str, Any, int]:
    return name, result.meta["e_tag"] or result.meta["last_modified"], int(result.meta["size"])


def _damaged(name: str) -> ObjectDamaged:
    log.error("a stored object is damaged: its bytes are not those that its name promises", extra={"blob": name})
    return ObjectDamaged("hash_mismatch", f"object {name} does not hash to what was stored")


async def _one(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
