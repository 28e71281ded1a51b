"""Threads of a worker for plain functions: as many as run at once. A function that outlives its task is noticed and counted."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stageline_kit.task import Task

log = logging.getLogger(__name__)
HUNG_AFTER_S = 5.0
"""A function that still runs this long after its task has ended counts as hung. Until then it may notice `task.cancelled`."""
Function = Callable[[Task], Any]


class FunctionThreads:
    """Runs plain functions, one thread each; threads are used again. `on_hung` is called for each function that does not stop.

    The caller bounds how many tasks run at once. Threads are daemons, so that a function that never ends does not keep the
    process from ending.
    """

    def __init__(self, on_hung: Callable[[Task], None] = lambda task: None) -> None:
        self.on_hung = on_hung
        self.hung = 0
        """Functions that have not stopped `HUNG_AFTER_S` after the end of their tasks."""
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    async def run_function(self, function: Function, task: Task) -> Any:
        """Call `function(task)` in a thread; returns or raises what it does. Cancelling the call only sets `task.cancelled`."""
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future())
        context = contextvars.copy_context()

        def work() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = context.run(function, task)
            except StopIteration as stop:
                error = RuntimeError(f"the function raised {stop!r}")  # a future cannot carry it
            except BaseException as raised:  # noqa: BLE001 - any fault belongs to the task, `sys.exit()` included
                error = raised
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._finish, call, result, error)

        self._start(work)
        try:
            return await call.future
        except asyncio.CancelledError:
            if not call.ended:
                task._cancelled = True
                loop.call_later(HUNG_AFTER_S, self._look, call, task)
            raise

    def close(self) -> None:
        """End the threads that are idle."""
        with self._lock:
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._work.put(None)

    def _start(self, work: Callable[[], None]) -> None:
        with self._lock:
            reused = self._idle > 0
            self._idle -= reused
        if not reused:
            threading.Thread(target=self._serve, name="stageline-function", daemon=True).start()
        self._work.put(work)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._idle += 1

    def _look(self, call: _Call, task: Task) -> None:
        if call.ended:
            return
        call.hung = True
        self.hung += 1
        log.error("a function does not stop", extra={"job.id": task.job_id, "action": task.action, "hung": self.hung})
        self.on_hung(task)

    def _finish(self, call: _Call, result: Any, error: BaseException | None) -> None:
        call.ended = True
        self.hung -= call.hung
        if call.future.done():
            return
        if error is None:
            call.future.set_result(result)
        else:
            call.future.set_exception(error)


class _Call:
    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.ended = False
        self.hung = False
