"""Invopop's dialect: `ping`, and the vendor's services that are not here. Those answer 404 with a sentence that says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request

from services.ingest.http.authentication import authenticate
from services.ingest.http.dependencies import NEEDS_KEY, GatewayDep, Reader
from services.ingest.http.errors import ApiError
from shared.web.api_keys import Principal

router = APIRouter(tags=["Invopop"], max_body_size=1 << 20)
ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
APPS = "Only apps that are enrolled with the vendor use it."
SPOOL = "There is no spool here. Only apps that are enrolled with the vendor upload to it."
ABSENT: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("/silo/v1/gobl/{rest:path}", ANY, "There is no GOBL service here: documents are neither built, corrected nor signed."),
    ("/silo/v1/search", ("GET",), "There is no search over entries here. GET /v1/search finds words in files of jobs."),
    ("/silo/v1/entries/query", ("GET",), "There is no index of GOBL fields here, so entries cannot be queried by them."),
    ("/silo/v1/entries/query/count", ("GET",), "There is no index of GOBL fields here, so entries cannot be counted by them."),
    ("/silo/v1/entries/{entry_id}/related", ("GET",), "There is no index of GOBL fields here, so related entries are not found."),
    ("/silo/v1/spool", ANY, SPOOL),
    ("/silo/v1/spool/{rest:path}", ANY, SPOOL),
    ("/silo/v1/entries/{entry_id}/meta/{rest:path}", ANY, f"There is no service for metadata of entries here. {APPS}"),
    ("/silo/v1/entries/meta/{rest:path}", ANY, f"There is no service for metadata of entries here. {APPS}"),
    ("/sequence/v1/{rest:path}", ANY, "There is no Sequence service here: numbers of documents come from your own system."),
    (
        "/access/v1/{rest:path}",
        ANY,
        "There is no Access service here. POST /v1/keys makes keys, and GET /v1/tenants shows tenants.",
    ),
    ("/utils/v1/uuid", ("GET",), "There is no generator of UUIDs here: make them in the client, or leave the id out by POST."),
)
"""(path, methods, sentence)."""


@router.get("/utils/v1/ping", summary="Check the connection and the key")
async def ping(request: Request, gateway: GatewayDep) -> dict[str, str]:
    """Works without a key; a wrong key is 401, so that the call also tests the credential."""
    presented = any(name in request.headers for name in ("authorization", "x-tagshelfapi-key", "x-api-key"))
    if presented and await authenticate(request, gateway) is None:
        raise ApiError(401, NEEDS_KEY)
    return {"ping": "pong"}


def _answer(sentence: str) -> Callable[[Principal], Awaitable[Any]]:
    async def absent(who: Reader) -> Any:
        raise ApiError(404, sentence)

    return absent


for _path, _methods, _sentence in ABSENT:
    router.add_api_route(_path, _answer(_sentence), methods=list(_methods), include_in_schema=False)
