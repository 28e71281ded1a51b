"""The connection to an object store: its errors become `ObjectMissing` or `Retry`, and its health is known."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore

from contracts.ownership import INCOMING
from shared.availability import Availability
from shared.clock import new_root
from shared.errors import Outcome, Retry

PROBE_EVERY_S = 5.0
"""Least time between two probes."""


class ObjectMissing(Outcome):
    """No object has that name, or its bytes do not match the expected hash."""


class StoreAccess:
    """An object store, its `folder` where it is local, and its `availability`."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.folder = Path(store.prefix) if isinstance(store, LocalStore) and store.prefix is not None else None
        self.availability = Availability("object store")
        self._probed_at = float("-inf")

    @contextlib.contextmanager
    def asking(self, name: str, writing: bool = False) -> Iterator[None]:
        """Context manager around a request about the object `name`. Raises `ObjectMissing` when there is none, `Retry` when the store
        does not work."""
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if not writing and (self.folder is None or self.folder.is_dir()):
                self.availability.worked(writing=False)
                raise ObjectMissing("object_missing", f"no object {name[:400]}") from error
            # Without its folder a local store has lost every object at once: it is not there, a disk that is not mounted.
            raise self.unavailable(error, writing) from error
        except (BaseError, OSError) as error:
            raise self.unavailable(error, writing) from error
        self.availability.worked(writing)

    def unavailable(self, error: BaseException, writing: bool) -> Retry:
        """The `Retry` for an error of the store, which is noted."""
        said = str(error) or repr(error)
        self.availability.failed(said, writing)
        return Retry("object_store_unavailable", said)

    async def object_store(self) -> str | None:
        """Health check, whose name is that of the dependency. See `probe`."""
        return await self.probe()

    async def probe(self) -> str | None:
        """Why the store does not work; None when it does. Looks at most every `PROBE_EVERY_S`.

        A folder is written to. A bucket is only asked while it works, because writes cost money there.
        """
        if time.monotonic() - self._probed_at >= PROBE_EVERY_S:
            self._probed_at = time.monotonic()
            with contextlib.suppress(Retry):
                await self._look()
        return self.availability.reason

    async def _look(self) -> None:
        name = f"{INCOMING}probe-{new_root()}"
        if self.folder is None and self.availability.reason is None:
            with contextlib.suppress(ObjectMissing), self.asking(name):
                await obstore.head_async(self.store, name)
            return
        with self.asking(name, writing=True):
            if self.folder is not None and not await asyncio.to_thread(self.availability.check_space, self.folder):
                raise Retry("object_store_unavailable", self.availability.reason or "")
            await obstore.put_async(self.store, name, b"probe")
            await obstore.delete_async(self.store, name)
