"""What the routes of the Conversion Service's dialect share: who calls, what was sent (JSON or XML), problems."""

from __future__ import annotations

import ipaddress
import json
from typing import Annotated, Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from fastapi import Depends, Request
from sqlalchemy import text
from starlette.convertors import StringConvertor, register_url_convertor

from contracts import Tenancy
from services.ingest.adapters.gateway import Gateway
from services.ingest.dialects.pdftools import store
from services.ingest.dialects.pdftools.options import (
    DEFAULT_PROFILE,
    DEFAULT_WORKFLOW,
    PROFILES,
    WORKFLOWS,
    BadOption,
    Options,
    Pairs,
    options_of,
    read_options,
)
from services.ingest.http.authentication import authenticate
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.errors import ApiError
from shared.web.api_keys import KEY_HEADERS, Principal

PREFIX = "/conversion/v1.0/rest"
MAX_BODY = 1 << 20
JSON_TYPES, XML_TYPES = ("application/json",), ("application/xml", "text/xml")
LOOPBACK = Principal(Tenancy(tenant_id="default", tenant_name="Default", user_name="loopback"), "producer")
"""Whom a caller without a key speaks for, on this machine alone."""


class Segment(StringConvertor):
    """A part of a path without a colon: what follows one is a verb."""

    regex = "[^/:]+"


register_url_convertor("segment", Segment())


async def caller(request: Request, gateway: GatewayDep) -> Principal:
    """By a key; without one only from this machine, to this machine, and not from a page of somewhere else."""
    principal = await authenticate(request, gateway)
    # A wrong key is not no key.
    says_who = any(name in request.headers for name in ("authorization", *KEY_HEADERS))
    if principal is None and not says_who and not gateway.settings.conversion_needs_key and local(request):
        principal = LOOPBACK
    if principal is None:
        raise ApiError(401, "A valid key is needed: X-API-Key, or Authorization: Bearer.", code="unauthorized")
    if not principal.may("producer", "operator"):
        raise ApiError(403, f"The key's role {principal.role!r} may not do this.", code="forbidden")
    request.state.rate = await gateway.limits.request(principal.tenant_id)
    return principal


Caller = Annotated[Principal, Depends(caller)]


def local(request: Request) -> bool:
    """True when nothing says that the request comes from elsewhere: neither its address, nor a proxy's header, nor the name it asked
    for (a rebound one), nor the origin of a page."""
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
        return False
    origin = request.headers.get("origin", "")
    names = [urlsplit(f"//{request.headers.get('host', '')}").hostname or ""]
    names += [urlsplit(origin).hostname or ""] if origin.startswith(("http:", "https:")) else []
    return request.client is not None and _loopback(request.client.host) and all(_loopback(name) for name in names)


def _loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def body_of(request: Request) -> Any:
    """The request's body as a JSON value, from JSON or XML; None without one. Raises 400, 413, 415."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ApiError(413, f"body: more than {MAX_BODY} bytes", "body")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        return None
    if kind not in (*JSON_TYPES, *XML_TYPES):
        raise ApiError(415, "Content-Type: application/json or application/xml is expected", "Content-Type")
    return parsed(bytes(body), kind in XML_TYPES)


def parsed(body: bytes, is_xml: bool) -> Any:
    """JSON or XML as a JSON value; nothing as None. Raises 400."""
    if not body.strip():
        return None
    try:
        return of_xml(ElementTree.fromstring(body)) if is_xml else json.loads(body)
    except (ValueError, RecursionError, ParseError, DefusedXmlException) as error:
        raise ApiError(400, f"body: could not be parsed: {str(error)[:200] or type(error).__name__}", "body") from None


def of_xml(element: Element, depth: int = 0) -> Any:
    """Elements as objects and lists: children of one name, of which there are several or which are `item` or `option`, are a list."""
    if depth > 20:
        raise ValueError("nested deeper than 20")
    children = list(element)
    if not children:
        return element.text or ""
    tags = {child.tag.rpartition("}")[2] for child in children}
    if len(tags) == 1 and (len(children) > 1 or tags <= {"item", "option", "options"}):
        return [of_xml(child, depth + 1) for child in children]
    return {child.tag.rpartition("}")[2]: of_xml(child, depth + 1) for child in children}


def checked(listed: Any, status: int) -> Pairs:
    """Options that are known, each once unless it may repeat. Raises `status`: 400 for a job's, 427 for a document's."""
    try:
        pairs = read_options(listed)
        options_of(pairs)
    except BadOption as error:
        raise ApiError(status, str(error), "options", code="invalidOption") from None
    return pairs


async def chosen(gateway: Gateway, who: Principal, workflow: str | None, profile: str | None) -> tuple[str, str, str, Options]:
    """(their workflow, ours, profile, its options) for what was asked for, with the service's defaults. Raises 400."""
    found = await gateway.store.read(lambda c: store.profiles(c, who.tenant_id))
    name = workflow or DEFAULT_WORKFLOW
    ours = WORKFLOWS.get(name) or (name if name in await published(gateway) else None)
    if ours is None:
        raise ApiError(400, f"workflow: there is no workflow {name[:100]}", "workflow", code="workflowNotFound")
    own = {p.name: p for p in found if p.workflow == name}
    default = next((p.name for p in own.values() if p.is_default), DEFAULT_PROFILE)
    wanted = profile or default
    given = PROFILES.get((name, wanted))
    if wanted not in own and wanted != DEFAULT_PROFILE and given is None:
        raise ApiError(400, f"profile: workflow {name} has no profile {wanted[:100]}", "profile", code="profileNotFound")
    options = options_of(json.loads(own[wanted].options)) if wanted in own else Options(given or {})
    return name, ours, wanted, options


async def published(gateway: Gateway) -> list[str]:
    """Names of our published workflows that everybody may run."""
    names = await gateway.store.read(lambda c: list(c.execute(text("SELECT DISTINCT name FROM workflow_view")).scalars()))
    return sorted(n for n in names if not n.startswith("tenant.") and n not in WORKFLOWS.values())
