"""Turns events into deliveries for the endpoints that subscribe to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from contracts import JobErased, RegisterWebhook, Topic
from contracts.alfred import AlfredEvent
from services.notifier.adapters import sql_store as db
from services.notifier.core.delivery import DeliveryState, event_names, wanted
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


def on_batch(unit: Unit, batch: Sequence[Inbound]) -> None:
    """Handle a batch: a delivery row for every event and subscribed endpoint, deletions for `job.erasures`, and a pending
    verification for every `RegisterWebhook` of `webhook.commands`."""
    for item in batch:
        if isinstance(item.message, JobErased):
            db.erase(unit.connection, item.message.job_id)
        elif isinstance(item.message, RegisterWebhook):
            add_pending(unit.connection, item.message, unit.now)
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
