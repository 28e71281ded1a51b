"""uvicorn's HTTP protocol with bounds: the size of a request's head, the time it takes, and the number of connections.

uvicorn bounds none of them: it keeps a head of any size in memory, and its `limit_concurrency` counts requests after their heads.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.web.connections import REFUSED_AT_ONCE, ConnectionLimit

HEAD_S = 20.0
"""Longest time for the head of a request, from its first byte or from the connection."""
MAX_HEAD_BYTES = 64 << 10
"""Largest head of a request, with the trailers of its body."""
LINGER_S = 2.0
"""How long a refused connection may take to send something. Its answer would be lost if it were closed before."""


class HeadTooLarge(Exception):
    """The head of a request exceeds `MAX_HEAD_BYTES`."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too large (431) or too slow, and refuses a connection beyond the limit (503)."""

    limit: ConnectionLimit
    """Set in the class that `bounded` returns."""
    _late: Any = None
    _place: str | None = None
    _refused = False
    _head_bytes = 0
    """Bytes of the URL, the headers and the trailers of this request so far."""
    _unparsed = 0
    """Bytes received since the parser last reported a complete head or a part of a body."""

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and start the timeout of the first request."""
        super().connection_made(transport)
        self._place = self.limit.take(self.client)
        if self._place is None:
            self._refused = True
            self.limit.refusing += 1
            if self.limit.refusing > REFUSED_AT_ONCE:
                transport.abort()
                return
        self._late = self.loop.call_later(LINGER_S if self._refused else HEAD_S, self._cut)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless the head would grow beyond its limit."""
        if self._refused:
            self._refuse(503, b"Service Unavailable", b"retry-after: 5\r\n", "too many connections are open; try again later")
            return
        if self._unparsed > MAX_HEAD_BYTES:
            # Not a head but a part of one: the parser reports a header when it has all of it.
            self._refuse_head()
            return
        self._unparsed += len(data)
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed: 431 for a head that is too large, else 400."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Start the timeout of this request's head."""
        super().on_message_begin()
        self._head_bytes = 0
        self._stop()
        self._late = self.loop.call_later(HEAD_S, self._cut)

    def on_url(self, url: bytes) -> None:
        """Count a part of the URL. Raises `HeadTooLarge`."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header. Raises `HeadTooLarge`."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the timeout: the head is complete."""
        self._stop()
        self._unparsed = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request. Another one may follow."""
        self._unparsed = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Give the connection to the WebSocket protocol. It keeps its place until it is closed."""
        super().handle_websocket_upgrade()
        protocol: Any = self.transport.get_protocol()
        closed = protocol.connection_lost

        def connection_lost(error: Exception | None) -> None:
            self._leave()
            closed(error)

        protocol.connection_lost = connection_lost

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timeout: the connection is closed."""
        self._stop()
        self._leave()
        super().connection_lost(exc)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def _refuse_head(self) -> None:
        self._refuse(431, b"Request Header Fields Too Large", b"", f"the head of a request has {MAX_HEAD_BYTES} bytes at most")

    def _refuse(self, status: int, phrase: bytes, headers: bytes, reason: str) -> None:
        body = f'{{"status": {status}, "detail": "{reason}"}}'.encode()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\n%bconnection: close\r\ncontent-length: %d\r\n\r\n%b"
                % (status, phrase, headers, len(body), body)
            )
            self.transport.close()

    def _leave(self) -> None:
        if self._refused:
            self._refused = False
            self.limit.refusing -= 1
        if self._place is not None:
            self.limit.release(self._place)
            self._place = None

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _cut(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()


def bounded(limit: ConnectionLimit) -> type[BoundedHttpProtocol]:
    """The protocol for a server whose connections `limit` counts."""
    return type("Bounded", (BoundedHttpProtocol,), {"limit": limit})
