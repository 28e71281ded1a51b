"""SIGTERM and SIGINT of a worker's process: it drains, and whatever it does, it has ended a moment after its time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from stageline_kit.child_processes import kill_processes, started_processes

log = logging.getLogger(__name__)
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
GRACE_S: Final = 1.0
"""How long after `limit_s` the process ends by force."""


class StopSignals:
    """A context manager. At the first signal `stop` is called in the event loop, and the clock runs.

    The process ends by force, with the processes that it has started, when it still runs `GRACE_S` after `limit_s`: a blocked event loop, a
    thread that never ends, and a client that waits for a broker do not hold it. In a thread other than the main one there are no signals.
    """

    def __init__(self, stop: Callable[[], None], limit_s: float) -> None:
        self.stop = stop
        self.limit_s = limit_s
        self._former: dict[int, Any] = {}
        self._others: set[int] = set()
        self._loop: asyncio.AbstractEventLoop
        self._clock: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._others = started_processes()
        if threading.current_thread() is threading.main_thread():
            # Not the loop's own handlers: a loop that an action blocks never calls them.
            self._former = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former if former is not None else signal.SIG_DFL)

    def _receive(self, number: int, frame: Any) -> None:
        if self._clock is None:
            self._clock = threading.Thread(target=self._end_late, name="stageline-stop", daemon=True)
            self._clock.start()
        with suppress(RuntimeError):  # the loop is closed: the program is about to end
            self._loop.call_soon_threadsafe(self.stop)

    def _end_late(self) -> None:
        threading.Event().wait(self.limit_s + GRACE_S)
        log.error("the program has not stopped in %g s and is ended; what it still ran starts again elsewhere", self.limit_s)
        kill_processes(started_processes() - self._others)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(1)
