"""Matching events to endpoints, and the loop that sends what is due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.trace import SpanKind
from sqlalchemy import text

from contracts import DeliveryAttempted, JobErased, RegisterWebhook, derived
from contracts.alfred import AlfredEvent
from contracts.topics import DELIVERY_EVENTS_TOPIC
from services.notifier.adapters import sql_store as db
from services.notifier.core.delivery import DeliveryState, Result, event_names, judge, wanted
from services.notifier.ports import Delivery, Sender
from services.notifier.registration import enter
from shared import clock
from shared.due import SHARED_SWEEP_S, SWEEP_S
from shared.errors import Retry
from shared.logs import about
from shared.settle import Inbound, Settler
from shared.telemetry import Telemetry, as_parent, carried, fail, parse_traceparent
from shared.unit import Unit

log = logging.getLogger(__name__)


def on_batch(unit: Unit, batch: Sequence[Inbound]) -> None:
    """`job.events`, `file.events`, `session.events` and `job.erasures`: a delivery row for every endpoint that wants the event.
    `webhook.commands`: an address to be asked."""
    for item in batch:
        if isinstance(item.message, JobErased):
            db.erase(unit.connection, item.message.job_id)
        elif isinstance(item.message, RegisterWebhook):
            enter(unit.connection, item.message, unit.now)
    endpoints: dict[str, list[db.Endpoint]] = {}
    for endpoint in db.endpoints_of(unit.connection, {i.message.tenant for i in batch}) if batch else ():
        endpoints.setdefault(endpoint.tenant_id, []).append(endpoint)
    rows: list[dict[str, Any]] = []
    for item in batch if endpoints else ():
        message = item.message
        if isinstance(message, RegisterWebhook):
            continue
        alfred = message.event.NAME if isinstance(message, AlfredEvent) else None
        names = event_names(message.TYPE, alfred)
        for endpoint in endpoints.get(message.tenant, ()):
            if wanted(endpoint.filters, names):
                rows.append({**_row(item, endpoint, names[0], unit.now), "position": int(unit.now * 1e6) + len(rows)})
    db.add_deliveries(unit.connection, rows)


def _row(item: Inbound, endpoint: db.Endpoint, name: str, now: float) -> dict[str, Any]:
    message = item.message
    event = message.event if isinstance(message, AlfredEvent) else message
    state = DeliveryState.SUPPRESSED if endpoint.disabled else DeliveryState.PENDING
    return {
        "endpoint_id": endpoint.id, "event_id": message.message_id, "tenant_id": message.tenant, "event_type": name,
        "job_id": getattr(event, "job_id", None), "body": message.to_json(), "trace": item.trace, "state": state.value,
        "reason": "disabled" if endpoint.disabled else None, "due_at": None if endpoint.disabled else now, "created_at": now,
    }  # fmt: skip


class Dispatcher:
    """Claims due deliveries, sends them side by side, records what came of it. One slow endpoint delays no other."""

    def __init__(
        self,
        settler: Settler,
        sender: Sender,
        telemetry: Telemetry,
        schedule: Sequence[float],
        in_flight: int,
        per_endpoint: int,
    ) -> None:
        self.settler = settler
        self.sender = sender
        self.telemetry = telemetry
        self.schedule = schedule
        self.in_flight = in_flight
        self.per_endpoint = per_endpoint
        self.busy: dict[str, int] = {}
        self.jobs: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.results: list[tuple[Delivery, Result, float]] = []
        self.wake = asyncio.Event()
        settler.after.append(self.wake.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.wake.clear()
            try:
                await self._record()
                delay = await self._claim()
            except Retry as error:
                log.warning("deliveries will be looked at again", extra={"code": error.code, "reason": str(error)})
                delay = 1.0
            if delay > 0:
                try:
                    await asyncio.wait_for(self.wake.wait(), delay)
                    await asyncio.sleep(0.01)
                except TimeoutError:
                    continue

    async def _claim(self) -> float:
        due = await self.settler.store.read(db.next_due)
        now = clock.unix()
        if due is None or due > now:
            sweep = SHARED_SWEEP_S if self.settler.store.shared else SWEEP_S
            return sweep if due is None else min(sweep, due - now)
        room = self.in_flight - len(self.tasks)
        if room <= 0:
            return 1.0
        busy, jobs = dict(self.busy), set(self.jobs)
        claimed = await self.settler.store.transact(lambda c: db.claim(c, now, min(room, 100), busy, self.per_endpoint, jobs))
        for delivery in claimed:
            self.busy[delivery.endpoint_id] = self.busy.get(delivery.endpoint_id, 0) + 1
            self.jobs.add((delivery.endpoint_id, delivery.job_id or delivery.event_id))
            task = asyncio.create_task(self._send(delivery))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return 0.0 if claimed else 0.25

    async def _send(self, delivery: Delivery) -> None:
        started = clock.unix()
        span = None
        if self.telemetry.enabled:
            span = self.telemetry.tracer.start_span(
                "POST", context=as_parent(parse_traceparent(delivery.trace)), kind=SpanKind.CLIENT,
                attributes={
                    "http.request.method": "POST", "url.full": delivery.url, "attempt": delivery.attempt,
                    "webhook.event_type": delivery.event_type, **({"job.id": delivery.job_id} if delivery.job_id else {}),
                },
            )  # fmt: skip
        result = await self.sender.send(_with_trace(delivery, carried(span, delivery.trace)), int(started))
        if span is not None:
            if result.status_code is not None:
                span.set_attribute("http.response.status_code", result.status_code)
            if result.error or not 200 <= (result.status_code or 0) < 300:
                fail(span, result.error or str(result.status_code))
            span.end()
        self.results.append((delivery, result, started))
        self.wake.set()

    async def _record(self) -> None:
        """Write down all results that have come in, in one transaction; only then are their places free again."""
        batch = self.results[:500]
        if not batch:
            return

        def work(unit: Unit) -> None:
            for entry in batch:
                self._settle(unit, *entry)

        await self.settler.run(work)
        del self.results[: len(batch)]
        for delivery, _, _ in batch:
            self.busy[delivery.endpoint_id] -= 1
            self.jobs.discard((delivery.endpoint_id, delivery.job_id or delivery.event_id))

    def _settle(self, unit: Unit, delivery: Delivery, result: Result, started: float) -> None:
        attempt_id = derived(delivery.endpoint_id, delivery.event_id, delivery.attempt)
        row = unit.connection.execute(
            text("SELECT failing_since FROM endpoint WHERE id = :e"), {"e": delivery.endpoint_id}
        ).first()
        if row is None:
            return  # the endpoint was deleted, and its deliveries with it
        verdict = judge(result, delivery.attempt, unit.now, attempt_id, row.failing_since, self.schedule)
        db.settle(unit.connection, delivery, result, verdict, attempt_id, started)
        self.telemetry.count("pipeline.webhook.attempts", 1, outcome=verdict.outcome)
        if verdict.outcome != "delivered":
            facts = {
                "endpoint.id": delivery.endpoint_id,
                "outcome": verdict.outcome,
                "error": verdict.error,
                "attempt": delivery.attempt,
            }
            log.warning("webhook not delivered", extra=about(delivery.trace, delivery.job_id, **facts))
        at = clock.now()
        event = DeliveryAttempted(
            attempt_id=attempt_id, tenant_id=delivery.tenant_id, endpoint_id=delivery.endpoint_id, event_id=delivery.event_id,
            event_type=delivery.event_type, job_id=delivery.job_id, attempt=delivery.attempt, attempted_at=at,
            outcome=verdict.outcome, status_code=result.status_code, error=verdict.error, detail=result.detail,
            duration_ms=result.duration_ms,
            next_attempt_at=None if verdict.due_at is None else at.fromtimestamp(verdict.due_at, at.tzinfo),
        )  # fmt: skip
        unit.emit(DELIVERY_EVENTS_TOPIC.name, event, delivery.trace)

    async def drain(self) -> None:
        """Wait for what is in flight and record it; what is cut off comes back when its lease ends."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=10)
        await self._record()


def _with_trace(delivery: Delivery, trace: str | None) -> Delivery:
    return replace(delivery, trace=trace)
