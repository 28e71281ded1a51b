"""What the notifier needs from the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.notifier.core.delivery import Result, Verdict


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint, leased for attempt number `attempt` (from 1)."""

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
    """Time at which the attempt became due, in Unix seconds."""
    leased_until: float = 0.0
    """End of the lease, in Unix seconds. It tells this lease from a later one."""
    former_secrets: tuple[str, ...] = ()
    """The secrets before rotations, while receivers may still have them."""
    replayed: int = 0
    """Attempts before the last replay."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A finished attempt, its result, and the verdict on it. `started` is in Unix seconds."""

    id: str
    delivery: Delivery
    result: Result
    verdict: Verdict
    started: float


class WebhookProbe(Protocol):
    """Sends the verification challenge to an address."""

    async def ask(self, url: str, body: bytes) -> Result:
        """POST JSON. The result's `detail` is the response body, at most 1,000 characters. Network errors are results."""
        ...


class Sender(Protocol):
    """Sends one attempt. It makes no decision."""

    async def send(self, delivery: Delivery, timestamp: int) -> Result:
        """POST the signed body. `timestamp` is in Unix seconds. Errors of the receiver or the network are results."""
        ...
