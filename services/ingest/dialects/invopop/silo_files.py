"""Invopop's dialect: files of silo entries, inline or announced and uploaded afterwards (reference/vendor-apis.md §2.9)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from sqlalchemy import Connection, text
from starlette.responses import Response

from contracts import derived
from services.ingest.adapters.admission import admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims, reservations
from services.ingest.adapters.store.audit import add_audit
from services.ingest.adapters.store.erasures import add_refs, erase_entry_file, lock_entry
from services.ingest.adapters.store.reservations import Place
from services.ingest.core.fields import Flag, Whole
from services.ingest.core.job_view import text as shown_time
from services.ingest.core.media_type import is_media_type, media_type_of
from services.ingest.dialects.invopop import store
from services.ingest.dialects.invopop.ids import Id
from services.ingest.dialects.invopop.links import links_for
from services.ingest.dialects.invopop.silo import entry_of
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError, Unprocessable
from shared import clock
from shared.objects.object_store import StoredObject
from shared.web.api_keys import Principal

router = APIRouter(prefix="/silo/v1", tags=["Invopop"], max_body_size=8 << 20)
raw = APIRouter(prefix="/silo/v1", tags=["Invopop"])


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class NewFile(BaseModel):
    """A file: inline as base64 in `data`, or announced by `sha256` and `size` and uploaded afterwards."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=255)
    desc: str | None = Field(default=None, max_length=1000)
    key: str | None = Field(default=None, max_length=100)
    category: str | None = Field(default=None, max_length=100)
    mime: str | None = Field(default=None, max_length=200, description="Without it, the type that bytes and name say")
    sha256: Annotated[str, BeforeValidator(_lower)] | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    size: Whole | None = Field(default=None, ge=0)
    data: str | None = None
    embeddable: Flag | None = None
    private: Flag | None = Field(default=None, description="Its address asks for the key")
    meta: dict[str, str] | None = None

    @field_validator("mime")
    @classmethod
    def _is_media_type(cls, value: str | None) -> str | None:
        if value and not is_media_type(value):
            raise ValueError("a media type is expected, as in a Content-Type header")
        return value or None


@router.put("/entries/{entry_id}/files/{file_id}", summary="Add or announce a file")
async def put_file(
    entry_id: Id, file_id: Id, gateway: GatewayDep, who: Writer, body: Annotated[NewFile, Body()]
) -> dict[str, Any]:
    """Inline bytes are stored at once. Upload announced bytes by PUT to `url` of the answer; `stored` is true afterwards.

    A file with the same `key` and `category` is replaced.
    """
    return await _add(gateway, who, entry_id, file_id, body)


@router.post("/entries/{entry_id}/files", summary="Add or announce a file under a new id")
async def post_file(entry_id: Id, gateway: GatewayDep, who: Writer, body: Annotated[NewFile, Body()]) -> dict[str, Any]:
    """As with your own id."""
    return await _add(gateway, who, entry_id, clock.new_root(), body)


async def _add(gateway: Gateway, who: Principal, entry_id: str, file_id: str, body: NewFile) -> dict[str, Any]:
    await entry_of(gateway, who, "id", entry_id)
    content = _inline(body)
    shown = _described(file_id, body, content)
    claim = derived(who.tenant_id, file_id, "silo")
    # The file counts when it is announced, its bytes when they are stored.
    places = [Place(claim, bytes=len(content))] if content is not None else []
    known = await gateway.store.read(lambda c: store.has_file(c, who.tenant_id, file_id))
    async with admit(gateway, who.tenant_id, [] if known else places) as admission:
        stored = await admission.uncounted_objects(claim).put_object(content) if content is not None else None
        await _enter_file(gateway, who, entry_id, shown, stored, bool(body.key or body.category), claim)
    return await _shown(gateway, who, entry_id, await _file(gateway, who, entry_id, file_id))


def _inline(body: NewFile) -> bytes | None:
    """The bytes in the body; None for an announcement. Raises 422."""
    if body.data is None:
        if body.sha256 is None or body.size is None:
            raise Unprocessable({"sha256": "required, with size, when there is no data"})
        return None
    try:
        content = base64.b64decode(body.data, validate=True)
    except (binascii.Error, ValueError):
        raise Unprocessable({"data": "must be base64"}) from None
    if body.sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise Unprocessable({"sha256": "does not match the data"})
    return content


def _described(file_id: str, body: NewFile, content: bytes | None) -> dict[str, Any]:
    """What is stored of a file beside its bytes."""
    digest, size = (hashlib.sha256(content).hexdigest(), len(content)) if content is not None else (body.sha256, body.size)
    made = {
        "id": file_id, "created_at": shown_time(clock.now()), "name": body.name, "desc": body.desc, "key": body.key, "category": body.category,
        "mime": body.mime or media_type_of(content or b"", body.name), "size": size, "hash": digest, "embeddable": body.embeddable,
        "private": body.private, "meta": body.meta,
    }  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


async def _shown(gateway: Gateway, who: Principal, entry_id: str, row: Any) -> dict[str, Any]:
    return (await links_for(gateway, who)).files(entry_id, [store.shown_file(row)])[0]


async def _enter_file(
    gateway: Gateway,
    who: Principal,
    entry_id: str,
    shown: dict[str, Any],
    stored: StoredObject | None,
    replaces: bool,
    claim: str,
) -> None:
    """Save a file of an entry and count it, unless it is there. Raises 409 when the id is used, and `OverLimit`."""
    caps = await gateway.limits.quotas(who.tenant_id)

    def enter(c: Connection) -> None:
        known = store.has_file(c, who.tenant_id, shown["id"])
        kept = _save_file(c, who.tenant_id, entry_id, shown, stored.name if stored else None, replaces)
        reservations.release(c, who.tenant_id, [claim])
        size = stored.size if stored is not None and kept else 0
        if size or not known:
            reservations.take(c, who.tenant_id, caps, 0 if known else 1, size, clock.unix())

    await gateway.store.transact(enter)


def _save_file(
    connection: Connection, tenant: str, entry_id: str, shown: dict[str, Any], blob: str | None, replaces: bool
) -> bool:
    """Save a file, or complete an announced one. Returns True when its bytes are new. Raises 409 when the id is another file's."""
    lock_entry(connection, tenant, entry_id)
    if store.entry_by(connection, tenant, "id", entry_id) is None:
        raise ApiError(404, f"There is no entry with the id {entry_id}.")
    mine = text("SELECT entry_id, body, blob FROM silo_file WHERE tenant_id = :t AND id = :i")
    known = connection.execute(mine, {"t": tenant, "i": shown["id"]}).first()
    if known is not None:
        if known.entry_id != entry_id or json.loads(known.body).get("hash") != shown["hash"]:
            raise ApiError(409, "The id is used by another file.", "id", code="conflict")
        return blob is not None and _keep_bytes(connection, tenant, shown["id"], blob)
    if replaces:
        for other in store.files_of(connection, tenant, entry_id):
            if (other.get("key"), other.get("category")) == (shown.get("key"), shown.get("category")):
                erase_entry_file(connection, tenant, other["id"], clock.unix())
    insert = text("INSERT INTO silo_file (tenant_id, id, entry_id, body, blob) VALUES (:t, :i, :e, :b, :blob)")
    connection.execute(insert, {"t": tenant, "i": shown["id"], "e": entry_id, "b": json.dumps(shown), "blob": blob})
    if blob is not None:
        add_refs(connection, tenant, shown["id"], [blob])
    return blob is not None


def _keep_bytes(connection: Connection, tenant: str, file_id: str, blob: str) -> bool:
    """Note where the bytes of an announced file are. Returns False when it has them already, or is gone."""
    keep = text("UPDATE silo_file SET blob = :b WHERE tenant_id = :t AND id = :i AND blob IS NULL")
    if not connection.execute(keep, {"b": blob, "t": tenant, "i": file_id}).rowcount:
        return False
    add_refs(connection, tenant, file_id, [blob])
    return True


async def _file(gateway: Gateway, who: Principal, entry_id: str, file_id: str) -> Any:
    row = await gateway.store.read(lambda c: store.file_of(c, who.tenant_id, entry_id, file_id))
    if row is None:
        raise ApiError(404, f"There is no file {file_id} in entry {entry_id}.")
    return row


@raw.put("/entries/{entry_id}/files/{file_id}/content", summary="Upload a file's bytes")
@raw.put("/entries/{entry_id}/files/{file_id}/data", summary="Upload a file's bytes", include_in_schema=False)
async def bring_file(entry_id: Id, file_id: Id, request: Request, gateway: GatewayDep, who: Writer) -> dict[str, Any]:
    """The bytes must match the announced size and hash; otherwise 422. The vendor's clients write `/data` for `/content`."""
    return await receive_content(request, gateway, who, entry_id, file_id)


async def receive_content(request: Request, gateway: Gateway, who: Principal, entry_id: str, file_id: str) -> dict[str, Any]:
    """Store the request's bytes for an announced file, unless it has them. Returns the file. Raises 404, 422 and `OverLimit`."""
    row = await _file(gateway, who, entry_id, file_id)
    if row.blob is None:
        await _store_content(request, gateway, who, json.loads(row.body))
        row = await _file(gateway, who, entry_id, file_id)
    return await _shown(gateway, who, entry_id, row)


async def _store_content(request: Request, gateway: Gateway, who: Principal, shown: dict[str, Any]) -> None:
    """Store announced bytes and count them, once. Raises 422 when they are others, and `OverLimit`."""
    claim, most = derived(who.tenant_id, shown["id"], "silo"), min(shown["size"], gateway.settings.max_file_bytes)
    async with admit(gateway, who.tenant_id, [Place(claim, bytes=most)]) as admission:
        stored = await admission.uncounted_objects(claim).put_stream(request.stream(), most)
        if stored.sha256 != shown["hash"]:
            raise Unprocessable({"hash": "does not match the bytes"})

        def take(c: Connection) -> None:
            if _keep_bytes(c, who.tenant_id, shown["id"], stored.name):
                reservations.settle(c, who.tenant_id, claim, 0, stored.size, clock.unix())
            else:
                # The file was erased meanwhile, or another request has stored the same bytes for it.
                object_claims.unclaim(c, stored.name, claim, clock.unix())

        await gateway.store.transact(take)


@raw.get(
    "/entries/{entry_id}/files/{file_id}/content", summary="Download a file", name="file_content", response_class=Response,
    dependencies=[DOWNLOAD],
)  # fmt: skip
@raw.get(
    "/entries/{entry_id}/files/{file_id}", summary="Download a file", response_class=Response, dependencies=[DOWNLOAD],
    responses={status: {"content": {"application/octet-stream": {}}} for status in (200, 206)},
)  # fmt: skip
async def file_content(entry_id: Id, file_id: Id, request: Request, gateway: GatewayDep, who: Reader) -> Response:
    """404 until the bytes are uploaded."""
    return await send_content(request, gateway, who, entry_id, file_id)


async def send_content(request: Request, gateway: Gateway, who: Principal, entry_id: str, file_id: str) -> Response:
    """Answer with the bytes of an entry's file. Raises 404."""
    row = await _file(gateway, who, entry_id, file_id)
    if row.blob is None:
        raise ApiError(404, f"The bytes of file {file_id} are not uploaded yet.")
    shown = json.loads(row.body)
    # Releases before 0.4.0 kept any text as the type.
    kind = shown.get("mime") if is_media_type(str(shown.get("mime"))) else None
    return await send(request, gateway.objects.of(who.tenant_id), row.blob, shown["name"], kind)


@router.delete("/entries/{entry_id}/files/{file_id}", status_code=204, summary="Erase a file")
async def delete_file(entry_id: Id, file_id: Id, gateway: GatewayDep, who: Writer) -> None:
    """Erases the file with its bytes. Bytes that another file has as well stay."""
    await _file(gateway, who, entry_id, file_id)

    def erase(c: Connection) -> None:
        if erase_entry_file(c, who.tenant_id, file_id, clock.unix()):
            add_audit(c, who, clock.unix(), "entry.file.erase", file_id)

    await gateway.store.transact(erase)
    gateway.deletion_wake.set()
