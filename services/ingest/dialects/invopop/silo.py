"""Invopop's dialect: entries of the silo with their files and states, as far as jobs need them (reference/vendor-apis.md §2.9)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import Connection, text
from starlette.responses import Response

from contracts import derived
from contracts.loose import check_json
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.erasures import add_refs
from services.ingest.core.fields import Whole
from services.ingest.core.job_view import text as shown_time
from services.ingest.dialects.invopop import store
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError, Unprocessable
from shared import clock
from shared.web.api_keys import Principal

router = APIRouter(prefix="/silo/v1", tags=["Invopop"], max_body_size=8 << 20)
raw = APIRouter(prefix="/silo/v1", tags=["Invopop"])
Id = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class NewEntry(BaseModel):
    """A document with its key, folder, tags and metadata."""

    model_config = ConfigDict(extra="ignore")

    key: str | None = Field(default=None, min_length=1, max_length=200)
    folder: str | None = Field(default=None, max_length=100)
    data: dict[str, Any] | None = None
    tags: list[Annotated[str, Field(max_length=100)]] = Field(default_factory=list, max_length=50)
    meta: list[dict[str, Any]] = Field(default_factory=list, max_length=50)

    @field_validator("data", "meta")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        check_json(value)
        return value


class NewFile(BaseModel):
    """A file: inline as base64 in `data`, or announced by `sha256` and `size` and uploaded afterwards."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=255)
    desc: str | None = Field(default=None, max_length=1000)
    key: str | None = Field(default=None, max_length=100)
    category: str | None = Field(default=None, max_length=100)
    mime: str = Field(default="application/octet-stream", max_length=200)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    size: Whole | None = Field(default=None, ge=0)
    data: str | None = None
    meta: dict[str, Any] | None = None


class NewState(BaseModel):
    """A state of an entry."""

    key: str = Field(min_length=1, max_length=100)


def new_entry(entry_id: str, fields: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The first version of an entry. Its state is `Empty` without a document, else `Draft`."""
    data = fields.get("data")
    content = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    state = "Empty" if data is None else "Draft"
    return {
        "id": entry_id, "created_at": shown_time(now), "updated_at": shown_time(now), "key": fields.get("key"),
        "folder": fields.get("folder"), "state": state, "faults": [], "signed": False, "invalid": False, "env_schema": None,
        "doc_schema": data.get("$schema") if isinstance(data, dict) else None,
        "digest": {"alg": "sha256", "val": hashlib.sha256(content.encode()).hexdigest()} if data is not None else None,
        "tags": fields.get("tags") or [], "meta": fields.get("meta") or [], "version": 1, "versions": [], "data": data,
        "states": [{"at": shown_time(now), "key": state}],
    }  # fmt: skip


async def _enter(gateway: Gateway, who: Principal, entry_id: str, body: NewEntry) -> dict[str, Any]:
    made = new_entry(entry_id, body.model_dump(), clock.now())
    if not await gateway.store.transact(lambda c: store.enter_entry(c, who.tenant_id, made, clock.unix())):
        raise ApiError(409, "The id or the key is used by another entry.", "key" if body.key else "id", code="conflict")
    return await _entry(gateway, who, "id", entry_id)


async def _entry(gateway: Gateway, who: Principal, column: str, value: str) -> dict[str, Any]:
    found = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, column, value))
    if found is None:
        raise ApiError(404, f"There is no entry with the {column} {value[:200]}.")
    return {k: v for k, v in found.items() if k != "states"}


@router.put("/entries/{entry_id}", summary="Create an entry under your own id", status_code=201)
async def put_entry(entry_id: Id, gateway: GatewayDep, who: Writer, body: Annotated[NewEntry, Body()]) -> dict[str, Any]:
    """409 when the id or the key is in use."""
    return await _enter(gateway, who, entry_id, body)


@router.post("/entries", summary="Create an entry", status_code=201)
async def post_entry(gateway: GatewayDep, who: Writer, body: Annotated[NewEntry, Body()]) -> dict[str, Any]:
    """409 when the key is in use."""
    return await _enter(gateway, who, clock.new_root(), body)


@router.get("/entries/key/{key}", summary="An entry by its key")
async def entry_by_key(key: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The entry with its files."""
    return await _entry(gateway, who, "key", key)


@router.get("/entries/{entry_id}", summary="An entry")
async def get_entry(entry_id: Id, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The entry with its files."""
    return await _entry(gateway, who, "id", entry_id)


@router.get("/entries", summary="Entries, newest first")
async def list_entries(
    gateway: GatewayDep, who: Reader, limit: Annotated[int, Query(ge=1, le=100)] = 20,
    created_at: Annotated[float | None, Query(ge=0, le=1e12, description="`next_created_at` of the previous page")] = None,
) -> dict[str, Any]:  # fmt: skip
    """`list` has the entries without their documents and files; `next_created_at` is present when there are more."""
    query = text(
        "SELECT body, created_at FROM silo_entry WHERE tenant_id = :t AND created_at < :b ORDER BY created_at DESC, id DESC LIMIT :n"
    )
    values = {"t": who.tenant_id, "b": created_at if created_at is not None else 1e15, "n": limit + 1}
    rows = await gateway.store.read(lambda c: c.execute(query, values).all())
    found = [{k: v for k, v in json.loads(r.body).items() if k not in ("data", "states")} for r in rows[:limit]]
    return {"list": found, "limit": limit} | ({"next_created_at": rows[limit - 1].created_at} if len(rows) > limit else {})


@router.put("/entries/{entry_id}/files/{file_id}", summary="Add or announce a file", status_code=201)
async def put_file(
    entry_id: Id, file_id: Id, request: Request, gateway: GatewayDep, who: Writer, body: Annotated[NewFile, Body()]
) -> dict[str, Any]:
    """Inline bytes are stored at once. Upload announced bytes by PUT to `url` of the answer; `stored` is true afterwards.

    A file with the same `key` and `category` is replaced.
    """
    await _entry(gateway, who, "id", entry_id)
    stored = None
    if body.data is not None:
        try:
            content = base64.b64decode(body.data, validate=True)
        except (binascii.Error, ValueError):
            raise Unprocessable({"data": "must be base64"}) from None
        if body.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise Unprocessable({"sha256": "does not match the data"})
        stored = await gateway.objects.put_object(who.tenant_id, content)
    elif body.sha256 is None or body.size is None:
        raise Unprocessable({"sha256": "required, with size, when there is no data"})
    url = str(request.url_for("file_content", entry_id=entry_id, file_id=file_id))
    shown = {
        "id": file_id, "name": body.name, "desc": body.desc, "key": body.key, "category": body.category, "mime": body.mime,
        "size": stored.size if stored else body.size, "hash": stored.sha256 if stored else body.sha256, "url": url, "meta": body.meta,
    }  # fmt: skip
    shown = {k: v for k, v in shown.items() if v is not None}
    if not await gateway.store.transact(
        lambda c: _save_file(c, who.tenant_id, entry_id, shown, stored.name if stored else None, bool(body.key or body.category))
    ):
        raise ApiError(409, "The id is used by another file.", "id", code="conflict")
    return {**shown, "stored": stored is not None}


def _save_file(
    connection: Connection, tenant: str, entry_id: str, shown: dict[str, Any], blob: str | None, replaces: bool
) -> bool:
    mine = text("SELECT entry_id, body, blob FROM silo_file WHERE tenant_id = :t AND id = :i")
    known = connection.execute(mine, {"t": tenant, "i": shown["id"]}).first()
    if known is not None:
        return bool(known.entry_id == entry_id and json.loads(known.body).get("hash") == shown["hash"])
    if replaces:
        for other in store.files_of(connection, tenant, entry_id):
            if (other.get("key"), other.get("category")) == (shown.get("key"), shown.get("category")):
                connection.execute(
                    text("DELETE FROM silo_file WHERE tenant_id = :t AND id = :i"), {"t": tenant, "i": other["id"]}
                )
    insert = text("INSERT INTO silo_file (tenant_id, id, entry_id, body, blob) VALUES (:t, :i, :e, :b, :blob)")
    connection.execute(insert, {"t": tenant, "i": shown["id"], "e": entry_id, "b": json.dumps(shown), "blob": blob})
    if blob is not None:
        add_refs(connection, shown["id"], [blob])
    return True


async def _file(gateway: Gateway, who: Principal, entry_id: str, file_id: str) -> Any:
    query = text("SELECT body, blob FROM silo_file WHERE tenant_id = :t AND entry_id = :e AND id = :i")
    row = await gateway.store.read(lambda c: c.execute(query, {"t": who.tenant_id, "e": entry_id, "i": file_id}).first())
    if row is None:
        raise ApiError(404, f"There is no file {file_id} in entry {entry_id}.")
    return row


@raw.put("/entries/{entry_id}/files/{file_id}/content", summary="Upload a file's bytes")
async def bring_file(entry_id: Id, file_id: Id, request: Request, gateway: GatewayDep, who: Writer) -> dict[str, Any]:
    """The bytes must match the announced size and hash; otherwise 422."""
    row = await _file(gateway, who, entry_id, file_id)
    shown = json.loads(row.body)
    if row.blob is None:
        stored = await gateway.objects.put_stream(
            who.tenant_id, request.stream(), min(shown["size"], gateway.settings.max_file_bytes)
        )
        if stored.sha256 != shown["hash"]:
            raise Unprocessable({"hash": "does not match the bytes"})
        keep = text("UPDATE silo_file SET blob = :b WHERE tenant_id = :t AND id = :i")
        values = {"b": stored.name, "t": who.tenant_id, "i": file_id}

        def take(c: Connection) -> None:
            c.execute(keep, values)
            add_refs(c, file_id, [stored.name])

        await gateway.store.transact(take)
    return {**shown, "stored": True}


@raw.get("/entries/{entry_id}/files/{file_id}/content", summary="Download a file", name="file_content", response_class=Response)
async def file_content(entry_id: Id, file_id: Id, request: Request, gateway: GatewayDep, who: Reader) -> Response:
    """404 until the bytes are uploaded."""
    row = await _file(gateway, who, entry_id, file_id)
    if row.blob is None:
        raise ApiError(404, f"The bytes of file {file_id} are not uploaded yet.")
    return await send(request, gateway, row.blob, json.loads(row.body)["name"])


@router.get("/entries/{entry_id}/states", summary="An entry's states")
async def states(entry_id: Id, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """All states, oldest first."""
    found = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, "id", entry_id))
    if found is None:
        raise ApiError(404, f"There is no entry with the id {entry_id}.")
    return {"list": found["states"]}


@router.post("/entries/{entry_id}/states", summary="Set an entry's state", status_code=201)
async def post_state(entry_id: Id, gateway: GatewayDep, who: Writer, body: Annotated[NewState, Body()]) -> dict[str, Any]:
    """`Empty` and `Invalid` are set by the silo itself."""
    return await _label(gateway, who, entry_id, shown_time(clock.now()), body.key)


@router.put("/entries/{entry_id}/states/{at}", summary="Set an entry's state once", status_code=201)
async def put_state(
    entry_id: Id, at: Annotated[str, Path(max_length=40)], gateway: GatewayDep, who: Writer, body: Annotated[NewState, Body()]
) -> dict[str, Any]:
    """The time identifies the state: repeating the call changes nothing; another key for the same time is 409."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise Unprocessable({"at": "must be a time as in RFC 3339"}) from None
    if moment.tzinfo is None:
        raise Unprocessable({"at": "must name its time zone"})
    return await _label(gateway, who, entry_id, shown_time(moment.astimezone(clock.now().tzinfo)), body.key)


async def _label(gateway: Gateway, who: Principal, entry_id: str, at: str, key: str) -> dict[str, Any]:
    if key in ("Empty", "Invalid"):
        raise Unprocessable({"key": "is set by the silo itself"})

    def work(c: Connection) -> str:
        entry = store.entry_by(c, who.tenant_id, "id", entry_id)
        if entry is None:
            return "missing"
        same = next((s for s in entry["states"] if s["at"] == at), None)
        if same is not None:
            return "done" if same["key"] == key else "conflict"
        listed = sorted([*entry["states"], {"at": at, "key": key}], key=lambda s: str(s["at"]))[-1000:]
        store.save_entry(c, who.tenant_id, {**entry, "states": listed, "state": listed[-1]["key"]})
        return "done"

    outcome = await gateway.store.transact(work)
    if outcome == "missing":
        raise ApiError(404, f"There is no entry with the id {entry_id}.")
    if outcome == "conflict":
        raise ApiError(409, "There is another state with this time.", "at", code="conflict")
    return {"id": derived(entry_id, at, "state"), "at": at, "key": key}
