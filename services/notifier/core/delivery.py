"""Rules for deliveries: which endpoints an event goes to, what a result means, when to retry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Literal

from contracts.identity import derived

# Standard Webhooks' example schedule: ten attempts over 75 h 35 min (reference/notifier-and-documents.md §1.2).
SCHEDULE_S: tuple[float, ...] = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
DISABLE_AFTER_S = 5 * 86_400.0
"""An endpoint that has failed for this long is disabled when a delivery is exhausted."""
RETRY_AFTER_MAX_S = 3600.0
"""Longest delay that a receiver may ask for, where the schedule's own delay is not longer."""


class DeliveryState(StrEnum):
    """`pending` and `retrying` have a due time and `in_flight` has a lease; the others are final."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    REFUSED = "refused"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one attempt. `error` is a class of failure, or None for an HTTP response."""

    status_code: int | None = None
    error: str | None = None
    detail: str | None = None
    retry_after_s: float | None = None
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The delivery's new state, its next due time in Unix seconds, and the reason to disable the endpoint, if any."""

    state: DeliveryState
    outcome: Literal["delivered", "retrying", "exhausted", "refused", "disabled"]
    due_at: float | None = None
    disable: str | None = None
    error: str | None = None


def judge(
    result: Result,
    attempt: int,
    now: float,
    seed: str,
    failing_since: float | None,
    schedule: Sequence[float] = SCHEDULE_S,
) -> Verdict:
    """The verdict on attempt number `attempt` (from 1).

    `failing_since` is the endpoint's first failure after its last success, and `now` the present, both in Unix seconds.
    """
    code = result.status_code
    if code is not None and 200 <= code < 300:
        return Verdict(DeliveryState.DELIVERED, "delivered")
    error = result.error or "http_status"
    if result.error == "ssrf_refused":
        return Verdict(
            DeliveryState.REFUSED,
            "refused",
            disable=f"the address is refused: {result.detail}; STAGELINE_TRUSTED_NETWORKS lists what is allowed",
            error=error,
        )
    if code == 410:
        # The receiver did not take it. It waits with the endpoint's other deliveries until the endpoint is enabled again.
        return Verdict(DeliveryState.SUPPRESSED, "disabled", disable="the receiver answered 410 Gone", error=error)
    if attempt >= len(schedule):
        long = failing_since is not None and now - failing_since >= DISABLE_AFTER_S
        reason = f"nothing was taken for {(now - (failing_since or now)) / 86_400:.0f} days" if long else None
        return Verdict(DeliveryState.EXHAUSTED, "exhausted", disable=reason, error=error)
    return Verdict(DeliveryState.RETRYING, "retrying", due_at=now + delay_s(schedule[attempt], result, seed), error=error)


def delay_s(planned: float, result: Result, seed: str) -> float:
    """Seconds until the next attempt: the planned delay ±20 %, at least a minute after 429 or a timeout.

    Retry-After makes it longer, up to twice that delay or `RETRY_AFTER_MAX_S`, whichever is longer.
    """
    fraction = int(derived(seed, "jitter")[:8], 16) / 0xFFFFFFFF
    delay = planned * (1 + JITTER * (2 * fraction - 1))
    if planned >= 60 and (result.status_code == 429 or result.error == "timeout"):
        delay = max(delay, 60.0)
    if result.retry_after_s is not None:
        delay = max(delay, min(result.retry_after_s, max(2 * delay, RETRY_AFTER_MAX_S)))
    return delay


def retry_after_s(value: str, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110 §10.2.3): a number, or an HTTP date; `now` is in Unix seconds.

    None when the header is missing or neither of them; 0 for a date that has passed.
    """
    found = value.strip()
    if found.isascii() and found.isdigit():
        return float(found[:12])
    try:
        at = parsedate_to_datetime(found)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(0.0, at.timestamp() - now)
    except (ValueError, OverflowError, IndexError):
        return None
