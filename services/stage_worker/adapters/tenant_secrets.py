"""Secrets of tenants in memory: kept sealed as `secret.events` has them, and opened for the one request that needs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

from contracts import SecretChanged
from contracts.identity import PLATFORM_TENANT
from contracts.parameters import origin_of
from contracts.secrecy import parse_reference
from contracts.topics import SECRETS_TOPIC
from services.stage_worker.core.document_fault import DocumentFault
from shared.processing.subscription import decode
from shared.secret_box import SecretBox

log = logging.getLogger(__name__)
ARRIVAL_S = 5.0
"""How long a task waits for a secret that this worker has not read: it may have been set a moment ago."""


class TenantSecrets:
    """`Secrets` from the topic. `box` is None without a key."""

    def __init__(self, box: SecretBox | None, arrival_s: float = ARRIVAL_S) -> None:
        self.box = box
        self.arrival_s = arrival_s
        self.known: dict[tuple[str, str], SecretChanged] = {}
        self._changed = asyncio.Event()

    async def on_records(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """`secret.events`: every worker reads all of them from the beginning."""
        good, bad = decode(records, {SECRETS_TOPIC.name: frozenset({SecretChanged.TYPE})})
        for item in good:
            with item.guard():
                if isinstance(item.message, SecretChanged):
                    self.apply(item.message)
        if bad:
            log.error("secrets cannot be read", extra={"count": len(bad)})

    def apply(self, event: SecretChanged) -> None:
        """Keep the newest state of a secret."""
        self.known[event.tenant_id, event.name] = event
        self._changed.set()
        self._changed = asyncio.Event()

    async def reveal(self, tenant: str, reference: str, url: str) -> str:
        name, of_platform = parse_reference(reference)
        owner = PLATFORM_TENANT if of_platform else tenant
        event = await self._find(owner, name)
        if event is None or event.sealed is None:
            raise DocumentFault("secret_unknown", f"There is no secret {name}: set it with `stageline secrets set {name}`.", True)
        if event.origins and origin_of(url) not in event.origins:
            raise DocumentFault("secret_refused", f"Secret {name} may not be sent to this address.")
        if self.box is None:
            raise DocumentFault("not_configured", "This worker has no key for secrets: set STAGELINE_SECRETS_KEY_FILE.")
        try:
            return self.box.reveal(owner, name, event.origins, event.sealed)
        except ValueError as error:
            raise DocumentFault("not_configured", f"{error}: set the secret again.") from None

    async def _find(self, owner: str, name: str) -> SecretChanged | None:
        try:
            async with asyncio.timeout(self.arrival_s):
                while (owner, name) not in self.known:
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self.known[owner, name]
