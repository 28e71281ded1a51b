"""Verifies webhook addresses that were registered at the gateway: nothing is sent before the challenge is answered."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from contracts import RegisterWebhook, WebhookDecided, derived
from contracts.topics import WEBHOOK_ANSWERS_TOPIC
from services.notifier.adapters.challenge import challenge
from services.notifier.core.shapes import Shape
from services.notifier.core.signature import new_secret
from services.notifier.ports import WebhookProbe
from shared import clock
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit
from shared.runtime.row_loop import EventWake, RowLoop

log = logging.getLogger(__name__)
LEASE_S = 60.0
"""Lease of a pending verification: after a crash it is repeated this much later."""
ALFRED = json.dumps(["job.*", "file.*"])
"""The events that the vendor's clients handle."""
_ENTER = text(
    "INSERT INTO webhook_pending (command_id, endpoint_id, tenant_id, url, due_at, shape) VALUES (:c, :e, :t, :u, :at, :s) "
    "ON CONFLICT DO NOTHING"
)
_DUE = text(
    "SELECT * FROM (SELECT p.*, row_number() OVER (PARTITION BY tenant_id ORDER BY due_at) AS place FROM webhook_pending p "
    "WHERE due_at <= :now) waiting ORDER BY place, due_at LIMIT 100"
)
_CLAIM = text("UPDATE webhook_pending SET due_at = :later WHERE command_id = :c AND due_at <= :now")
_DONE = text("DELETE FROM webhook_pending WHERE command_id = :c")
_ENDPOINT = text(
    "INSERT INTO endpoint (id, tenant_id, url, secret, events, description, created_at, shape) VALUES (:e, :t, :u, :s, :f, :d, :at, :sh) "
    "ON CONFLICT (id) DO UPDATE SET url = excluded.url, shape = excluded.shape, disabled_reason = NULL, failing_since = NULL "
    "WHERE endpoint.tenant_id = excluded.tenant_id"
)


def add_pending(connection: Connection, command: RegisterWebhook, now: float) -> None:
    """Store an address for verification. A repeated command changes nothing. `now` is in Unix seconds."""
    shape = Shape.ALFRED_FLAT if command.flat else Shape.ALFRED
    values = {
        "c": command.command_id,
        "e": command.endpoint_id,
        "t": command.tenant,
        "u": command.url,
        "at": now,
        "s": shape.value,
    }
    connection.execute(_ENTER, values)


def save_endpoint(connection: Connection, row: Any, now: float) -> None:
    """Add the verified endpoint of `row`, or give the tenant's own its new address. `now` is in Unix seconds.

    Producers choose ids of endpoints. Where another tenant has the id, this tenant's endpoint gets one of its own.
    """
    values = {
        "e": row.endpoint_id, "t": row.tenant_id, "u": row.url, "s": new_secret(secrets.token_bytes(32)), "f": ALFRED,
        "d": "registered at the gateway", "at": now, "sh": row.shape or Shape.ALFRED.value,
    }  # fmt: skip
    if not connection.execute(_ENDPOINT, values).rowcount:
        connection.execute(_ENDPOINT, {**values, "e": derived(row.tenant_id, row.endpoint_id, "own-endpoint")})


class WebhookVerifier:
    """Verifies several pending addresses at once, tenants in turn. Pending work is stored in the database."""

    def __init__(self, processor: BatchProcessor, probe: WebhookProbe) -> None:
        self.processor = processor
        self.probe = probe
        event = asyncio.Event()
        processor.after_commit.append(event.set)
        wake = EventWake(event)
        self.loop = RowLoop("webhook verification", self._due, self._claimed, self._later, wake, "command_id", poll_s=LEASE_S)

    async def run(self) -> None:
        """Verify addresses until cancelled."""
        await self.loop.run()

    async def _due(self) -> Sequence[Any]:
        return await self.processor.store.read(lambda c: c.execute(_DUE, {"now": clock.unix()}).all())

    async def _claimed(self, row: Any) -> None:
        now = clock.unix()
        values = {"c": row.command_id, "later": now + LEASE_S, "now": now}
        if await self.processor.store.transact(lambda c: c.execute(_CLAIM, values).rowcount):
            await self._verify(row)

    async def _later(self, row: Any) -> None:
        """The lease of the row is its pause."""

    async def _verify(self, row: Any) -> None:
        code, message = await challenge(self.probe, row.url)
        event = WebhookDecided(
            event_id=derived(row.command_id, "decided"), command_id=row.command_id, endpoint_id=row.endpoint_id,
            tenant_id=row.tenant_id, ok=code is None, code=code, message=message, occurred_at=clock.now(),
        )  # fmt: skip

        def save(unit: Unit) -> None:
            if code is None:
                save_endpoint(unit.connection, row, unit.now)
            unit.connection.execute(_DONE, {"c": row.command_id})
            unit.emit(WEBHOOK_ANSWERS_TOPIC.name, event, None)

        await self.processor.run_unit(save)
