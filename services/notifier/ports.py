"""What the notifier needs from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.notifier.core.delivery import Result, Verdict


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint, claimed for its next attempt (number `attempt`, from 1)."""

    endpoint_id: str
    event_id: str
    tenant_id: str
    event_type: str
    job_id: str | None
    body: bytes
    trace: str | None
    attempt: int
    url: str
    secret: str
    due_at: float = 0.0
    """When it fell due, Unix seconds."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try that was made: what came of it and what follows. `started` in Unix seconds."""

    id: str
    delivery: Delivery
    result: Result
    verdict: Verdict
    started: float


class WebhookProbe(Protocol):
    """Asks an address a question."""

    async def ask(self, url: str, body: bytes) -> Result:
        """POST JSON; `detail` of the result is what came back (at most 1,000 characters). Never raises for what the network does."""
        ...


class Sender(Protocol):
    """Makes one attempt; decides nothing."""

    async def send(self, delivery: Delivery, timestamp: int) -> Result:
        """POST the signed body. Never raises for what the receiver or the network does."""
        ...
