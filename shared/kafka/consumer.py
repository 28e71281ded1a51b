"""A consumer that takes records over as they arrive and hands them out in one piece."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

HELD_LIMIT = 2000
BATCH_BYTES = 8 << 20
"""Bytes of values after which a batch takes no more: one of the largest records takes no more memory than one of many small ones."""
SMALL_BYTES = 512 << 10
"""After an answer of more than that nobody rests: there is more to come."""
LEAVE_TIMEOUT_S = 8.0
PREFETCH_BACKOFF_S = 60.0
"""How long aiokafka asks a broker for nothing while fetched records have not been taken over. By default it asks after 0.1 s for all other
partitions; records that arrive for the omitted ones then wait until that long poll ends."""


class WaitingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer that takes records over as they arrive and hands them out in one piece when asked.

    Two reasons. FastStream sleeps `batch_timeout_ms` after each empty poll, so its polling costs latency or idle CPU; here
    `getmany` waits for the first record and costs neither. And aiokafka asks the broker no more for partitions whose records
    lie in its buffer, so that a batch in hand would delay them by a whole long poll; taken over at once they never lie there,
    and what arrives meanwhile makes the next batch larger. At most `HELD_LIMIT` records are held.
    """

    last_poll: float = 0.0
    failing_since: float | None = None
    """Since when it has got nothing but errors."""
    failed_with: Exception | None = None
    before_leave: Callable[[], Awaitable[None]] | None = None
    """What must be done before the group is left: offsets of what is finished."""
    rest_s: float = 0.0
    """Having got a few records, ask for more only after that time. For topics that nobody waits for: whoever reads along with every single
    record keeps broker and cores from those that somebody waits for."""
    _pump: asyncio.Task[None] | None = None

    def _prepare(self) -> None:
        self._held: dict[Any, deque[Any]] = {}
        self._count = 0
        self._waiting: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._pump = asyncio.create_task(self._take_over())
        self._pump.add_done_callback(self._wake)

    def _wake(self, _: Any = None) -> None:
        # A bare future: whoever waits has his turn next, before the fetcher has thought about what to ask for now.
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _take_over(self) -> None:
        while True:
            try:
                batch = await super().getmany(timeout_ms=1000)
            except Exception as error:
                self.failed_with = error
                self.failing_since = self.failing_since or time.monotonic()
                self._forget_member(error)
                raise
            self.failing_since = None
            self.last_poll = time.monotonic()
            for tp, records in batch.items():
                self._held.setdefault(tp, deque()).extend(records)
                self._count += len(records)
            if batch:
                self._wake()
                await asyncio.sleep(self._rest(sum(len(r.value or b"") for records in batch.values() for r in records)))
            while self._count >= HELD_LIMIT:
                self._room.clear()
                await self._room.wait()
                self.last_poll = time.monotonic()

    def _forget_member(self, error: Exception) -> None:
        # aiokafka has no name for what a group says to a static member that it knows under another id by now (FENCED_INSTANCE_ID): it would
        # ask with that id for ever, and read nothing. As at the start it is given a new one.
        reset = getattr(getattr(self, "_coordinator", None), "reset_generation", None)
        if type(error) is KafkaError and reset is not None:
            reset()

    async def getmany(self, *partitions: Any, timeout_ms: float = 0, max_records: int | None = None) -> Any:
        """Partition → records, never empty, at most `max_records` and (but for the last) `BATCH_BYTES` in all; cancelled when the subscriber stops."""
        if self._pump is None:
            self._prepare()
        pump = self._pump
        assert pump is not None
        while not self._count:
            if pump.done():
                self._pump = None
                pump.result()
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        taken = self._take(max_records or self._count)
        self._room.set()
        return taken

    def _take(self, room: int) -> dict[Any, list[Any]]:
        taken: dict[Any, list[Any]] = {}
        space = BATCH_BYTES
        for tp in list(self._held):
            records = self._held[tp]
            while records and room > 0 and (space > 0 or not taken):
                record = records.popleft()
                taken.setdefault(tp, []).append(record)
                room -= 1
                space -= len(record.value or b"")
            # What had no turn goes first the next time.
            if not records:
                del self._held[tp]
        self._count -= sum(map(len, taken.values()))
        for tp in taken:
            if tp in self._held:
                self._held[tp] = self._held.pop(tp)
        return taken

    def _rest(self, size: int) -> float:
        return self.rest_s if 0 < size < SMALL_BYTES else 0.0

    def forget(self, partitions: Iterable[Any]) -> None:
        """Drop what is held of partitions that are no longer ours, or will be read again."""
        if self._pump is not None:
            for tp in partitions:
                self._count -= len(self._held.pop(tp, ()))

    def seek(self, partition: Any, offset: int) -> None:
        """As aiokafka's; what is held of the partition is dropped."""
        self.forget([partition])
        super().seek(partition, offset)

    async def start(self) -> None:
        """Connect and join the group."""
        await super().start()
        self._fetcher._prefetch_backoff = PREFETCH_BACKOFF_S

    async def stop(self) -> None:
        """Stop taking over, then leave the group."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self.before_leave is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.before_leave(), LEAVE_TIMEOUT_S)
        await super().stop()
