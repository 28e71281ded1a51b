"""Turns events into deliveries for the endpoints that subscribe to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from contracts import FileErased, JobErased, Message, RegisterWebhook, SessionErased, SessionEvent, TenantErased, Topic
from contracts.alfred import AlfredEvent
from contracts.event_names import spellings_of, wanted
from services.notifier.adapters import erasures
from services.notifier.adapters import sql_store as db
from services.notifier.core.delivery import DeliveryState
from services.notifier.core.shapes import Shapes
from services.notifier.registration import add_pending
from shared.database.store import Store
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit


class EndpointTenants:
    """Selects the records of tenants that have an endpoint. All other events are skipped without decoding."""

    def __init__(self, store: Store, events: Iterable[Topic]) -> None:
        self.store = store
        self.events = frozenset(t.name for t in events)

    async def select(self, records: Sequence[Any]) -> list[Any]:
        """The records to decode, in order: commands, events of these tenants, and events without a tenant header."""
        tenants = await self.store.read(db.tenants)
        return [r for r in records if r.topic not in self.events or _tenant(r) in tenants]


def _tenant(record: Any) -> bytes | None:
    return next((value for name, value in record.headers if name == "ce_tenant"), None)


def on_batch(unit: Unit, batch: Sequence[Inbound], shapes: Shapes) -> None:
    """Handle a batch: a delivery row for every event and subscribed endpoint, deletions for `job.erasures`, and a pending
    verification for every `RegisterWebhook` of `webhook.commands`. `shapes` writes the bodies of deliveries."""
    for item in batch:
        with item.guard():
            _prepare(unit, item.message)
    endpoints: dict[str, list[db.Endpoint]] = {}
    for endpoint in db.endpoints_of(unit.connection, {i.message.tenant for i in batch}) if batch else ():
        endpoints.setdefault(endpoint.tenant_id, []).append(endpoint)
    rows: list[dict[str, Any]] = []
    for item in batch if endpoints else ():
        if item.dead_letter is None and not isinstance(item.message, RegisterWebhook):
            with item.guard():
                rows += _rows(item, endpoints.get(item.message.tenant, ()), unit.now, shapes)
    for number, row in enumerate(rows):
        row["position"] = int(unit.now * 1e6) + number
    db.add_deliveries(unit.connection, rows)


def _prepare(unit: Unit, message: Message) -> None:
    """What is done before new deliveries are written: deletions, and pending verifications."""
    if isinstance(message, RegisterWebhook):
        add_pending(unit.connection, message, unit.now)
    elif isinstance(message, SessionErased):
        erasures.erase_session(unit.connection, message.session_id, message.tenant)
    elif isinstance(message, TenantErased):
        erasures.erase_tenant(unit.connection, message.tenant_id)
    elif isinstance(message, FileErased):
        for job_id in (message.job_id, *message.former_job_ids):
            erasures.erase_file(unit.connection, job_id, message.file_id)
    elif isinstance(message, JobErased):
        erasures.erase(unit.connection, message.job_id)
        if message.session_id is not None:
            erasures.erase_session(unit.connection, message.session_id, message.tenant)


def _rows(item: Inbound, endpoints: Iterable[db.Endpoint], now: float, shapes: Shapes) -> list[dict[str, Any]]:
    """The deliveries of one event. Each shape that an endpoint asks for is written once."""
    message = item.message
    names = spellings_of(type(message))
    subscribed = [endpoint for endpoint in endpoints if wanted(endpoint.filters, names)]
    bodies = {shape: shapes.body(message, shape) for shape in {endpoint.shape for endpoint in subscribed}}
    return [_row(item, endpoint, names[0], now, bodies[endpoint.shape]) for endpoint in subscribed]


def _row(item: Inbound, endpoint: db.Endpoint, name: str, now: float, body: bytes) -> dict[str, Any]:
    message = item.message
    event = message.event if isinstance(message, AlfredEvent) else message
    state = DeliveryState.SUPPRESSED if endpoint.disabled else DeliveryState.PENDING
    return {
        "endpoint_id": endpoint.id, "event_id": message.message_id, "tenant_id": message.tenant, "event_type": name,
        "job_id": getattr(event, "job_id", None), "session_id": _session_of(message), "body": body, "trace": item.trace, "state": state.value,
        "reason": "disabled" if endpoint.disabled else None, "due_at": None if endpoint.disabled else now, "created_at": now,
    }  # fmt: skip


def _session_of(message: Any) -> str | None:
    # The announcement of an erasure outlives it, as that of a job's erasure does.
    return message.session_id if isinstance(message, SessionEvent) and not isinstance(message, SessionErased) else None
