"""Sends due deliveries: endpoints and jobs in parallel, the events of one job in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from opentelemetry.trace import Span, SpanKind

from contracts import DeliveryAttempted, derived
from contracts.topics import DELIVERY_EVENTS_TOPIC, WEBHOOK_ANSWERS_TOPIC
from services.notifier.adapters import delivery_queue
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.delivery_queue import LEASE_S, Job, Limits, Run, job_of
from services.notifier.adapters.endpoints import changed
from services.notifier.core.delivery import Result, judge
from services.notifier.ports import Attempt, Delivery, Sender
from shared import clock
from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit
from shared.runtime.timers import SHARED_SWEEP_S, SWEEP_S
from shared.telemetry.logs import log_fields
from shared.telemetry.trace_context import as_parent, parse_traceparent, traceparent_of
from shared.telemetry.tracing import Telemetry, mark_failed

log = logging.getLogger(__name__)
Tried = tuple[Delivery, Result, float]
"""A delivery, its result, and the start of the attempt in Unix seconds."""
LINGER_S = 0.01
"""Wait after a wake-up, so that one pass handles several commits."""
RECORD_S = 0.05
"""Longest time until a result is recorded while its run continues."""


class Dispatcher:
    """Claims due deliveries in runs, sends them and records the results. A slow endpoint delays no other."""

    def __init__(
        self, processor: BatchProcessor, sender: Sender, telemetry: Telemetry, schedule: Sequence[float], limits: Limits, timeout_s: float,
    ) -> None:  # fmt: skip
        self.processor = processor
        self.sender = sender
        self.telemetry = telemetry
        self.schedule = schedule
        self.limits = limits
        self.begin_within_s = max(0.0, LEASE_S - timeout_s)
        """An attempt that starts this soon after the lease began ends before the lease does."""
        self.busy: set[Job] = set()
        self.halted: set[str] = set()
        """Endpoints that were deleted or disabled while their runs were in progress."""
        self.stopping = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.tried: list[Tried] = []
        self.ended: list[tuple[Job, Run]] = []
        """Finished runs, each with its deliveries that were not attempted."""
        self.over = asyncio.Event()
        self.wake = asyncio.Event()
        processor.after_commit.append(self.wake.set)

    async def run(self) -> None:
        """Run until cancelled or, after `drain`, until everything in progress is recorded."""
        try:
            while not (self.stopping and not (self.tasks or self.tried or self.ended)):
                await self._pass()
        finally:
            self.over.set()

    async def _pass(self) -> None:
        self.wake.clear()
        try:
            await self._record()
            delay = await self._claim()
        except Retry as error:
            log.warning("deliveries will be retried", extra={"code": error.code, "reason": str(error)})
            delay = 1.0
        if delay > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), delay)
                await asyncio.sleep(LINGER_S)

    async def _claim(self) -> float:
        if self.stopping:
            return 1.0
        due = await self.processor.store.read(delivery_queue.next_due)
        now = clock.unix()
        if due is None or due > now:
            sweep = SHARED_SWEEP_S if self.processor.store.shared else SWEEP_S
            return sweep if due is None else min(sweep, due - now)
        busy = set(self.busy)
        if len(busy) >= self.limits.in_flight:
            return 1.0
        runs = await self.processor.store.transact(lambda c: delivery_queue.claim(c, now, self.limits, busy))
        for run in runs:
            self.busy.add(job_of(run[0]))
            task = asyncio.create_task(self._send_run(run, now + self.begin_within_s))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return 0.0 if runs else 0.25

    async def _send_run(self, run: Run, until: float) -> None:
        """Send a run in order. Deliveries not started by `until` are released, because their lease could end while they are sent;
        the first one is always sent."""
        left = run
        try:
            while left and not self._is_halted(left[0]) and (left is run or clock.unix() < until):
                tried = await self._send(left[0])
                left = left[1:]
                self.tried.append(tried)
                if len(self.tried) == 1:
                    asyncio.get_running_loop().call_later(RECORD_S, self.wake.set)
        finally:
            self.ended.append((job_of(run[0]), left))
            self.wake.set()

    def _is_halted(self, delivery: Delivery) -> bool:
        return self.stopping or delivery.endpoint_id in self.halted

    async def _send(self, delivery: Delivery) -> Tried:
        started = clock.unix()
        span = self._span(delivery) if self.telemetry.enabled else None
        traced = replace(delivery, trace=traceparent_of(span, delivery.trace))
        result = await self.sender.send(traced, int(started))
        if span is not None:
            if result.status_code is not None:
                span.set_attribute("http.response.status_code", result.status_code)
            if result.error or not 200 <= (result.status_code or 0) < 300:
                mark_failed(span, result.error or str(result.status_code))
            span.end()
        return delivery, result, started

    def _span(self, delivery: Delivery) -> Span:
        return self.telemetry.tracer.start_span(
            "POST", context=as_parent(parse_traceparent(delivery.trace)), kind=SpanKind.CLIENT,
            attributes={
                "http.request.method": "POST", "url.full": delivery.url, "attempt": delivery.attempt,
                "webhook.event_type": delivery.event_type, **({"job.id": delivery.job_id} if delivery.job_id else {}),
            },
        )  # fmt: skip

    async def _record(self) -> None:
        """Record all results in one transaction. Slots of finished runs become free only after that."""
        tried, ended = self.tried[:], self.ended[:]
        if not tried and not ended:
            return
        left = [delivery for _, run in ended for delivery in run]
        if tried or left:
            concerned = {d.endpoint_id for d in (*(d for d, _, _ in tried), *left)}
            stopped = await self.processor.run_unit(lambda unit: self._save(unit, concerned, tried, left))
            self.halted = (self.halted - concerned) | stopped
        del self.tried[: len(tried)], self.ended[: len(ended)]
        self.busy -= {job for job, _ in ended}
        if self.tried:
            self.wake.set()

    def _save(self, unit: Unit, concerned: set[str], tried: Sequence[Tried], left: Sequence[Delivery]) -> set[str]:
        """Save results and released deliveries; returns those of the `concerned` endpoints that must receive nothing more."""
        before = db.standing(unit.connection, concerned)
        since = {endpoint: failing for endpoint, (failing, _) in before.items()}
        made: list[Attempt] = []
        ended: set[str] = set()
        for delivery, result, started in tried:
            endpoint = delivery.endpoint_id
            if endpoint not in since:
                continue  # the endpoint was deleted, and its deliveries with it
            id_ = derived(endpoint, delivery.event_id, delivery.attempt)
            verdict = judge(result, delivery.attempt - delivery.replayed, unit.now, id_, since[endpoint], self.schedule)
            made.append(Attempt(id_, delivery, result, verdict, started))
            since[endpoint] = None if verdict.outcome == "delivered" else since[endpoint] or started
            self._emit_attempt(unit, made[-1])
            if verdict.disable is not None and not before[endpoint][1] and endpoint not in ended:
                ended.add(endpoint)
                event = changed(id_, endpoint, delivery.tenant_id, "disable", "notifier", reason=verdict.disable)
                unit.emit(WEBHOOK_ANSWERS_TOPIC.name, event, None)
        delivery_queue.release(unit.connection, left)
        db.save_attempts(unit.connection, made)
        db.mark_failing(unit.connection, {e: at for e, at in since.items() if at != before[e][0]})
        db.hold_back(unit.connection, _disabled(before, made))
        return (concerned - before.keys()) | _disabled(before, made)

    def _emit_attempt(self, unit: Unit, made: Attempt) -> None:
        delivery, verdict, result = made.delivery, made.verdict, made.result
        self.telemetry.count("pipeline.webhook.attempts", 1, outcome=verdict.outcome)
        if verdict.outcome != "delivered":
            facts = {
                "endpoint.id": delivery.endpoint_id, "outcome": verdict.outcome, "error": verdict.error, "attempt": delivery.attempt,
            }  # fmt: skip
            log.warning("webhook not delivered", extra=log_fields(delivery.trace, delivery.job_id, **facts))
        at = clock.now()
        event = DeliveryAttempted(
            attempt_id=made.id, tenant_id=delivery.tenant_id, endpoint_id=delivery.endpoint_id, event_id=delivery.event_id,
            event_type=delivery.event_type, job_id=delivery.job_id, attempt=delivery.attempt, attempted_at=at,
            outcome=verdict.outcome, status_code=result.status_code, error=verdict.error, detail=result.detail,
            duration_ms=result.duration_ms,
            next_attempt_at=None if verdict.due_at is None else at.fromtimestamp(verdict.due_at, at.tzinfo),
        )  # fmt: skip
        unit.emit(DELIVERY_EVENTS_TOPIC.name, event, delivery.trace)

    async def drain(self) -> None:
        """Start no more attempts. Wait, at most 10 s, until those in flight are recorded and the rest is released.

        Attempts that are cut off are repeated when their lease ends.
        """
        self.stopping = True
        self.wake.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), 10)


def _disabled(before: dict[str, tuple[float | None, bool]], made: Iterable[Attempt]) -> set[str]:
    was = {endpoint for endpoint, (_, disabled) in before.items() if disabled}
    return was | {a.delivery.endpoint_id for a in made if a.verdict.disable is not None}
