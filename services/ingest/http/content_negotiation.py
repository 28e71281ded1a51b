"""The form of an answer on the wire: XML for clients that ask for it, and the rate-limit headers."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingest.adapters.store.quotas import MINUTE_S, Rate
from services.ingest.http import errors
from shared import clock

ALFRED = ("/api/", "/token")
DIALECTS = (*ALFRED, "/conversion/")
"""Paths whose clients may ask for XML. Our own API and Invopop's answer in JSON only."""
_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


def wants_xml(accept: str) -> bool:
    """True when the Accept header prefers XML to JSON (RFC 9110 §12.5.1)."""
    best = {"xml": 0.0, "json": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (p.strip() for p in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        quality = float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 1.0
        if kind in ("application/xml", "text/xml", "application/problem+xml"):
            best["xml"] = max(best["xml"], quality)
        elif kind in ("application/json", "application/problem+json", "*/*", "application/*"):
            best["json"] = max(best["json"], quality if "json" in kind else quality * 0.99)
    return best["xml"] > best["json"]


def to_xml(value: Any, root: str = "root") -> bytes:
    """A JSON value as XML: an element per key, and `item` elements in lists, as in the Conversion Service's examples (seed 003)."""
    element = ElementTree.Element(root)
    _fill(element, value)
    return bytes(ElementTree.tostring(element, encoding="utf-8", xml_declaration=True))


def _fill(element: ElementTree.Element, value: Any) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            _fill(ElementTree.SubElement(element, xml_name(str(key))), child)
    elif isinstance(value, list):
        for child in value:
            _fill(ElementTree.SubElement(element, "item"), child)
    elif value is not None:
        text = value if isinstance(value, str) else json.dumps(value)
        element.text = _TEXT.sub("\ufffd", text)


def xml_name(key: str) -> str:
    """A key as an element name. Characters that a name may not contain are written `_x002E_`, as .NET does."""
    if _NAME.fullmatch(key):
        return key
    found = "".join(c if re.fullmatch(r"[A-Za-z0-9_.\-]", c) else f"_x{ord(c):04X}_" for c in key)
    return found if found and re.fullmatch(r"[A-Za-z_]", found[0]) else f"_x{ord(found[0]):04X}_{found[1:]}" if found else "_"


class ContentNegotiation:
    """ASGI middleware: translates JSON answers into XML on request, and adds the rate-limit headers.

    Every answer of Alfred's dialect has them: its Python client waits a second after an answer without them. A request that counts
    towards no rate, such as one without a valid key, leaves the whole default rate.
    """

    def __init__(self, app: ASGIApp, requests_per_minute: int) -> None:
        self.app = app
        self.requests_per_minute = requests_per_minute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _too_large(scope, send)
        as_xml = scope["path"].startswith(DIALECTS) and wants_xml(Headers(scope=scope).get("accept", ""))
        held: list[Message] = []

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                _rate(headers, scope.get("state", {}).get("rate") or self._uncounted(scope["path"]))
                if as_xml and headers.get("content-type", "").partition(";")[0] in (
                    "application/json",
                    "application/problem+json",
                ):
                    held.append(message)
                    return
            elif held:
                held.append(message)
                if not message.get("more_body"):
                    await self._translate(held, send)
                return
            await send(message)

        await self.app(scope, receive, forward)

    def _uncounted(self, path: str) -> Rate | None:
        if not path.startswith(ALFRED):
            return None
        most = self.requests_per_minute
        return Rate(most, most, (int(clock.unix()) // MINUTE_S + 1) * MINUTE_S)

    async def _translate(self, held: list[Message], send: Send) -> None:
        start, body = held[0], b"".join(m.get("body", b"") for m in held[1:])
        headers = MutableHeaders(scope=start)
        content = to_xml(json.loads(body)) if body else b""
        headers["content-type"] = headers["content-type"].replace("json", "xml")
        headers["content-length"] = str(len(content))
        headers.append("vary", "accept")
        await send(start)
        await send({"type": "http.response.body", "body": content})


def _too_large(scope: Scope, send: Send) -> Send:
    """Give a 413 answer the dialect's shape. The framework answers a body past the limit in plain text."""
    shaped: list[bytes] = []

    async def forward(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 413:
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/plain"):
                answer = errors.shaped(Request(scope), 413, "too_large", "body: larger than this call takes", "body")
                shaped.append(bytes(answer.body))
                headers["content-type"] = answer.headers["content-type"]
                headers["content-length"] = str(len(shaped[0]))
        elif shaped and message["type"] == "http.response.body":
            message = {"type": "http.response.body", "body": shaped[0]}
        await send(message)

    return forward


def _rate(headers: MutableHeaders, rate: Rate | None) -> None:
    if rate is not None:
        headers["x-ratelimit-limit"] = str(rate.limit)
        headers["x-ratelimit-remaining"] = str(rate.remaining)
        headers["x-ratelimit-reset"] = str(rate.reset)
