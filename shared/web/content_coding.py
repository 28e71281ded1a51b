"""Bodies of requests are read as they are: a compressed one is refused, because it could grow without a bound."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.web.middleware import ErrorShape


class UncompressedBodies:
    """ASGI middleware: 415 for a body in a content coding, with the header that names what is taken (RFC 9110 §12.5.3)."""

    def __init__(self, app: ASGIApp, shape: ErrorShape) -> None:
        self.app = app
        self.shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        coding = content_coding(Headers(scope=scope)) if scope["type"] == "http" else ""
        if not coding:
            await self.app(scope, receive, send)
            return
        message = f"Content-Encoding: {coding[:50]!r} is not supported; the body is expected without compression"
        answer = self.shape(Request(scope), 415, "unsupported_media_type", message)
        answer.headers["accept-encoding"] = "identity"
        await answer(scope, receive, send)


def content_coding(headers: Headers) -> str:
    """The coding of a request's body; empty for a body as it is, and for a request without a body."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return ""
    codings = [part.strip().lower() for part in ",".join(headers.getlist("content-encoding")).split(",")]
    return ", ".join(part for part in codings if part not in ("", "identity"))
