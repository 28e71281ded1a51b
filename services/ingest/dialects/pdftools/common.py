"""What the routes of the Conversion Service's dialect share: the caller, request bodies in JSON or XML, options and workflows."""

from __future__ import annotations

import json
from typing import Annotated, Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from fastapi import Depends, Request
from sqlalchemy import text
from starlette.convertors import StringConvertor, register_url_convertor

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.operations import LIVE
from services.ingest.core.workflow_readers import PRIVATE
from services.ingest.dialects.pdftools import store
from services.ingest.dialects.pdftools.keyless import KEYLESS, refusal
from services.ingest.dialects.pdftools.names import (
    DEFAULT_PROFILE,
    DEFAULT_WORKFLOW,
    PROFILES,
    WORKFLOWS,
    profile_named,
    workflow_named,
)
from services.ingest.dialects.pdftools.options import BadOption, Options, Pairs, options_of, read_options, wrong_value
from services.ingest.http.authentication import authenticate
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.errors import ApiError
from shared.web.api_keys import KEY_HEADERS, NEEDS_KEY, Principal

PREFIX = "/conversion/v1.0/rest"
MAX_BODY = 1 << 20
JSON_TYPES, XML_TYPES = ("application/json",), ("application/xml", "text/xml")


class Segment(StringConvertor):
    """A path segment without a colon, since a verb follows the colon (`jobs/{id}:start`)."""

    regex = "[^/:]+"


register_url_convertor("segment", Segment())


async def caller(request: Request, gateway: GatewayDep) -> Principal:
    """The caller by its key; without one, `KEYLESS` where the operator allows that and `refusal` has no objection. Raises 401, 403, 429."""
    principal = await authenticate(request, gateway)
    reason = ""
    # A wrong key must not count as no key.
    has_credential = any(name in request.headers for name in ("authorization", *KEY_HEADERS))
    if principal is None and not has_credential and not gateway.settings.conversion_needs_key:
        refused = refusal(request, gateway.settings.cors_origins)
        principal, reason = (KEYLESS, "") if refused is None else (None, f" Without a key, {refused}.")
    if principal is None:
        raise ApiError(401, f"{NEEDS_KEY}{reason}", code="unauthorized")
    if not principal.may("producer", "operator"):
        raise ApiError(403, f"The key's role {principal.role!r} may not do this.", code="forbidden")
    request.state.rate = await gateway.limits.take_request(principal.tenant_id)
    return principal


Caller = Annotated[Principal, Depends(caller)]


async def read_body(request: Request) -> Any:
    """The request's body in JSON or XML as a JSON value; None for an empty body. Raises 400, 413, 415."""
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
    return parse_body(bytes(body), kind in XML_TYPES)


def parse_body(body: bytes, is_xml: bool) -> Any:
    """A JSON or XML text as a JSON value; None for an empty text, and for an XML document without content. Raises 400."""
    if not body.strip():
        return None
    try:
        if not is_xml:
            return json.loads(body)
        root = ElementTree.fromstring(body)
        return parse_xml(root) if len(root) or (root.text or "").strip() else None
    except (ValueError, RecursionError, ParseError, DefusedXmlException) as error:
        raise ApiError(400, f"body: could not be parsed: {str(error)[:200] or type(error).__name__}", "body") from None


def parse_xml(element: Element, depth: int = 0) -> Any:
    """An XML element as a JSON value. Children of one name become a list, if there are several or the name is `item` or `option`."""
    if depth > 20:
        raise ValueError("nested deeper than 20")
    children = list(element)
    if not children:
        return element.text or ""
    tags = {child.tag.rpartition("}")[2] for child in children}
    if len(tags) == 1 and (len(children) > 1 or tags <= {"item", "option", "options"}):
        return [parse_xml(child, depth + 1) for child in children]
    return {child.tag.rpartition("}")[2]: parse_xml(child, depth + 1) for child in children}


def checked_options(listed: Any, status: int) -> Pairs:
    """Name and value of options that can be carried out. Raises `status` for any other: 400 for a job's, 427 for a document's."""
    try:
        pairs = read_options(listed)
        wrong = wrong_value([options_of(pairs)])
    except BadOption as error:
        wrong = str(error)
    if wrong is not None:
        raise ApiError(status, wrong, wrong.partition(": ")[0], code="invalidOption")
    return pairs


async def resolve_workflow(
    gateway: Gateway, who: Principal, workflow: str | None, profile: str | None
) -> tuple[str, str, str, Options]:
    """(vendor's workflow, our workflow, profile, the profile's options), with the service's defaults. Raises 400.

    Workflow and profile may have the names of any version, in any case; the answer has today's.
    """
    found = await gateway.store.read(lambda c: store.profiles(c, who.tenant_id))
    asked = workflow or DEFAULT_WORKFLOW
    name = asked if asked in WORKFLOWS else workflow_named(asked, await published_workflows(gateway))
    if name is None:
        raise ApiError(400, f"workflow: there is no workflow {asked[:100]}", "workflow", code="workflowNotFound")
    own = {p.name: p for p in found if p.workflow == name}
    default = next((p.name for p in own.values() if p.is_default), DEFAULT_PROFILE)
    wanted = profile_named(name, profile or default, own)
    if wanted is None:
        raise ApiError(400, f"profile: workflow {name} has no profile {str(profile)[:100]}", "profile", code="profileNotFound")
    options = options_of(json.loads(own[wanted].options)) if wanted in own else Options(PROFILES.get((name, wanted), {}))
    return name, WORKFLOWS.get(name, name), wanted, options


async def published_workflows(gateway: Gateway) -> list[str]:
    """Names of our published workflows that every tenant may run."""
    query = text(f"SELECT DISTINCT name FROM workflow_view WHERE {LIVE}")
    names = await gateway.store.read(lambda c: list(c.execute(query).scalars()))
    return sorted(n for n in names if not n.startswith(PRIVATE) and n not in WORKFLOWS.values())
