"""Verifies webhook addresses that were registered at the gateway: nothing is sent before the challenge is answered."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from typing import Any

from sqlalchemy import Connection, text

from contracts import RegisterWebhook, WebhookDecided, derived
from contracts.topics import WEBHOOK_ANSWERS_TOPIC
from services.notifier.core.delivery import Result
from services.notifier.core.signature import new_secret
from services.notifier.ports import WebhookProbe
from shared import clock
from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
LEASE_S = 60.0
"""Lease of a pending verification: after a crash it is repeated this much later."""
ALFRED = json.dumps(["job.*", "file.*"])
"""The events that the vendor's clients handle."""
_ENTER = text(
    "INSERT INTO webhook_pending (command_id, endpoint_id, tenant_id, url, due_at) VALUES (:c, :e, :t, :u, :at) ON CONFLICT DO NOTHING"
)
_DUE = text("SELECT * FROM webhook_pending WHERE due_at <= :now ORDER BY due_at LIMIT 1")
_CLAIM = text("UPDATE webhook_pending SET due_at = :later WHERE command_id = :c AND due_at <= :now")
_DONE = text("DELETE FROM webhook_pending WHERE command_id = :c")
_ENDPOINT = text(
    "INSERT INTO endpoint (id, tenant_id, url, secret, events, description, created_at) VALUES (:e, :t, :u, :s, :f, :d, :at) "
    "ON CONFLICT (id) DO UPDATE SET url = excluded.url, disabled_reason = NULL, failing_since = NULL"
)


def add_pending(connection: Connection, command: RegisterWebhook, now: float) -> None:
    """Store an address for verification. A repeated command changes nothing. `now` is in Unix seconds."""
    values = {"c": command.command_id, "e": command.endpoint_id, "t": command.tenant, "u": command.url, "at": now}
    connection.execute(_ENTER, values)


class WebhookVerifier:
    """Verifies pending addresses one after the other. Pending work is stored in the database."""

    def __init__(self, processor: BatchProcessor, probe: WebhookProbe) -> None:
        self.processor = processor
        self.probe = probe
        self.wake = asyncio.Event()
        processor.after_commit.append(self.wake.set)

    async def run(self) -> None:
        """Verify addresses until cancelled."""
        while True:
            self.wake.clear()
            try:
                row = await self._claim()
                if row is not None:
                    await self._verify(row)
                    continue
            except Retry as error:
                log.warning("webhook verification will be retried", extra={"code": error.code, "reason": str(error)})
            try:
                await asyncio.wait_for(self.wake.wait(), LEASE_S)
            except TimeoutError:
                continue

    async def _claim(self) -> Any:
        now = clock.unix()
        row = await self.processor.store.read(lambda c: c.execute(_DUE, {"now": now}).first())
        if row is None:
            return None
        values = {"c": row.command_id, "later": now + LEASE_S, "now": now}
        return row if await self.processor.store.transact(lambda c: c.execute(_CLAIM, values).rowcount) else None

    async def _verify(self, row: Any) -> None:
        challenge = secrets.token_urlsafe(24)
        body = {"token": secrets.token_urlsafe(16), "challenge": challenge, "type": "url_verification"}
        result = await self.probe.ask(row.url, json.dumps(body).encode())
        code, message = judge(result, challenge)
        event = WebhookDecided(
            event_id=derived(row.command_id, "decided"), command_id=row.command_id, endpoint_id=row.endpoint_id,
            tenant_id=row.tenant_id, ok=code is None, code=code, message=message, occurred_at=clock.now(),
        )  # fmt: skip

        def save(unit: Unit) -> None:
            if code is None:
                values = {
                    "e": row.endpoint_id,
                    "t": row.tenant_id,
                    "u": row.url,
                    "s": new_secret(secrets.token_bytes(32)),
                    "f": ALFRED,
                }
                unit.connection.execute(_ENDPOINT, {**values, "d": "registered at the gateway", "at": unit.now})
            unit.connection.execute(_DONE, {"c": row.command_id})
            unit.emit(WEBHOOK_ANSWERS_TOPIC.name, event, None)

        await self.processor.run_unit(save)


def judge(result: Result, challenge: str) -> tuple[str | None, str | None]:
    """(None, None) when the response holds the challenge, plain or as JSON `{"challenge": …}`; else an error code and a sentence."""
    if result.error is not None:
        return result.error, f"The address could not be reached: {result.detail or result.error}"[:1000]
    if result.status_code is None or not 200 <= result.status_code < 300:
        return "challenge_failed", f"The address answered the challenge with {result.status_code}."
    answer = (result.detail or "").strip()
    try:
        value = json.loads(answer)
        answer = str(value.get("challenge", "")) if isinstance(value, dict) else str(value)
    except (ValueError, RecursionError):
        pass
    if hmac.compare_digest(answer.encode("utf-8", "replace"), challenge.encode()):
        return None, None
    return "challenge_failed", "The address did not answer with the challenge."
