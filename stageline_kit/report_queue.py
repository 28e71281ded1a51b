"""Reports on their way to Kafka: sent in batches, and only then are the offsets of their tasks free to commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stageline_kit.hooks import WorkerHooks
from stageline_kit.transport import NotSent, RecordRefused, Transport
from stageline_kit.watermark import Position, Watermark

log = logging.getLogger(__name__)
BATCH_ROWS = 1000
RETRY_S = 1.0
Instead = Callable[[str], Any]
"""Makes the row that is sent in place of one that Kafka refuses for good. It receives the reason."""


@dataclass(slots=True)
class QueuedRow:
    """A row, the tasks that it closes, and what is known of its sending."""

    row: Any
    positions: Sequence[Position]
    instead: Instead | None = None
    sent: asyncio.Future[None] | None = None


class ReportQueue:
    """One per worker. `run_publisher` must run while tasks do."""

    def __init__(self, transport: Transport, hooks: WorkerHooks) -> None:
        self.transport = transport
        self.hooks = hooks
        self.watermark = Watermark()
        self._rows: list[QueuedRow] = []
        self._work = asyncio.Event()
        self._sending = asyncio.Lock()

    def put_row(self, row: Any, positions: Sequence[Position] = (), instead: Instead | None = None) -> None:
        """Queue a row. The tasks at `positions` are closed when Kafka has it.

        Where Kafka refuses the row for good, what `instead` makes is sent, or nothing.
        """
        self._put(QueuedRow(row, positions, instead))

    async def send_row(self, row: Any, positions: Sequence[Position] = ()) -> None:
        """Queue a row and return when Kafka has it, or has refused it for good."""
        sent = asyncio.get_running_loop().create_future()
        self._put(QueuedRow(row, positions, sent=sent))
        await sent

    def close_tasks(self, positions: Iterable[Position]) -> None:
        """Close tasks that need no report."""
        for position in positions:
            self.watermark.close_task(position)
        self._work.set()

    async def run_publisher(self) -> None:
        """Publish whatever is queued, until cancelled. What Kafka does not take is sent again."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self.publish_all()

    async def publish_all(self) -> None:
        """Return when Kafka has acknowledged everything that is queued. Retries for as long as it takes."""
        while True:
            try:
                return await self._publish()
            except NotSent as error:
                log.warning("reports will be sent again", extra={"reason": str(error)})
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> bool:
        """Publish what is queued and commit what is done, once. Returns whether Kafka took the commit.

        Raises `NotSent`; then everything stays queued.
        """
        await self._publish()
        return await self.transport.commit_offsets()

    def _put(self, row: QueuedRow) -> None:
        self._rows.append(row)
        self._work.set()

    async def _publish(self) -> None:
        async with self._sending:
            while batch := self._rows[:BATCH_ROWS]:
                self.hooks.before_publish()
                try:
                    await self.transport.send_rows([queued.row for queued in batch])
                except RecordRefused:
                    # One of them is refused for good; alone each shows whether it is the one.
                    for queued in batch:
                        await self._send_alone(queued)
                self.hooks.after_publish()
                del self._rows[: len(batch)]
                for queued in batch:
                    self._close(queued)
            self.transport.mark_done(self.watermark.advance())

    async def _send_alone(self, queued: QueuedRow) -> None:
        try:
            await self.transport.send_rows([queued.row])
            return
        except RecordRefused as error:
            reason = str(error)
        log.error("Kafka refuses a record for good", extra={"reason": reason, "replaced": queued.instead is not None})
        if queued.instead is not None:
            queued.row, queued.instead = queued.instead(reason), None
            await self._send_alone(queued)

    def _close(self, queued: QueuedRow) -> None:
        for position in queued.positions:
            self.watermark.close_task(position)
        if queued.sent is not None and not queued.sent.done():
            queued.sent.set_result(None)
