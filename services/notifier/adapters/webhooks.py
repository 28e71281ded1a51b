"""HTTP routes of webhook endpoints."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from contracts.event_names import fault_in
from contracts.identity import derived, plain_id
from services.notifier.adapters import endpoints as ep
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.delivery_queue import secret_before
from services.notifier.adapters.http import NotifierState, Reader, StateDep, Writer
from services.notifier.core.delivery import Result
from services.notifier.core.shapes import Shape
from services.notifier.core.signature import new_secret
from services.notifier.ports import Delivery
from services.notifier.registration import challenge
from shared import clock
from shared.net.address_guard import AddressRefused, check_url
from shared.web.api_keys import Principal

router = APIRouter(tags=["Webhooks"])
TEST = "webhook.test"
"""The `type` of a test's event."""
Pattern = Annotated[str, Field(min_length=1, max_length=100)]
Events = Annotated[list[Pattern], Field(max_length=100, description="Names or patterns such as `job.*`; empty means all events")]
Url = Annotated[str, Field(max_length=2048, examples=["https://example.com/hooks/stageline"])]
Description = Annotated[str, Field(max_length=500)]
PlainId = Annotated[str, Field(max_length=200), AfterValidator(plain_id)]
Outcome = Literal["delivered", "retrying", "exhausted", "refused", "disabled", "failed"]


class NewEndpoint(BaseModel):
    """A webhook endpoint."""

    url: Url
    events: Events = []
    description: Description = ""


class EndpointChange(BaseModel):
    """What changes; the rest stays."""

    model_config = ConfigDict(extra="forbid")
    url: Url | None = None
    events: Events | None = None
    description: Description | None = None


class Rotation(BaseModel):
    """For how long the former secret signs beside the new one, in seconds."""

    model_config = ConfigDict(extra="forbid")
    overlap_s: float = Field(default=ep.OVERLAP_S, ge=0, le=30 * 86_400)


class Reason(BaseModel):
    """Why somebody acts."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(default="", max_length=300)


class Replay(BaseModel):
    """Which deliveries are sent again: one event's, a job's, those that arrived from `since` until `until`, or with `failed` those that were
    given up. At least one is needed; several are combined."""

    model_config = ConfigDict(extra="forbid")
    event_id: PlainId | None = None
    job_id: PlainId | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    failed: bool = False


@router.post("/v1/webhooks", status_code=201, summary="Register an endpoint")
async def add_endpoint(state: StateDep, who: Writer, body: Annotated[NewEndpoint, Body()]) -> dict[str, Any]:
    """Returns the signing secret (Standard Webhooks). It is shown only once."""
    await _usable(state, body.url)
    _known(body.events)
    row = {
        "id": clock.new_root(), "tenant_id": who.tenant_id, "url": body.url, "secret": new_secret(secrets.token_bytes(32)),
        "events": json.dumps(body.events), "description": body.description, "created_at": clock.unix(),
        "disabled_reason": None, "failing_since": None, "shape": Shape.TYPED.value,
    }  # fmt: skip
    await state.store.transact(lambda c: c.execute(db.EndpointRow.__table__.insert(), row) and None)  # type: ignore[attr-defined]
    return {"id": row["id"], "url": body.url, "events": body.events, "secret": row["secret"]}


async def _usable(state: NotifierState, url: str) -> None:
    """Raises 400 for an address that is refused, or that fails its challenge where `STAGELINE_WEBHOOK_CHALLENGE` asks for one."""
    try:
        check_url(url, state.settings.trusted)
    except AddressRefused as error:
        raise HTTPException(400, f"url: {error}. {_HOW}") from None
    if state.settings.webhook_challenge:
        code, message = await challenge(state.probe, url)
        if code is not None:
            raise HTTPException(400, f"url: {message}")


_HOW = (
    "A receiver on this machine needs `stageline up --allow-loopback`; one in your own network needs its network in "
    "STAGELINE_TRUSTED_NETWORKS."
)


def _known(events: list[str]) -> None:
    fault = fault_in(events)
    if fault is not None:
        raise HTTPException(400, f"events: {fault}")


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id, "url": row.url, "events": json.loads(row.events), "description": row.description,
        "created_at": row.created_at, "state": "disabled" if row.disabled_reason else "active",
        "disabled_reason": row.disabled_reason, "failing_since": row.failing_since, "shape": row.shape or Shape.TYPED.value,
        "former_secret_until": row.former_until if secret_before(row, clock.unix()) else None,
    }  # fmt: skip


@router.get("/v1/webhooks", summary="Endpoints")
async def list_endpoints(state: StateDep, who: Reader) -> dict[str, Any]:
    """The tenant's endpoints, without their secrets. `shape` is `typed`, or `alfred` or `alfred-flat` for the one of
    `POST /api/account/webhook`."""
    rows = await state.store.read(lambda c: ep.of_tenant(c, who.tenant_id))
    return {"result": [_shown(row) for row in rows]}


async def _own(state: NotifierState, endpoint_id: str, who: Principal) -> Any:
    row = await state.store.read(lambda c: ep.find(c, endpoint_id, who.tenant_id))
    if row is None:
        raise HTTPException(404, f"Webhook with ID {endpoint_id} does not exist.")
    return row


@router.get("/v1/webhooks/{endpoint_id}", summary="An endpoint and the state of its deliveries")
async def show_endpoint(endpoint_id: str, state: StateDep, who: Reader) -> dict[str, Any]:
    """The endpoint, with the number of its deliveries by state, its next attempt, its last success and its last failure."""
    row = await _own(state, endpoint_id, who)
    return _shown(row) | await state.store.read(lambda c: ep.state_of_deliveries(c, endpoint_id))


@router.patch("/v1/webhooks/{endpoint_id}", summary="Change an endpoint")
async def change_endpoint(
    endpoint_id: str, state: StateDep, who: Writer, body: Annotated[EndpointChange, Body()]
) -> dict[str, Any]:
    """Its id, secret and log stay. Deliveries that wait go to the new address; which events it gets changes for those to come."""
    row = await _own(state, endpoint_id, who)
    if body.url is not None and body.url != row.url:
        await _usable(state, body.url)
    _known(body.events or [])
    url, events = body.url or row.url, json.loads(row.events) if body.events is None else body.events
    description = row.description if body.description is None else body.description
    await state.store.transact(lambda c: ep.change(c, endpoint_id, url, events, description))
    return _shown(await _own(state, endpoint_id, who))


@router.delete("/v1/webhooks/{endpoint_id}", status_code=204, summary="Delete an endpoint")
async def delete_endpoint(endpoint_id: str, state: StateDep, who: Writer) -> None:
    """Deletes the endpoint, its due deliveries and its log."""
    await _own(state, endpoint_id, who)
    await state.store.transact(lambda c: ep.delete(c, endpoint_id))


@router.post("/v1/webhooks/{endpoint_id}/rotate", summary="Give an endpoint a new secret")
async def rotate_secret(
    endpoint_id: str, state: StateDep, who: Writer, body: Annotated[Rotation | None, Body()] = None
) -> dict[str, Any]:
    """Returns the new secret, once. Until `former_secret_until` each request is signed with both, so that receivers can change over."""
    await _own(state, endpoint_id, who)
    secret, until = new_secret(secrets.token_bytes(32)), clock.unix() + (body or Rotation()).overlap_s
    await state.store.transact(lambda c: ep.rotate(c, endpoint_id, secret, until))
    return {"id": endpoint_id, "secret": secret, "former_secret_until": until}


@router.post("/v1/webhooks/{endpoint_id}/disable", summary="Disable an endpoint")
async def disable_endpoint(
    endpoint_id: str, state: StateDep, who: Writer, body: Annotated[Reason | None, Body()] = None
) -> dict[str, Any]:
    """Its deliveries are held until it is enabled."""
    await _own(state, endpoint_id, who)
    given = (body or Reason()).reason
    reason = f"disabled by {who.tenancy.user_name}{f': {given}' if given else ''}"
    await state.processor.run_unit(lambda unit: db.disable(unit.connection, endpoint_id, reason))
    return _shown(await _own(state, endpoint_id, who))


@router.post("/v1/webhooks/{endpoint_id}/enable", summary="Enable an endpoint and send the suppressed deliveries")
async def enable_endpoint(endpoint_id: str, state: StateDep, who: Writer) -> dict[str, int]:
    """Returns the number of suppressed deliveries that are due now."""
    await _own(state, endpoint_id, who)
    return {"due": await state.processor.run_unit(lambda unit: db.enable(unit.connection, endpoint_id, unit.now))}


@router.post("/v1/webhooks/{endpoint_id}/replay", summary="Send deliveries again")
async def replay_deliveries(endpoint_id: str, state: StateDep, who: Writer, body: Annotated[Replay, Body()]) -> dict[str, int]:
    """Returns how many are sent again, under their `webhook-id` of before, with all attempts. Those that are under way, due or held are
    sent anyway and are not counted. Events from before the endpoint are in the event stream alone."""
    row = await _own(state, endpoint_id, who)
    given = body.model_dump(exclude={"failed"}, exclude_none=True)
    which = {name: value.timestamp() if isinstance(value, datetime) else value for name, value in given.items()}
    if not which and not body.failed:
        raise HTTPException(400, "one of event_id, job_id, since, until and failed is needed")
    return {"due": await state.processor.run_unit(lambda unit: ep.replay(unit.connection, row, which, body.failed, unit.now))}


@router.post("/v1/webhooks/{endpoint_id}/test", summary="Send a test event now")
async def send_test(endpoint_id: str, state: StateDep, who: Writer) -> dict[str, Any]:
    """One signed request with an event of type `webhook.test`, also to a disabled endpoint. Returns the receiver's answer, which the log
    has too. It is not repeated."""
    row, at = await _own(state, endpoint_id, who), clock.now()
    event_id = clock.new_root()
    event = {
        "type": TEST,
        "event_id": event_id,
        "webhook_id": endpoint_id,
        "tenant_id": who.tenant_id,
        "occurred_at": at.isoformat(),
    }
    former = secret_before(row, at.timestamp())
    delivery = Delivery(
        endpoint_id, event_id, who.tenant_id, TEST, None, json.dumps(event).encode(), None, 1, row.url, row.secret, former_secret=former,
    )  # fmt: skip
    result = await state.sender.send(delivery, int(at.timestamp()))
    outcome = "delivered" if _taken(result) else "failed"
    entry = {
        "id": derived(endpoint_id, event_id, 1), "endpoint_id": endpoint_id, "event_id": event_id, "event_type": TEST, "job_id": None,
        "attempt": 1, "attempted_at": at.timestamp(), "outcome": outcome, "status_code": result.status_code,
        "error": result.error or (None if outcome == "delivered" else "http_status"), "detail": result.detail,
        "duration_ms": result.duration_ms, "next_attempt_at": None,
    }  # fmt: skip
    await state.store.transact(lambda c: ep.save_test(c, entry))
    return entry


def _taken(result: Result) -> bool:
    return result.status_code is not None and 200 <= result.status_code < 300


@router.get("/v1/webhooks/{endpoint_id}/log", summary="Delivery attempts")
async def attempt_log(
    endpoint_id: str,
    state: StateDep,
    who: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    outcome: Outcome | None = None,
    event_type: Annotated[str | None, Query(max_length=100)] = None,
    event_id: PlainId | None = None,
    job_id: PlainId | None = None,
    since: AwareDatetime | None = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this time; the oldest one shown, for the next page")] = None,
) -> dict[str, Any]:
    """Returns attempts, newest first, and the number of deliveries by state. Times are Unix seconds; `next_attempt_at` is null when there
    is no other attempt."""
    await _own(state, endpoint_id, who)
    given: dict[str, Any] = {
        "outcome": outcome, "event_type": event_type, "event_id": event_id, "job_id": job_id,
        "since": since and since.astimezone(UTC).timestamp(), "until": until and until.astimezone(UTC).timestamp(),
    }  # fmt: skip
    filters = {name: value for name, value in given.items() if value is not None}
    rows = await state.store.read(lambda c: ep.log(c, endpoint_id, filters, limit))
    counts = await state.store.read(lambda c: ep.state_of_deliveries(c, endpoint_id))
    return {"result": rows, "deliveries": counts["deliveries"]}
