"""Reports on their way to Kafka: sent in batches, and only then are the offsets of their tasks free to commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from stageline_kit.hooks import WorkerHooks
from stageline_kit.transport import NotSent, Transport
from stageline_kit.watermark import Position, Watermark

log = logging.getLogger(__name__)
BATCH_ROWS = 1000
RETRY_S = 1.0


class ReportQueue:
    """One per worker. `run_publisher` must run while tasks do."""

    def __init__(self, transport: Transport, hooks: WorkerHooks) -> None:
        self.transport = transport
        self.hooks = hooks
        self.watermark = Watermark()
        self._rows: list[tuple[Any, Sequence[Position]]] = []
        self._work = asyncio.Event()
        self._sending = asyncio.Lock()

    def put_row(self, row: Any, positions: Sequence[Position] = ()) -> None:
        """Queue a row. The tasks at `positions` are closed when Kafka has it."""
        self._rows.append((row, positions))
        self._work.set()

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

    async def flush(self) -> None:
        """Publish what is queued and commit what is done, once. Raises `NotSent`; then everything stays queued."""
        await self._publish()
        await self.transport.commit_offsets()

    async def _publish(self) -> None:
        async with self._sending:
            while batch := self._rows[:BATCH_ROWS]:
                self.hooks.before_publish()
                await self.transport.send_rows([row for row, _ in batch])
                self.hooks.after_publish()
                del self._rows[: len(batch)]
                for _, positions in batch:
                    for position in positions:
                        self.watermark.close_task(position)
            self.transport.mark_done(self.watermark.advance())
