"""Checks of a webhook's address, filters and receiver before something is stored."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException

from contracts.event_names import fault_in
from contracts.identity import derived
from services.notifier.adapters.challenge import challenge
from services.notifier.adapters.http import NotifierState
from services.notifier.core.delivery import Result
from services.notifier.core.secrets import former_secrets
from services.notifier.ports import Delivery
from shared import clock
from shared.net.address_guard import AddressRefused, check_url

TEST = "webhook.test"
"""The `type` of a test's event."""


async def refuse_unusable(state: NotifierState, url: str, challenged: bool) -> None:
    """Raises 400 for an address that is refused, and 422 for one that is `challenged` and does not answer."""
    try:
        check_url(url, state.settings.trusted)
    except AddressRefused as error:
        raise HTTPException(400, f"{error}. {_HOW}") from None
    if challenged:
        code, message = await challenge(state.probe, url)
        if code is not None:
            raise HTTPException(422, f"url: {message} It must answer a request of type `url_verification` with its `challenge`.")


_HOW = (
    "A receiver on this machine needs `stageline up --allow-loopback`; one in your own network needs its network in "
    "STAGELINE_TRUSTED_NETWORKS."
)


def refuse_unmatched(events: list[str]) -> None:
    """Raises 400 for a filter that matches no event."""
    fault = fault_in(events)
    if fault is not None:
        raise HTTPException(400, f"events: {fault}")


async def send_test_event(state: NotifierState, row: Any, event_id: str) -> dict[str, Any]:
    """Send the test's event; returns its line of the log."""
    at = clock.now()
    event = {"type": TEST, "event_id": event_id, "webhook_id": row.id, "tenant_id": row.tenant_id, "occurred_at": at.isoformat()}
    old = tuple(secret for secret, _ in former_secrets(row.former_secrets, at.timestamp()))
    delivery = Delivery(
        row.id, event_id, row.tenant_id, TEST, None, json.dumps(event).encode(), None, 1, row.url, row.secret, former_secrets=old
    )
    result = await state.sender.send(delivery, int(at.timestamp()))
    outcome = "delivered" if _is_taken(result) else "failed"
    return {
        "id": derived(row.id, event_id, 1), "endpoint_id": row.id, "event_id": event_id, "event_type": TEST, "job_id": None,
        "attempt": 1, "attempted_at": at.timestamp(), "outcome": outcome, "status_code": result.status_code,
        "error": result.error or (None if outcome == "delivered" else "http_status"), "detail": result.detail,
        "duration_ms": result.duration_ms, "next_attempt_at": None,
    }  # fmt: skip


def _is_taken(result: Result) -> bool:
    return result.status_code is not None and 200 <= result.status_code < 300
