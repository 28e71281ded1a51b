"""Reads a consumer's records into a bounded queue: fetching never waits for the handler, and a full queue pauses fetching.

FastStream declares the subscriber, connects it, joins the group and leaves it. Its batch polling is not used: after an empty poll it
sleeps for the poll's timeout, which costs latency or idle CPU time, and it polls nothing while a batch is handled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

log = logging.getLogger(__name__)
QUEUE_RECORDS = 2000
"""Records in the queue that pause fetching. Whole fetch responses are queued, so it may hold more."""
QUEUE_BYTES = 16 << 20
"""Bytes of record values that pause fetching: a few large records fill the memory before many small ones do."""
FETCH_BYTES = 8 << 20
"""Most that one fetch response holds. aiokafka's own limit is 50 MiB for each subscription."""
BATCH_BYTES = 8 << 20
"""Bytes of record values that complete a batch, so that large records make small batches."""
SMALL_BYTES = 512 << 10
"""A fetch response of at least this size comes from a backlog, and the next fetch follows at once."""
POLL_MS = 1000
ERROR_PAUSE_S = 5.0
PREFETCH_BACKOFF_S = 60.0
"""How long aiokafka asks a broker for nothing while fetched records are not taken over. By default it asks after 0.1 s for all other
partitions. Records that arrive for the omitted ones then wait until that long poll ends."""
Record: TypeAlias = "ConsumerRecord[Any, Any]"


class RecordQueue:
    """Fetched records that wait for the handler, by partition.

    A full queue pauses all assigned partitions of `consumer`, and every way out of it (`take`, `drop`) resumes them. Meanwhile the
    consumer is polled as ever, so that it stays in its group. All are paused together, because a fetch that omits some of them delays
    those by a whole long poll.
    """

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self._partitions: dict[TopicPartition, deque[Record]] = {}
        self._count = 0
        self._bytes = 0
        self._paused = False
        self._arrived = asyncio.Event()

    def put(self, batch: Mapping[TopicPartition, Sequence[Record]]) -> None:
        """Append fetched records; pause fetching when the queue is full."""
        for partition, records in batch.items():
            self._partitions.setdefault(partition, deque()).extend(records)
            self._count += len(records)
            self._bytes += _size(records)
        if self._count:
            self._arrived.set()
        if self._full:
            self._paused = True
            self.consumer.pause(*self.consumer.assignment())

    async def take(self, max_records: int) -> list[Record]:
        """Wait for records; return at least one and at most `max_records`, in the order of their partition's offsets."""
        while not self._count:
            self._arrived.clear()
            await self._arrived.wait()
        taken: list[Record] = []
        space = BATCH_BYTES
        for partition in list(self._partitions):
            records = self._partitions.pop(partition)
            while records and len(taken) < max_records and space > 0:
                taken.append(records.popleft())
                space -= len(taken[-1].value or b"")
            if records:
                # The partitions behind it have their turn first.
                self._partitions[partition] = records
                break
        self._count -= len(taken)
        self._bytes -= _size(taken)
        self._resume()
        return taken

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Discard the records of partitions that were revoked or are about to be fetched again."""
        for partition in partitions:
            records = self._partitions.pop(partition, ())
            self._count -= len(records)
            self._bytes -= _size(records)
        self._resume()

    @property
    def _full(self) -> bool:
        return self._count >= QUEUE_RECORDS or self._bytes >= QUEUE_BYTES

    def _resume(self) -> None:
        if self._paused and not self._full:
            self._paused = False
            self.consumer.resume(*self.consumer.paused())


class RecordReader:
    """Fetches a consumer's records and passes them to `handle`, one batch of at most `max_records` at a time.

    `consumer` returns the aiokafka consumer of a FastStream subscriber without a handler. `name` is used in health reports and logs.
    """

    def __init__(
        self, consumer: Callable[[], Any], handle: Callable[[list[Record]], Awaitable[None]], name: str, max_records: int = 500
    ) -> None:
        self.consumer = consumer
        self.handle = handle
        self.name = name
        self.max_records = max_records
        self.fetch_pause_s = 0.0
        """Pause after a small fetch response. Use it where latency does not matter; it saves CPU time of the broker."""
        self.busy_since: float | None = None
        """Since when one batch is in hand, on the monotonic clock; None between batches."""
        self.may_wait: Callable[[], bool] = lambda: False
        """True while the handler waits for something else than itself, such as a free slot of a worker."""
        self.open_records: Callable[[list[Record]], Awaitable[None]] | None = None
        """Opens the sealed ones of the records in place, before they are handled."""
        self.last_poll = 0.0
        """When the consumer last answered, on the monotonic clock; 0 before the first time."""
        self.failing_since: float | None = None
        """Since when every poll has failed."""
        self.failed_with: KafkaError | None = None
        self._queue: RecordQueue | None = None

    async def run(self) -> None:
        """Read and handle, from the consumer's start until it stops. Raises what `handle` raises."""
        self._queue = queue = RecordQueue(self.consumer())
        parts = {asyncio.create_task(self._fetch(queue)), asyncio.create_task(self._handle(queue))}
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Discard queued records of partitions that were revoked or are about to be fetched again."""
        if self._queue is not None:
            self._queue.drop(partitions)

    async def _handle(self, queue: RecordQueue) -> None:
        while True:
            records = await queue.take(self.max_records)
            self.busy_since = time.monotonic()
            try:
                if self.open_records is not None:
                    await self.open_records(records)
                await self.handle(records)
            finally:
                self.busy_since = None

    async def _fetch(self, queue: RecordQueue) -> None:
        consumer = queue.consumer
        consumer._fetcher._prefetch_backoff = PREFETCH_BACKOFF_S
        while True:
            try:
                # No await between the consumer's own bookkeeping and `put`: a seek in between would leave stale records in the queue.
                batch = await consumer.getmany(timeout_ms=POLL_MS)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                self._note_failure(consumer, error)
                await asyncio.sleep(ERROR_PAUSE_S)
                continue
            queue.put(batch)
            self.failing_since = None
            self.last_poll = time.monotonic()
            if self.fetch_pause_s and 0 < sum(map(_size, batch.values())) < SMALL_BYTES:
                await asyncio.sleep(self.fetch_pause_s)

    def _note_failure(self, consumer: Any, error: KafkaError) -> None:
        log.error("records cannot be fetched", extra={"group": self.name, "reason": repr(error)})
        self.failed_with = error
        self.failing_since = self.failing_since or time.monotonic()
        if type(error) is KafkaError:
            # aiokafka has no class for FENCED_INSTANCE_ID, the answer to a static member whose instance id the group has given to another
            # member id. It would keep its old member id for ever; with none it joins as it did at the start.
            reset: Callable[[], None] | None = getattr(
                consumer._coordinator, "reset_generation", None
            )  # a consumer without a group has none
            if reset is not None:
                reset()


def _size(records: Iterable[Record]) -> int:
    """Bytes of the records' values as they were fetched; `open_records` changes values only after `take`."""
    return sum(len(record.value or b"") for record in records)
