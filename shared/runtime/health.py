"""Health by progress. Live: readers poll, batches and timers end. Ready: also a member of every group, and no batch is being retried."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shared.errors import Stop
from shared.kafka.record_reader import RecordReader
from shared.processing.subscription import Subscription
from shared.runtime.timers import TimerLoop

POLL_STALL_S = 30.0
BATCH_STALL_S = 240.0
TIMER_STALL_S = 120.0
RESTART_S = 60.0
"""Seconds of nothing but errors after which a consumer is given up. An unreachable broker is no error: polls then return nothing."""
LOOK_S = 5.0


@dataclass
class Health:
    """The watched parts of one process. `live` and `ready` return a reason for each failing check; none means healthy."""

    subscriptions: list[Subscription] = field(default_factory=list)
    readers: list[RecordReader] = field(default_factory=list)
    timers: list[TimerLoop] = field(default_factory=list)
    checks: list[Callable[[], Awaitable[str | None]]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    """Facts for an operator that `GET /health/ready` shows beside the reasons; they make nothing unhealthy."""
    outage: Callable[[], bool] = lambda: False
    """True while Kafka takes nothing: timers then wait in line for the outbox, and a new process would help nobody."""
    started: bool = False
    stopping: bool = False
    _failing_since: float | None = None

    def live(self) -> dict[str, str]:
        """Reasons to restart this process, by consumer group or `timers`."""
        now = time.monotonic()
        faults: dict[str, str] = {}
        if not self.started:
            return faults
        for reader in self.readers:
            if reader.last_poll and now - reader.last_poll > POLL_STALL_S:
                faults[reader.name] = f"no poll for {now - reader.last_poll:.0f} s"
            elif reader.busy_since is not None and now - reader.busy_since > BATCH_STALL_S and not reader.may_wait():
                faults[reader.name] = f"one batch has been in hand for {now - reader.busy_since:.0f} s"
        for loop in self.timers:
            if now - loop.last_pass > TIMER_STALL_S and not self.outage():
                faults["timers"] = f"timers were last looked at {now - loop.last_pass:.0f} s ago"
        return faults

    async def watch(self, clients: Callable[[], Iterable[Any]], fail: Callable[[Stop], None]) -> None:
        """Call `fail` once this process must be replaced: it has not been live for `RESTART_S`, a reader had only errors for that long, or a
        relay has a `broken` producer.

        Runs until then or until cancelled. Docker restarts only processes that end, so that failing a health check would not be enough.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            reason = self._not_live() or next(filter(None, map(_beyond_repair, clients())), None)
            if reason is not None and not self.stopping:
                fail(reason)
                return

    def _not_live(self) -> Stop | None:
        faults, now = self.live(), time.monotonic()
        if not faults:
            self._failing_since = None
            return None
        self._failing_since = self._failing_since or now
        if now - self._failing_since < RESTART_S:
            return None
        return Stop("not_live", f"for {now - self._failing_since:.0f} s: " + "; ".join(f"{k}: {v}" for k, v in faults.items()))

    async def ready(self) -> dict[str, str]:
        """Reasons not to send work to this process now."""
        if self.stopping:
            return {"lifecycle": "stopping"}
        if not self.started:
            return {"lifecycle": "starting"}
        faults = self.live()
        for s in self.subscriptions:
            if s.failures:
                faults[s.group] = f"the last {s.failures} batches had to be retried"
            elif not s.gate.joined and s.pattern is None:  # while no topic fits a pattern, there is nothing to join for
                faults[s.group] = "not a member of the group yet"
        for check in self.checks:
            reason = await check()
            if reason:
                faults[check.__name__] = reason
        return faults

    def routes(self) -> Sequence[Route]:
        """`GET /health/live` and `GET /health/ready`: 200 or 503 with the reasons."""

        async def live(_: Request) -> JSONResponse:
            return _answer(self.live())

        async def ready(_: Request) -> JSONResponse:
            return _answer(await self.ready(), self.details)

        return [Route("/health/live", live), Route("/health/ready", ready)]


def _beyond_repair(client: Any) -> Stop | None:
    broken, since = getattr(client, "broken", None), getattr(client, "failing_since", None)
    if broken is not None:
        return Stop("producer_broken", f"the broker refuses everything from this producer: {broken!r}")
    if since is not None and time.monotonic() - since > RESTART_S:
        return Stop(
            "consumer_failing", f"a consumer has had nothing but errors for over {RESTART_S:.0f} s: {client.failed_with!r}"
        )
    return None


def _answer(faults: dict[str, str], details: dict[str, Any] | None = None) -> JSONResponse:
    status = "failing" if faults else "ok"
    shown = {"details": details} if details else {}
    return JSONResponse({"status": status, "reasons": faults, **shown}, status_code=503 if faults else 200)
