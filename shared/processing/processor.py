"""Processes batches exactly once: inbox, state and outbox in one transaction, then publishing, then the offset commit.

A crash between any two of these steps redelivers the records, which the inbox drops, and publishes the outbox rows again, under the
same ids.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from contracts import dead_letter_topic, derived
from contracts.cloudevents import Headers
from shared import clock, crashpoints
from shared.carried_through import carried_through
from shared.database.faults import ConstraintViolated
from shared.database.store import Store, forget_seen
from shared.errors import DeadLetter, Retry, Stop
from shared.kafka.outgoing import Outgoing
from shared.processing.fault_window import FaultWindow
from shared.processing.inbox import DedupPolicy, Inbox, forget_parked, unseen
from shared.processing.outbox import Relay
from shared.processing.records import HANDLER_ERROR, Inbound, Undecodable, fault_of
from shared.processing.unit_of_work import Unit
from shared.telemetry.logs import log_fields
from shared.telemetry.tracing import Telemetry, mark_failed

log = logging.getLogger(__name__)
SEEN_RETENTION_S = 14 * 86_400
PRUNE_EVERY_S = 60
PRUNED_AT_ONCE = 2000
"""Rows deleted with one transaction: more than a batch adds, so that the inbox shrinks while old rows are left."""


class Handler(Protocol):
    """A service's handling of one batch: it reads and writes through `unit.connection` and publishes through `unit`."""

    def __call__(self, unit: Unit, batch: Sequence[Inbound]) -> None: ...


@dataclass
class BatchProcessor:
    """Runs handlers in transactions, one at a time and in order, and publishes their outputs. One per process."""

    service: str
    store: Store
    relay: Relay
    telemetry: Telemetry
    park_limit: int = 50
    """Records that our own code may fail on within `WINDOW_S`; more stop the process."""
    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    faults: FaultWindow = field(default_factory=FaultWindow)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    """Called in the event loop after each transaction is committed and published: wakes timers and waiters."""
    _pruned_at: float = 0.0
    _publishing: asyncio.Task[None] | None = None

    async def process_batch(
        self,
        handler: Handler,
        inbound: Sequence[Inbound],
        bad: Sequence[Undecodable],
        group: str,
        inbox: Inbox = DedupPolicy.BY_ID,
    ) -> None:
        """Process one batch. On return its effects are durable and published, and its offsets may be committed.

        `bad` are records to dead-letter, `group` the consumer group, `inbox` how repeats are recognised. Raises `Retry` or `Stop`.
        """
        await (await self.decide_batch(handler, inbound, bad, group, inbox))

    async def decide_batch(
        self,
        handler: Handler,
        inbound: Sequence[Inbound],
        bad: Sequence[Undecodable],
        group: str,
        inbox: Inbox = DedupPolicy.BY_ID,
    ) -> Awaitable[None]:
        """As `process_batch`, but returns when the effects are durable, with an awaitable that ends when they are published.

        This is the guard of every handler: a batch that fails is halved until the record is found that it fails on, which is
        dead-lettered. So a handler may, and need not, guard each record itself, which is faster. `Retry` and `Stop` pass.
        """
        try:
            return await self._decide_at_once(handler, inbound, bad, group, inbox)
        except Exception as error:
            if not inbound or (isinstance(error, (Retry, Stop)) and not isinstance(error, ConstraintViolated)):
                raise
            if len(inbound) == 1:
                fault = error if isinstance(error, DeadLetter) else fault_of(inbound[0], error)
                refused = Undecodable(inbound[0], fault.code, str(fault))
                return await self._decide_at_once(handler, [], [*bad, refused], group, inbox)
        middle = len(inbound) // 2
        await self.decide_batch(handler, inbound[:middle], bad, group, inbox)
        return await self.decide_batch(handler, inbound[middle:], [], group, inbox)

    async def _decide_at_once(
        self, handler: Handler, inbound: Sequence[Inbound], bad: Sequence[Undecodable], group: str, inbox: Inbox
    ) -> Awaitable[None]:
        def work(unit: Unit) -> None:
            for item in inbound:
                item.dead_letter = None
            todo = unseen(unit, inbound, inbox)
            self.telemetry.count("pipeline.inbox.duplicates", len(inbound) - len(todo))
            handler(unit, todo)
            forget_parked(unit, [i for i in todo if i.dead_letter is not None])
            self._dead_letters(unit, todo, bad, group)

        _, published = await self._start(work)
        return published

    async def run_unit(self, work: Callable[[Unit], Any]) -> Any:
        """Run `work` in a transaction of its own, publish its outputs, and return its result. Raises `Retry` or `Stop`."""
        result, published = await self._start(work)
        await published
        return result

    async def _start(self, work: Callable[[Unit], Any]) -> tuple[Any, Awaitable[None]]:
        # The caller may be cancelled, when a client goes away for example. A committed unit is published all the same: the next
        # transaction deletes published rows up to an id, and would delete unpublished ones with them.
        try:
            return await carried_through(self._commit_and_publish(work))
        except ConstraintViolated:
            # Another replica may have written the same row in this moment. Now `work` sees it, and decides on it.
            return await carried_through(self._commit_and_publish(work))

    async def _commit_and_publish(self, work: Callable[[Unit], Any]) -> tuple[Any, Awaitable[None]]:
        """Commit one unit and start publishing it. One further unit may be committed meanwhile, and is published after it."""
        async with self.order:
            if self.relay.left_behind:
                await self._idle()
                await self.relay.publish_left_behind(self.store)
            result, unit, written = await self.relay.transact(self.store, lambda c: self._transaction(c, work))
            self.relay.mark_committed()
            crashpoints.reach(self.service, "after_commit")
            await self._idle()
            self._publishing = publishing = asyncio.create_task(self._publish(unit, written))
            if self.store.shared:
                # The database server works while this process publishes, so that overlapping the two would only make batches smaller.
                await asyncio.wait([publishing])
        published = asyncio.shield(publishing)
        # A stop may leave nobody who waits for it. The relay has noted the failure, and the rows are in the outbox.
        published.add_done_callback(lambda done: done.cancelled() or done.exception())
        return result, published

    async def flush_outbox(self) -> None:
        """Publish outbox rows that are left, unless a unit that will do so is waiting. Raises `Retry`."""
        await self._idle()
        if self.relay.work_left and not self.order.locked():
            await self.run_unit(lambda unit: None)

    async def release_held(self, existing: Collection[str]) -> None:
        """Send what was held back for topics in `existing`, between two units. Raises `Retry`."""
        async with self.order:
            await self._idle()
            await self.relay.release_held(self.store, existing)

    async def _idle(self) -> None:
        if self._publishing is not None:
            await asyncio.wait([self._publishing])

    async def _publish(self, unit: Unit, written: Any) -> None:
        await self.relay.publish_rows(self.store, unit.outgoing, written)
        crashpoints.reach(self.service, "after_publish")
        for wake in (*self.after_commit, *unit.after_commit):
            wake()

    def _transaction(self, connection: Connection, work: Callable[[Unit], Any]) -> tuple[Any, Unit, Any]:
        unit = Unit(connection, clock.unix(), f"/stageline/{self.service}", self.telemetry)
        result = work(unit)
        written = self.relay.write_rows(connection, unit.outgoing, unit.now)
        self._prune(connection, unit.now)
        crashpoints.reach(self.service, "before_commit")
        return result, unit, written

    def _prune(self, connection: Connection, now: float) -> None:
        if time.monotonic() - self._pruned_at < PRUNE_EVERY_S:
            return
        # A part with every transaction until no old row is left, because one part a minute would fall behind on a busy day.
        old = now - SEEN_RETENTION_S
        if forget_seen(connection, old, PRUNED_AT_ONCE) < PRUNED_AT_ONCE:
            self._pruned_at = time.monotonic()

    def _dead_letters(self, unit: Unit, done: Sequence[Inbound], bad: Sequence[Undecodable], group: str) -> None:
        for fault in bad:
            r = fault.record
            unit.outgoing.append(dead_letter(r, group, self.service, fault.code, fault.reason, unit.now))
            self.telemetry.count("pipeline.dead_letters", 1, code=fault.code)
        if bad:
            found = sorted({fault.code for fault in bad})
            log.warning("records dead-lettered", extra={"group": group, "count": len(bad), "codes": found})
        for item in done:
            if item.dead_letter is not None:
                why = {"code": item.dead_letter.code, "reason": str(item.dead_letter), "topic": item.topic, "offset": item.offset}
                log.warning("record dead-lettered", extra=log_fields(item.trace, getattr(item.message, "job_id", None), **why))
                mark_failed(item.span, item.dead_letter.code)
                unit.outgoing.append(
                    dead_letter(item, group, self.service, item.dead_letter.code, str(item.dead_letter), unit.now)
                )
                self.telemetry.count("pipeline.dead_letters", 1, code=item.dead_letter.code)
        codes = [fault.code for fault in bad] + [item.dead_letter.code for item in done if item.dead_letter is not None]
        faults = codes.count(HANDLER_ERROR)
        self.faults.check(faults, self.park_limit)
        unit.after_commit.append(lambda: self.faults.count(faults))


def dead_letter(record: Any, group: str, service: str, code: str, reason: str, now: float) -> Outgoing:
    """The dead letter of a record: its bytes and headers unchanged, and `dlq-*` headers with its place, the reason and the time."""
    timestamp = getattr(record, "timestamp", 0)
    facts = {
        "dlq-id": derived(f"{record.topic}/{record.partition}/{record.offset}", group),
        "dlq-original-topic": record.topic,
        "dlq-original-partition": record.partition,
        "dlq-original-offset": record.offset,
        "dlq-original-timestamp": timestamp,
        "dlq-group": group,
        "dlq-service": service,
        "dlq-code": code,
        "dlq-reason": reason[:1000],
        "dlq-failed-at": now,
    }
    headers: Headers = tuple((n, v if v is not None else b"") for n, v in record.headers)
    added: Headers = tuple((n, str(v).encode("utf-8", "backslashreplace")) for n, v in facts.items())
    return Outgoing(dead_letter_topic(record.topic, group), record.key, record.value or b"", headers + added)
