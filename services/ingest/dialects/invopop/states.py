"""Invopop's dialect: the states of an entry, labels that workflows and clients set (reference/vendor-apis.md §2.9)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from contracts import derived
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.erasures import lock_entry
from services.ingest.core.job_view import text as shown_time
from services.ingest.dialects.invopop import store
from services.ingest.dialects.invopop.ids import Id
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.errors import ApiError, Unprocessable
from shared import clock
from shared.web.api_keys import Principal

router = APIRouter(prefix="/silo/v1", tags=["Invopop"], max_body_size=1 << 20)
Record = dict[str, Any]
MOST = 1000


class NewState(BaseModel):
    """A state of an entry."""

    key: str = Field(min_length=1, max_length=100)
    notes: str | None = Field(default=None, max_length=1000)
    meta: dict[str, str] | None = Field(default=None, max_length=50)


@router.get("/entries/{entry_id}/states", summary="An entry's states")
async def states(entry_id: Id, gateway: GatewayDep, who: Reader) -> Record:
    """All states, oldest first."""
    found = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, "id", entry_id))
    if found is None:
        raise ApiError(404, f"There is no entry with the id {entry_id}.")
    return {"list": [_shown(entry_id, state) for state in found["states"]]}


@router.post("/entries/{entry_id}/states", summary="Set an entry's state")
async def post_state(entry_id: Id, gateway: GatewayDep, who: Writer, body: Annotated[NewState, Body()]) -> Record:
    """`Empty` and `Invalid` are set by the silo itself."""
    return await _label(gateway, who, entry_id, shown_time(clock.now()), body)


@router.put("/entries/{entry_id}/states/{at}", summary="Set an entry's state once")
async def put_state(
    entry_id: Id, at: Annotated[str, Path(max_length=40)], gateway: GatewayDep, who: Writer, body: Annotated[NewState, Body()]
) -> Record:
    """The time identifies the state: repeating the call changes nothing; another key for the same time is 409."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise Unprocessable({"at": "must be a time as in RFC 3339"}) from None
    if moment.tzinfo is None:
        raise Unprocessable({"at": "must name its time zone"})
    return await _label(gateway, who, entry_id, shown_time(moment.astimezone(clock.now().tzinfo)), body)


async def _label(gateway: Gateway, who: Principal, entry_id: str, at: str, body: NewState) -> Record:
    if body.key in ("Empty", "Invalid"):
        raise Unprocessable({"key": "is set by the silo itself"})

    def work(c: Connection) -> Record:
        lock_entry(c, who.tenant_id, entry_id)
        entry = store.entry_by(c, who.tenant_id, "id", entry_id)
        if entry is None:
            raise ApiError(404, f"There is no entry with the id {entry_id}.")
        same: Record | None = next((s for s in entry["states"] if s["at"] == at), None)
        if same is not None and same["key"] != body.key:
            raise ApiError(409, "There is another state with this time.", "at", code="conflict")
        if same is None:
            same = {"at": at, **body.model_dump(exclude_none=True)}
            listed = sorted([*entry["states"], same], key=lambda s: str(s["at"]))[-MOST:]
            store.save_entry(c, who.tenant_id, {**entry, "states": listed, "state": listed[-1]["key"]})
        return same

    return _shown(entry_id, await gateway.store.transact(work))


def _shown(entry_id: str, state: Record) -> Record:
    return {"id": derived(entry_id, state["at"], "state"), "created_at": state["at"], **state}
