"""Invopop's dialect: entries of the silo, as far as jobs need them (reference/vendor-apis.md §2.9)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import Connection

from contracts.loose import check_json
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import reservations
from services.ingest.adapters.store.audit import add_audit
from services.ingest.adapters.store.erasures import erase_entry, lock_entry
from services.ingest.core.fields import Flag
from services.ingest.core.job_filter import decode_cursor, encode_cursor
from services.ingest.core.job_view import text as shown_time
from services.ingest.core.json_patch import BadPatch
from services.ingest.dialects.invopop import documents, store
from services.ingest.dialects.invopop.ids import Id, Reference
from services.ingest.dialects.invopop.links import links_for
from services.ingest.dialects.invopop.times import moment
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.errors import ApiError, Unprocessable
from shared import clock
from shared.web.api_keys import Principal

MOST_BYTES = 8 << 20
"""Bytes of a document, also after patches."""
by_key = APIRouter(prefix="/silo/v1", tags=["Invopop"])
"""To be asked first: a key may look like the rest of another path."""
router = APIRouter(prefix="/silo/v1", tags=["Invopop"], max_body_size=MOST_BYTES)
Record = dict[str, Any]
ABSENT = {"sign": "documents are not signed here", "correct": "documents are not corrected here"}
"""Fields that ask for GOBL. They are refused, so that no caller believes they had an effect."""


class ChangedEntry(BaseModel):
    """A document, or a patch of one, and its folder."""

    model_config = ConfigDict(extra="ignore")

    folder: str | None = Field(default=None, max_length=100)
    content_type: str | None = Field(
        default=None, max_length=100, description="Of `data`: a document, a merge patch (RFC 7396) or a JSON patch (RFC 6902)"
    )
    data: Any = None
    sign: Flag | None = None

    @field_validator("data")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        check_json(value)
        return value


class NewEntry(ChangedEntry):
    """A document with its key, folder, tags and metadata; `previous_id` names an entry whose document is copied."""

    key: str | None = Field(default=None, min_length=1, max_length=200)
    previous_id: Reference | None = None
    correct: dict[str, Any] | None = None
    tags: list[Annotated[str, Field(max_length=100)]] | None = Field(default=None, max_length=50)
    meta: list[dict[str, Any]] | None = Field(default=None, max_length=50)

    @field_validator("meta")
    @classmethod
    def _meta_is_json(cls, value: Any) -> Any:
        check_json(value)
        return value


def new_entry(entry_id: str, fields: Record, now: datetime) -> Record:
    """The first version of an entry. Its state is `Empty` without a document, else `Draft`."""
    data, at = fields.get("data"), shown_time(now)
    state = "Empty" if data is None else "Draft"
    return {
        "id": entry_id, "created_at": at, "updated_at": at, "key": fields.get("key"), "folder": fields.get("folder"), "state": state,
        "faults": [], "invalid": False, **documents.facts(data, at), "tags": fields.get("tags") or documents.header_tags(data),
        "meta": fields.get("meta") or [], "data": data, "states": [{"at": at, "key": state}],
    }  # fmt: skip


async def _enter(gateway: Gateway, who: Principal, entry_id: str, body: NewEntry) -> Record:
    _refuse_absent(body)
    old = None
    if body.previous_id is not None:
        previous = body.previous_id
        copied = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, "id", previous))
        if copied is None:
            raise Unprocessable({"previous_id": "there is no such entry"})
        old = copied.get("data")
    fields = body.model_dump(exclude={"content_type", "previous_id", "correct", "sign"})
    made = new_entry(entry_id, {**fields, "data": _document(old, body)}, clock.now())
    size = len(json.dumps(made))
    caps = await gateway.limits.quotas(who.tenant_id)

    def enter(c: Connection) -> bool:
        # One transaction: nothing is reserved for an entry that is there.
        if not store.enter_entry(c, who.tenant_id, made, clock.unix()):
            return False
        reservations.take(c, who.tenant_id, caps, 1, size, clock.unix())
        return True

    if not await gateway.store.transact(enter):
        raise ApiError(409, "The id or the key is used by another entry.", "key" if body.key else "id", code="conflict")
    return await entry_of(gateway, who, "id", entry_id)


def _refuse_absent(body: ChangedEntry) -> None:
    asked = {name: why for name, why in ABSENT.items() if getattr(body, name, None)}
    if asked:
        raise Unprocessable(asked)


def _document(old: Any, body: ChangedEntry) -> Any:
    """The document after the request; `old` where it brings none. Raises 422."""
    if body.data is None:
        return old
    try:
        made = documents.changed(old, body.content_type, body.data)
        check_json(made)
    except BadPatch as error:
        named = str(error).startswith("content_type: ")
        raise Unprocessable({"content_type" if named else "data": str(error).removeprefix("content_type: ")}) from None
    except ValueError as error:
        raise Unprocessable({"data": str(error)}) from None
    if len(json.dumps(made)) > MOST_BYTES:
        raise Unprocessable({"data": f"more than {MOST_BYTES} bytes of JSON"})
    return made


async def entry_of(gateway: Gateway, who: Principal, column: str, value: str) -> Record:
    """The tenant's entry by its `id` or `key`, with its files. Raises 404."""
    found = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, column, value))
    if found is None:
        raise ApiError(404, f"There is no entry with the {column} {value[:200]}.")
    links = await links_for(gateway, who)
    return {**documents.shown_entry(found), "attachments": links.files(found["id"], found["attachments"])}


@router.put("/entries/{entry_id}", summary="Create an entry under your own id")
async def put_entry(entry_id: Id, gateway: GatewayDep, who: Writer, body: Annotated[NewEntry, Body()]) -> Record:
    """409 when the id or the key is in use."""
    return await _enter(gateway, who, entry_id, body)


@router.post("/entries", summary="Create an entry")
async def post_entry(gateway: GatewayDep, who: Writer, body: Annotated[NewEntry, Body()]) -> Record:
    """409 when the key is in use."""
    return await _enter(gateway, who, clock.new_root(), body)


@router.patch("/entries/{entry_id}", summary="Change an entry")
async def patch_entry(entry_id: Id, gateway: GatewayDep, who: Writer, body: Annotated[ChangedEntry, Body()]) -> Record:
    """Replaces the document, or patches it as `content_type` says, and moves the entry into `folder`. What is not given stays. A signed
    document cannot be changed (422). Jobs keep the document that they were made with."""
    _refuse_absent(body)
    caps = await gateway.limits.quotas(who.tenant_id)

    def work(c: Connection) -> None:
        lock_entry(c, who.tenant_id, entry_id)
        entry = store.entry_by(c, who.tenant_id, "id", entry_id)
        if entry is None:
            raise ApiError(404, f"There is no entry with the id {entry_id}.")
        made = _changed(entry, body)
        grown = len(json.dumps(made)) - len(json.dumps(entry))
        if grown > 0:
            reservations.take(c, who.tenant_id, caps, 0, grown, clock.unix())
        store.save_entry(c, who.tenant_id, made)

    await gateway.store.transact(work)
    return await entry_of(gateway, who, "id", entry_id)


def _changed(entry: Record, body: ChangedEntry) -> Record:
    if body.data is not None and entry.get("signed"):
        raise Unprocessable({"data": "the document is signed"})
    at = shown_time(clock.now())
    made = {**entry, "updated_at": at, "folder": body.folder if body.folder is not None else entry.get("folder")}
    if body.data is None:
        return made
    data = _document(entry.get("data"), body)
    made |= {**dict.fromkeys(documents.FACTS), **documents.facts(data, at), "data": data}
    if entry["state"] == "Empty":
        made |= {"state": "Draft", "states": [*entry["states"], {"at": at, "key": "Draft"}]}
    return made


@by_key.get("/entries/key/{key:path}", summary="An entry by its key")
async def entry_by_key(key: str, gateway: GatewayDep, who: Reader) -> Record:
    """The entry with its files. The key may have slashes."""
    return await entry_of(gateway, who, "key", key)


@router.get("/entries/{entry_id}", summary="An entry")
async def get_entry(entry_id: Id, gateway: GatewayDep, who: Reader) -> Record:
    """The entry with its files."""
    return await entry_of(gateway, who, "id", entry_id)


@router.get("/entries/{entry_id}/versions/{version}", summary="A version of an entry's document")
async def get_version(entry_id: Id, version: str, gateway: GatewayDep, who: Reader) -> Record:
    """Only the newest version is kept, whose name is `version` of the entry."""
    found = await entry_of(gateway, who, "id", entry_id)
    if found.get("version") != version:
        raise ApiError(404, f"Entry {entry_id} has no version {version[:100]}. Only the newest one is kept.")
    return {"version": version, "data": found["data"]}


@router.delete("/entries/{entry_id}", status_code=204, summary="Erase an entry")
async def delete_entry(entry_id: Id, gateway: GatewayDep, who: Writer) -> None:
    """Erases the entry with its document, states, files and their bytes. Jobs that ran on it keep their copy of the document until
    they are erased."""

    def erase(c: Connection) -> bool:
        gone = erase_entry(c, who.tenant_id, entry_id, clock.unix())
        if gone:
            add_audit(c, who, clock.unix(), "entry.erase", entry_id)
        return gone

    if not await gateway.store.transact(erase):
        raise ApiError(404, f"There is no entry with the id {entry_id}.")
    gateway.deletion_wake.set()


@router.get("/entries", summary="Entries, newest first")
async def list_entries(
    gateway: GatewayDep, who: Reader, limit: Annotated[int, Query(ge=1, le=100)] = 20,
    folder: Annotated[str | None, Query(max_length=100)] = None, created_at: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None, ascending: bool = False,
) -> Record:  # fmt: skip
    """`list` has the entries without their documents and files: from the time `created_at` (RFC 3339) backwards or, with `ascending`,
    onwards. `next_cursor` leads to the next page; the last page has none."""
    try:
        after = decode_cursor(cursor) if cursor else None
    except ValueError as error:
        raise Unprocessable({"cursor": str(error)}) from None
    bound = moment(created_at) if created_at else None
    rows = await gateway.store.read(
        lambda c: store.entries_page(c, who.tenant_id, folder or None, ascending, bound, after, limit + 1)
    )
    following = encode_cursor(rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
    found = [{**documents.shown_entry(json.loads(r.body)), "data": None} for r in rows[:limit]]
    page = {
        "folder": folder or None,
        "created_at": created_at or None,
        "limit": limit,
        "cursor": cursor or None,
        "next_cursor": following,
    }
    listed = [{name: value for name, value in entry.items() if value is not None} for entry in found]
    return {"list": listed, **{name: value for name, value in page.items() if value is not None}}
