"""Alfred's dialect: lists of files, their events and versions, and shared links."""

from __future__ import annotations

import hashlib
import json
import secrets
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection, text
from starlette.responses import Response

from contracts.alfred_view import event_view
from services.ingest.adapters.store import shares
from services.ingest.adapters.store.audit import add_audit
from services.ingest.dialects.alfred import bodies, views
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep, Reader, Sharer
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError
from services.ingest.http.links import public_link
from services.ingest.http.records import file_record
from shared import clock
from shared.web.revocation import hold_request

router = APIRouter(prefix="/api", tags=["Alfred"], max_body_size=1 << 20)
SHARE_S = 7 * 86_400
"""Default and longest lifetime of a shared link."""
MOST_EVENTS = 1000
CurrentPage = Annotated[int, Query(alias="currentPage", ge=1, le=1_000_000)]
PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=100)]


@router.get("/file/all", summary="Files, newest first")
async def all_files(gateway: GatewayDep, who: Reader, page: CurrentPage = 1, size: PageSize = 20) -> dict[str, Any]:
    """One page of the company's files under `result`."""
    query = text("SELECT body FROM file_view WHERE tenant_id = :t ORDER BY created_at DESC, id DESC LIMIT :n OFFSET :o")
    values = {"t": who.tenant_id, "n": size, "o": (page - 1) * size}
    count = text("SELECT count(*) FROM file_view WHERE tenant_id = :t")

    def look(c: Connection) -> tuple[list[str], int]:
        return list(c.execute(query, values).scalars()), int(c.execute(count, {"t": who.tenant_id}).scalar_one())

    rows, total = await gateway.store.read(look)
    return {
        "result": [views.file(json.loads(body), partial(public_link, gateway)) for body in rows], "currentPage": page, "pageSize": size, "totalCount": total,
        "totalPages": -(-total // size),
    }  # fmt: skip


@router.get("/file/events/{file_id}", summary="Events of a file", responses=bodies.NOT_FOUND)
async def file_events(file_id: str, gateway: GatewayDep, who: Reader) -> list[dict[str, Any]]:
    """The file's events as the webhook and the socket have them, oldest first, at most 1,000."""
    record = await file_record(gateway, file_id, who)
    # Each event of the file contains its id, so the database can skip all others.
    query = text("SELECT body FROM history WHERE job_id = :j AND body LIKE :f ORDER BY id LIMIT :n")
    values = {"j": record["job_id"], "f": f"%{record['id']}%", "n": 10 * MOST_EVENTS}
    rows = await gateway.store.read(lambda c: c.execute(query, values).scalars().all())
    events = [json.loads(body) for body in rows]
    own = [e for e in events if file_id in (e["event"].get("file_id"), e["event"].get("file_log_id"))]
    return [event_view(event, partial(public_link, gateway)) for event in own[:MOST_EVENTS]]


@router.get("/file/versions/{file_id}", summary="Versions of a file", responses=bodies.NOT_FOUND)
async def file_versions(file_id: str, gateway: GatewayDep, who: Reader) -> list[dict[str, Any]]:
    """The original, then its extracted text and its result package, as far as they exist."""
    record = await file_record(gateway, file_id, who)
    kinds = (("original", "blob_name"), ("text", "text_blob"), ("result", "result_blob"))
    found = [(kind, record[name]) for kind, name in kinds if record[name]]
    return [
        {
            "version": number, "kind": kind, "file_id": file_id, "file_name": record["file_name"], "blob_name": blob,
            "md5_hash": record["md5_hash"] if kind == "original" else None,
            "creation_date": record["creation_date"] if kind == "original" else record["update_date"],
        }
        for number, (kind, blob) in enumerate(found, 1)
    ]  # fmt: skip


@router.post("/file/share/{file_id}", summary="Share a file by a link", responses=bodies.NOT_FOUND)
async def share_file(
    file_id: str, gateway: GatewayDep, who: Sharer, seconds: Annotated[int, Query(ge=1, le=SHARE_S)] = SHARE_S
) -> dict[str, Any]:
    """Anyone with the link can download the file until `expires`, without a key. Only this answer contains the link.

    Needs the right `share`. `GET /v1/shares` lists links, and `DELETE /v1/shares/{id}` ends one. A link also ends when the key that
    made it is revoked.
    """
    record = await file_record(gateway, file_id, who)
    if not record["blob_name"]:
        raise ApiError(404, f"File with ID {file_id} has no content yet.")
    token, now = secrets.token_urlsafe(32), clock.unix()

    def enter(c: Connection) -> None:
        shares.add_link(c, who, _hash(token), file_id, now + seconds, now)
        add_audit(c, who, now, "share.create", file_id)

    await gateway.store.transact(enter)
    return {"url": public_link(gateway, f"/api/file/shared/{token}"), "expires": now + seconds, "id": _hash(token)}


@router.get(
    "/file/shared/{token}", summary="Download a shared file", response_class=Response, responses=bodies.NOT_FOUND, dependencies=[DOWNLOAD]
)  # fmt: skip
async def shared_file(token: str, request: Request, gateway: GatewayDep) -> Response:
    """No key is needed: the token in the link is the credential."""
    digest, now = _hash(token), clock.unix()
    row = await gateway.store.read(lambda c: shares.find_link(c, digest, now))
    record = await gateway.record("file_view", row.file_id, row.tenant_id) if row is not None else None
    if record is None or not record["blob_name"] or record.get("recycled_at"):
        raise ApiError(404, "The link does not exist or has expired.")
    request.state.shared_link = row
    hold_request(request, f"{shares.CREDENTIAL}:{digest}")
    objects = gateway.objects.of(row.tenant_id)
    return await send(request, objects, record["blob_name"], record["file_name"], record.get("content_type"))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
