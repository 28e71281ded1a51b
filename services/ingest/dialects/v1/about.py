"""The entrance: what answers here, where its documents are, and where the notifier is. It needs no key."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from services.ingest.adapters.gateway import Gateway
from services.ingest.http.answers.accounts import About
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.errors import shaped
from services.ingest.http.openapi import DIALECTS, OWN
from shared.version import VERSION
from shared.web.documentation import PAGE_POLICY
from shared.web.openapi import KEY_HEADER, answered
from shared.web.page_headers import POLICY

router = APIRouter(max_body_size=64 << 10)
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Stageline {version}</title><link rel="icon" type="image/png" href="docs/favicon.png"><link rel="stylesheet" href="docs/page.css"></head>
<body><main><h1>Stageline {version}</h1><p>A pipeline for documents. Programs submit files here and read the results.</p>
<dl>{entries}</dl></main></body></html>
"""
KEY_PLACE = (
    f"Each call needs a key, in the header <code>{KEY_HEADER}</code>. The first key is in the file that "
    "<code>STAGELINE_ADMIN_KEY_FILE</code> names; after <code>stageline up</code> that is <code>.stageline/admin.key</code>. "
    "<code>stageline keys create</code> makes more."
)


def notifier_of(gateway: Gateway) -> str | None:
    """The notifier's address as clients see it, without a slash at its end; None where it is not set."""
    address = gateway.settings.notifier_public_url
    return None if address is None else str(address).rstrip("/")


def _about(gateway: Gateway) -> dict[str, Any]:
    return {
        "name": "Stageline", "version": VERSION, "docs": "/docs",
        "openapi": {name: "/openapi.json" if name == OWN else f"/openapi/{name}.json" for name in DIALECTS},
        "notifier_url": notifier_of(gateway), "key_header": KEY_HEADER,
    }  # fmt: skip


@router.get(
    "/v1/about", tags=["About"], summary="Version, documents and the notifier's address", operation_id="getAbout",
    responses=answered(About),
)  # fmt: skip
async def about(gateway: GatewayDep) -> dict[str, Any]:
    """Needs no key. A client that has one address finds everything else by it."""
    return _about(gateway)


@router.get("/", include_in_schema=False)
async def entrance(request: Request, gateway: GatewayDep) -> Response:
    """A page with links for a browser; the answer of `/v1/about` for programs."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse(_about(gateway), headers={"vary": "accept"})
    page = PAGE.format(version=escape(VERSION), entries=_entries(gateway))
    return HTMLResponse(page, headers={POLICY: PAGE_POLICY, "vary": "accept"})


def _entries(gateway: Gateway) -> str:
    """The page's terms and descriptions, as HTML."""
    pages = "<br>".join(
        f'<a href="docs{"" if name == OWN else f"/{name}"}">{escape(d.title)}</a>: {escape(d.description)}'
        for name, d in DIALECTS.items()
    )
    files = ", ".join(f'<a href="openapi{"" if name == OWN else f"/{name}"}.json">{escape(name)}</a>' for name in DIALECTS)
    address = notifier_of(gateway)
    notifier = (
        f'<a href="{escape(address)}/docs">{escape(address)}</a> serves <code>/v1/webhooks</code> and <code>/events/stream</code>.'
        if address
        else "It serves <code>/v1/webhooks</code> and <code>/events/stream</code>. Its address is not set here: <code>STAGELINE_NOTIFIER_PUBLIC_URL</code>."
    )
    shown = {
        "Documentation": pages, "OpenAPI documents": files, "Key": KEY_PLACE, "Notifier": notifier,
        "State": '<a href="health/ready">health/ready</a>, <a href="v1/about">v1/about</a>',
    }  # fmt: skip
    return "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in shown.items())


@router.api_route("/events/stream", methods=["GET"], include_in_schema=False)
@router.api_route("/v1/webhooks", methods=METHODS, include_in_schema=False)
@router.api_route("/v1/webhooks/{rest:path}", methods=METHODS, include_in_schema=False)
async def at_notifier(request: Request, gateway: GatewayDep) -> Response:
    """Sends clients to the notifier: 307 with its address, or 404 that says where the operator sets it.

    The gateway calls no other service (docs/decisions/0155).
    """
    address = notifier_of(gateway)
    path = request.scope["path"]
    if address is None:
        text = (
            f"The notifier serves {path}, at an address of its own. Its operator has not set STAGELINE_NOTIFIER_PUBLIC_URL here."
        )
        return shaped(request, 404, "at_notifier", text)
    own = {request.url.netloc, urlsplit(str(gateway.settings.public_url or "")).netloc}
    if urlsplit(address).netloc in own:
        text = f"The notifier serves {path}. The proxy in front of {address} must send this path to the notifier, and sent it to the gateway."
        return shaped(request, 404, "at_notifier", text)
    answer = shaped(request, 307, "at_notifier", f"The notifier at {address} serves {path}. Send the request there.")
    written = (request.scope.get("raw_path") or path.encode()).decode("latin-1")
    answer.headers["location"] = f"{address}/{written.lstrip('/')}" + (f"?{request.url.query}" if request.url.query else "")
    return answer
