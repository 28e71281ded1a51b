"""HTTP routes of webhook endpoints."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import AwareDatetime
from starlette.exceptions import HTTPException

from contracts.identity import derived
from services.notifier.adapters import endpoints as ep
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.acts import Answer, OperationDep, missing
from services.notifier.adapters.answers import (
    Attempt,
    AttemptLog,
    CreatedEndpoint,
    DueDeliveries,
    Endpoint,
    Endpoints,
    EndpointState,
    RotatedSecret,
)
from services.notifier.adapters.http import NotifierState, Reader, StateDep
from services.notifier.adapters.webhook_checks import refuse_unmatched, refuse_unusable, send_test_event
from services.notifier.adapters.webhook_requests import EndpointChange, NewEndpoint, Outcome, PlainId, Reason, Replay, Rotation
from services.notifier.core.secrets import former_secrets
from services.notifier.core.shapes import Shape
from services.notifier.core.signature import new_secret
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import Principal
from shared.web.openapi import answered

router = APIRouter(tags=["Webhooks"])


@router.post(
    "/v1/webhooks",
    status_code=201,
    summary="Register an endpoint",
    operation_id="createEndpoint",
    responses=answered(CreatedEndpoint, 201),
)
async def add_endpoint(state: StateDep, op: OperationDep, body: Annotated[NewEndpoint, Body()]) -> dict[str, Any]:
    """Returns the signing secret (Standard Webhooks). It is shown only once."""
    await refuse_unusable(state, body.url, state.settings.webhook_challenge)
    refuse_unmatched(body.events)
    endpoint_id = derived(op.command_id, "endpoint")

    def work(unit: Unit, _: Any) -> Answer:
        row = {
            "id": endpoint_id, "tenant_id": op.who.tenant_id, "url": body.url, "secret": new_secret(secrets.token_bytes(32)),
            "events": json.dumps(body.events), "description": body.description, "created_at": unit.now,
            "disabled_reason": None, "failing_since": None, "shape": Shape.TYPED.value, "former_secrets": None,
        }  # fmt: skip
        ep.add(unit.connection, row)
        return {"id": endpoint_id, "url": body.url, "events": body.events, "secret": row["secret"]}

    return await op.perform("add", endpoint_id, body, work, lambda made: f"events: {', '.join(body.events) or 'all'}", new=True)


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id, "url": row.url, "events": json.loads(row.events), "description": row.description,
        "created_at": row.created_at, "state": "disabled" if row.disabled_reason else "active",
        "disabled_reason": row.disabled_reason, "failing_since": row.failing_since, "shape": row.shape or Shape.TYPED.value,
        "former_secret_until": max((until for _, until in former_secrets(row.former_secrets, clock.unix())), default=None),
    }  # fmt: skip


@router.get("/v1/webhooks", summary="Endpoints", operation_id="listEndpoints", responses=answered(Endpoints))
async def list_endpoints(state: StateDep, who: Reader) -> dict[str, Any]:
    """The tenant's endpoints, without their secrets. `shape` is `typed`, or `alfred` or `alfred-flat` for the one of
    `POST /api/account/webhook`."""
    rows = await state.store.read(lambda c: ep.of_tenant(c, who.tenant_id))
    return {"result": [_shown(row) for row in rows]}


async def _own(state: NotifierState, endpoint_id: str, who: Principal) -> Any:
    row = await state.store.read(lambda c: ep.find(c, endpoint_id, who.tenant_id))
    if row is None:
        raise missing(endpoint_id)
    return row


@router.get(
    "/v1/webhooks/{endpoint_id}",
    summary="An endpoint and the state of its deliveries",
    operation_id="getEndpoint",
    responses=answered(EndpointState),
)
async def show_endpoint(endpoint_id: str, state: StateDep, who: Reader) -> dict[str, Any]:
    """The endpoint, with the number of its deliveries by state, its next attempt, its last success and its last failure."""
    row = await _own(state, endpoint_id, who)
    return _shown(row) | await state.store.read(lambda c: ep.state_of_deliveries(c, endpoint_id))


@router.patch(
    "/v1/webhooks/{endpoint_id}", summary="Change an endpoint", operation_id="changeEndpoint", responses=answered(Endpoint)
)
async def change_endpoint(
    endpoint_id: str, state: StateDep, op: OperationDep, body: Annotated[EndpointChange, Body()]
) -> dict[str, Any]:
    """Its id, secret and log stay. Deliveries that wait go to the new address; which events it gets changes for those to come."""
    row = await _own(state, endpoint_id, op.who)
    if body.url is not None and body.url != row.url:
        # The address of Alfred's clients is challenged whenever it changes, as at its registration.
        await refuse_unusable(state, body.url, state.settings.webhook_challenge or (row.shape or Shape.TYPED) != Shape.TYPED)
    refuse_unmatched(body.events or [])
    given = body.model_dump(exclude_none=True)

    def work(unit: Unit, row: Any) -> Answer:
        now = {"url": row.url, "events": json.loads(row.events), "description": row.description} | given
        ep.change(unit.connection, endpoint_id, now["url"], now["events"], now["description"])
        return _shown(ep.find(unit.connection, endpoint_id, op.who.tenant_id))

    return await op.perform("edit", endpoint_id, body, work, lambda made: f"changed: {', '.join(given)}")


@router.delete("/v1/webhooks/{endpoint_id}", status_code=204, summary="Delete an endpoint", operation_id="deleteEndpoint")
async def delete_endpoint(endpoint_id: str, op: OperationDep) -> None:
    """Deletes the endpoint, its due deliveries and its log."""

    def work(unit: Unit, row: Any) -> Answer:
        ep.delete(unit.connection, endpoint_id)
        return {}

    await op.perform("delete", endpoint_id, None, work)


@router.post(
    "/v1/webhooks/{endpoint_id}/rotate",
    summary="Give an endpoint a new secret",
    operation_id="rotateSecret",
    responses=answered(RotatedSecret),
)
async def rotate_secret(endpoint_id: str, op: OperationDep, body: Annotated[Rotation | None, Body()] = None) -> dict[str, Any]:
    """Returns the new secret, once. Until `former_secret_until` each request is signed with both, so that receivers can change over."""
    asked = body or Rotation()

    def work(unit: Unit, row: Any) -> Answer:
        secret, until = new_secret(secrets.token_bytes(32)), unit.now + asked.overlap_s
        ep.rotate(unit.connection, row, secret, until, unit.now)
        return {"id": endpoint_id, "secret": secret, "former_secret_until": until}

    return await op.perform(
        "rotate", endpoint_id, asked, work, lambda made: f"the former secret signs for {asked.overlap_s:.0f} s more"
    )


@router.post(
    "/v1/webhooks/{endpoint_id}/disable",
    summary="Disable an endpoint",
    operation_id="disableEndpoint",
    responses=answered(Endpoint),
)
async def disable_endpoint(endpoint_id: str, op: OperationDep, body: Annotated[Reason | None, Body()] = None) -> dict[str, Any]:
    """Its deliveries are held until it is enabled."""
    asked = body or Reason()
    reason = f"disabled by {op.who.tenancy.user_name}{f': {asked.reason}' if asked.reason else ''}"

    def work(unit: Unit, row: Any) -> Answer:
        db.disable(unit.connection, endpoint_id, reason)
        return _shown(ep.find(unit.connection, endpoint_id, op.who.tenant_id))

    return await op.perform("disable", endpoint_id, asked, work, reason=asked.reason)


@router.post(
    "/v1/webhooks/{endpoint_id}/enable",
    summary="Enable an endpoint and send the suppressed deliveries",
    operation_id="enableEndpoint",
    responses=answered(DueDeliveries),
)
async def enable_endpoint(endpoint_id: str, op: OperationDep, body: Annotated[Reason | None, Body()] = None) -> dict[str, Any]:
    """Returns the number of suppressed deliveries that are due now."""
    asked = body or Reason()

    def work(unit: Unit, row: Any) -> Answer:
        return {"due": db.enable(unit.connection, endpoint_id, unit.now)}

    return await op.perform(
        "enable", endpoint_id, asked, work, lambda made: f"{made['due']} held deliveries are due", reason=asked.reason
    )


@router.post(
    "/v1/webhooks/{endpoint_id}/replay",
    summary="Send deliveries again",
    operation_id="replayDeliveries",
    responses=answered(DueDeliveries),
)
async def replay_deliveries(endpoint_id: str, op: OperationDep, body: Annotated[Replay, Body()]) -> dict[str, Any]:
    """Returns how many are sent again, under their `webhook-id` of before, with all attempts. Those that are under way, due or held are
    sent anyway and are not counted. Events from before the endpoint are in the event stream alone."""
    given = body.model_dump(exclude={"failed", "reason"}, exclude_none=True)
    which = {name: value.timestamp() if isinstance(value, datetime) else value for name, value in given.items()}
    if not which and not body.failed:
        raise HTTPException(400, "one of event_id, job_id, since, until and failed is needed")

    def work(unit: Unit, row: Any) -> Answer:
        return {"due": ep.replay(unit.connection, row, which, body.failed, unit.now)}

    said = ", ".join([*(f"{name} {value}" for name, value in given.items()), *(["failed"] if body.failed else [])])
    return await op.perform(
        "replay", endpoint_id, body, work, lambda made: f"{made['due']} deliveries are sent again: {said}", reason=body.reason
    )


@router.post(
    "/v1/webhooks/{endpoint_id}/test", summary="Send a test event now", operation_id="sendTest", responses=answered(Attempt)
)
async def send_test(endpoint_id: str, state: StateDep, op: OperationDep) -> dict[str, Any]:
    """One signed request with an event of type `webhook.test`, also to a disabled endpoint. Returns the receiver's answer, which the log
    has too. It is not repeated."""
    earlier = await op.earlier("test", endpoint_id, None)
    if earlier is not None:
        return earlier
    entry = await send_test_event(state, await _own(state, endpoint_id, op.who), derived(op.command_id, "test"))

    def work(unit: Unit, row: Any) -> Answer:
        ep.save_test(unit.connection, entry)
        return entry

    return await op.perform(
        "test", endpoint_id, None, work, lambda made: f"{made['outcome']}: {made['status_code'] or made['error']}"
    )


@router.get(
    "/v1/webhooks/{endpoint_id}/log", summary="Delivery attempts", operation_id="getDeliveryLog", responses=answered(AttemptLog)
)
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
