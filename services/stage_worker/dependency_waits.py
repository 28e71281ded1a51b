"""Steps wait for what they need: while a dependency of the worker is away, no attempt is used up."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable

from services.stage_worker.ports import Action, Result
from shared.availability import word_of
from shared.backoff import backoff
from shared.errors import Retry
from stageline_kit import Queued, Task

log = logging.getLogger(__name__)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk, of temporary files for example, which are no fault of an action."""
SHARE = 0.5
"""Part of a step's time that it may spend here. Then its task goes back, and its worker may do other work."""
AGAIN_S = 15.0
"""Seconds until such a task comes again."""
WAITING_TEXT = "Storage is not available now. The step waits for it and uses up no attempt."


class DependencyWaits:
    """Runs actions. One that raises `Retry` begins again when `probe` returns None: why a dependency does not work."""

    def __init__(self, probe: Callable[[], Awaitable[str | None]]) -> None:
        self.probe = probe
        self.waiting: dict[str, str] = {}
        """Lease → what its task waits for, in an operator's words."""

    def around(self, action: Action) -> Action:
        """`action`, with its waits."""

        async def run(task: Task) -> Result:
            return await self._run(action, task)

        return run

    async def tasks_wait(self) -> str | None:
        """Health check: how many tasks wait, and for what."""
        reasons = sorted(set(self.waiting.values()))
        return f"{len(self.waiting)} tasks wait: {'; '.join(reasons)}" if reasons else None

    async def _run(self, action: Action, task: Task) -> Result:
        deadline, failures = time.monotonic() + task.timeout_s * SHARE, 0
        try:
            while True:
                try:
                    return await action(task)
                except (Retry, OSError) as error:
                    if isinstance(error, OSError) and error.errno not in DISK:
                        raise
                    failures = await self._wait(task, error, deadline, failures + 1)
        finally:
            self.waiting.pop(task.message.lease, None)

    async def _wait(self, task: Task, error: Retry | OSError, deadline: float, failures: int) -> int:
        """Return when the action may begin again: the number of failures so far. Raises `Queued` when that takes too long."""
        code = error.code if isinstance(error, Retry) else "disk_unavailable"
        self.waiting[task.message.lease] = f"{code}: {word_of(str(error))}"
        facts = {"job.id": task.job_id, "action": task.action, "code": code, "reason": str(error)[:1000]}
        log.warning("a step waits for a dependency", extra=facts)
        while True:
            delay = backoff(failures)
            if time.monotonic() + delay > deadline:
                raise Queued(AGAIN_S, "dependency_unavailable", WAITING_TEXT) from error
            await asyncio.sleep(delay)
            if await self.probe() is None:
                return failures
            failures += 1
