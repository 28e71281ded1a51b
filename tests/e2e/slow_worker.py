"""A worker whose action runs until the test lets it finish or the task is cancelled. It prints what happens."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stageline_kit import Task, Worker
from tests.eventually import eventually

worker = Worker(sys.argv[1], "slow-1", drain_s=20)
notes = Path(sys.argv[2])


def note(word: str) -> None:
    """Print a line for the test."""
    with notes.open("a") as stream:
        stream.write(word + "\n")


async def told_to_finish() -> bool:
    """True when the test has created its file."""
    return notes.with_suffix(".go").exists()


@worker.action("acme.slow")
async def slow(task: Task) -> dict[str, str]:
    note(f"started {task.job_id}")
    task.progress(1, 2)
    try:
        await eventually(told_to_finish, 60)
    except asyncio.CancelledError:
        note(f"cancelled {task.job_id}")
        raise
    note(f"finished {task.job_id}")
    return {"ok": "yes"}


asyncio.run(worker.run())
