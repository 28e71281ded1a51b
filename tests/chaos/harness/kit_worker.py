"""A worker of the kit for chaos runs, started as a program of its own: `python -m tests.chaos.harness.kit_worker NAME`."""

from __future__ import annotations

import asyncio
import sys
import zlib
from contextlib import suppress

from stageline_kit import Task, Worker

worker = Worker(name=sys.argv[1] if len(sys.argv) > 1 else None, group="workers.chaos", concurrency=8, drain_s=5)


async def _take(task: Task, seconds: float) -> dict[str, str]:
    task.progress(1, 2)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
    return {"by": worker.name}


@worker.action("acme.chaos")
async def chaos(task: Task) -> dict[str, str]:
    """Takes from a tenth of a second to three, by the job's id, so that kills meet running tasks."""
    drawn = zlib.crc32(task.job_id.encode())
    return await _take(task, 0.1 + (drawn % 30) / 10 * (drawn % 4 == 0))


@worker.action("acme.late")
async def late(task: Task) -> dict[str, str]:
    """Ends at once."""
    return await _take(task, 0.05)


if __name__ == "__main__":
    asyncio.run(worker.run())
