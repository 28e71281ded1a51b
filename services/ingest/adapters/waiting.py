"""Requests that wait for answers and for jobs. The projector wakes them by what they wait for, right after its commit.

With several replicas another process may project the event. So all waits of this process share one look into the store: soon
after a wait begins, which also finds the answer to a repeated command, and then at intervals.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection

from services.ingest.adapters.store import read_model as rm
from shared.database.store import Store
from shared.errors import Retry

log = logging.getLogger(__name__)
TICK_S = 0.05
"""Shortest time between two looks into the store."""
SHARED_LOOK_S, OWN_LOOK_S = 0.1, 0.5
"""Time between two looks for one wait: in a shared store, and in one that this process alone writes to."""
OLD_S = 5.0
"""After this time a wait is looked up every `OWN_LOOK_S`, also in a shared store."""
LONGEST = 4
"""A wait lasts this many times its timeout at most, while other answers of its kind arrive."""
GONE_S = 1.0
"""Time between two looks whether a caller is still there. One that left must not keep its place."""
T = TypeVar("T")
Gone = Callable[[], Awaitable[bool]]
Record = dict[str, Any]


class Wait:
    """What one request waits for: the first result that is not None. Use it in a `with` block."""

    def __init__(self, waits: Waits, kind: str, repeated: bool) -> None:
        self.waits = waits
        self.kind = kind
        self.patient = False
        self.began = time.monotonic()
        self.next_look = self.began + (0.0 if repeated else waits.look_s)
        self.commands: dict[str, Callable[[Record], Any]] = {}
        self.jobs: dict[str, Callable[[Record | None], Any]] = {}
        self.look: Callable[[Connection], Any] | None = None
        self.found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # A request may fail before it asks for the result. Its error is then nobody's, and no line of the log.
        self.found.add_done_callback(lambda found: found.cancelled() or found.exception())

    def on_command(self, command_id: str, read: Callable[[Record], Any] = lambda body: body) -> None:
        """The answer to a command is a result, as `read` returns it."""
        self.commands[command_id] = read

    def on_job(self, job_id: str, read: Callable[[Record | None], Any]) -> None:
        """What `read` makes of a job's record is a result, unless it is None. `read` gets None while there is no record."""
        self.jobs[job_id] = read

    def offer(self, result: Any) -> None:
        """End the wait with `result`, unless it is None."""
        if result is not None and not self.found.done():
            self.found.set_result(result)
            self.waits.arrived[self.kind] = time.monotonic()

    async def result(self, timeout_s: float, patient: bool = False, gone: Gone | None = None) -> Any:
        """The result; None after `timeout_s` without an answer to any wait of this kind. Raises `Retry` when the store is away.

        `patient`: the wait is optional. It lasts `timeout_s` at most, and ends when this process shuts down, or the caller is `gone`.
        """
        self.patient = patient
        ends, latest = self.began + timeout_s, self.began + LONGEST * timeout_s
        while not self.found.done() and not (patient and self.waits.closing) and (left := ends - time.monotonic()) > 0:
            await asyncio.wait({self.found}, timeout=left if gone is None else min(left, GONE_S))
            if gone is not None and not self.found.done() and await gone():
                return None
            if not patient:
                # A queue that moves is a busy pipeline, not a silent one.
                ends = max(ends, min(self.waits.arrived.get(self.kind, 0.0) + timeout_s, latest))
        return self.found.result() if self.found.done() else None

    def __enter__(self) -> Wait:
        self.waits.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.waits.remove(self)


class Waits:
    """All waits of this process. Implements `Decisions`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closing = False
        self.arrived: dict[str, float] = {}
        """Kind of wait → when one ended with a result, on the monotonic clock."""
        self.look_s = SHARED_LOOK_S if store.shared else OWN_LOOK_S
        self._open: set[Wait] = set()
        self._commands: dict[str, set[Wait]] = {}
        self._jobs: dict[str, set[Wait]] = {}
        self._looking: asyncio.Task[None] | None = None

    def wait(self, kind: str, repeated: bool = False) -> Wait:
        """A new wait. Name what it waits for, then enter it. What may be `repeated` is looked up at once, since no event may follow."""
        return Wait(self, kind, repeated)

    def add(self, wait: Wait) -> None:
        """Begin a wait."""
        self._open.add(wait)
        for command_id in wait.commands:
            self._commands.setdefault(command_id, set()).add(wait)
        for job_id in wait.jobs:
            self._jobs.setdefault(job_id, set()).add(wait)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_until_done())
            self._looking.add_done_callback(self._looked)

    def remove(self, wait: Wait) -> None:
        """End a wait."""
        self._open.discard(wait)
        for waiting, keys in ((self._commands, wait.commands), (self._jobs, wait.jobs)):
            for key in keys:
                waiting.get(key, set()).discard(wait)
                if not waiting.get(key):
                    waiting.pop(key, None)

    def arrive(self, answers: Sequence[tuple[str, Record]], jobs: Mapping[str, Record]) -> None:
        """Hand answers and job records that this process has committed to those who wait for them."""
        for command_id, body in answers:
            for wait in tuple(self._commands.get(command_id, ())):
                wait.offer(wait.commands[command_id](body))
        for job_id in jobs.keys() & self._jobs.keys():
            for wait in tuple(self._jobs[job_id]):
                wait.offer(wait.jobs[job_id](jobs[job_id]))

    async def decision(self, command_id: str, timeout_s: float) -> Record | None:
        wait = self.wait("", repeated=True)
        wait.on_command(command_id)
        with wait:
            answer: Record | None = await wait.result(timeout_s)
        return answer

    async def wait_until(self, look: Callable[[Connection], T | None], timeout_s: float, patient: bool = False) -> T | None:
        found = await self.store.read(look)
        if found is not None:
            return found
        wait = self.wait("")
        wait.look = look
        with wait:
            later: T | None = await wait.result(timeout_s, patient)
        return later

    def wake(self) -> None:
        """Look soon for all that wait by a query: this process changed the store."""
        for wait in self._open:
            if wait.look is not None:
                wait.next_look = 0.0

    def close(self) -> None:
        """End all patient waits: the process shuts down."""
        self.closing = True
        for wait in self._open:
            if wait.patient and not wait.found.done():
                wait.found.set_result(None)

    async def _look_until_done(self) -> None:
        while self._open:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            due = [wait for wait in self._open if wait.next_look <= now and not wait.found.done()]
            if not due:
                continue
            try:
                await self._look(due)
            except Retry as error:
                for wait in due:
                    if not wait.found.done():
                        wait.found.set_exception(error)
            for wait in due:
                wait.next_look = time.monotonic() + (self.look_s if now - wait.began < OLD_S else OWN_LOOK_S)

    async def _look(self, due: Sequence[Wait]) -> None:
        command_ids = {i for wait in due for i in wait.commands}
        job_ids = {i for wait in due for i in wait.jobs}
        queries = [(wait, wait.look) for wait in due if wait.look is not None]

        def read(c: Connection) -> tuple[dict[str, str], dict[str, Record], list[tuple[Wait, Any]]]:
            answers = rm.decisions(c, command_ids) if command_ids else {}
            jobs = rm.records(c, "job_view", job_ids) if job_ids else {}
            return answers, jobs, [(wait, look(c)) for wait, look in queries]

        answers, jobs, results = await self.store.read(read)
        for wait in due:
            for job_id, see in wait.jobs.items():
                wait.offer(see(jobs.get(job_id)))
            for command_id, take in wait.commands.items():
                if command_id in answers:
                    wait.offer(take(json.loads(answers[command_id])))
        for wait, result in results:
            wait.offer(result)

    def _looked(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A fault of our own in one of the queries: those who wait get it, and log it.
            for wait in self._open:
                if not wait.found.done():
                    wait.found.set_exception(error)
