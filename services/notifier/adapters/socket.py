"""Alfred's real-time events over Socket.IO (reference/vendor-apis.md §1.8).

The API key is in the query. There is a channel per kind (`job_event`, `file_event`) and one per event name. Events that occur
while a client is disconnected are not sent again; use the event stream or webhooks for that.

With `flat=true` in the query, or in the namespace `/flat`, the members of an event's inner object also stand beside the envelope's.
The types of the vendor's Node.js client expect that. It writes the query itself, and takes its namespace from the path of its address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import socketio
from socketio.exceptions import ConnectionRefusedError as Refused

from contracts.alfred import AlfredEvent
from contracts.alfred_view import flattened
from services.notifier.adapters.feed import Entry, EventFeed, Subscriber
from services.notifier.core.shapes import Shapes
from shared.web.api_keys import Keyring, Principal
from shared.web.concurrency import HeldRequests, TooMany, key_of
from shared.web.revocation import CredentialWatch, Hold

log = logging.getLogger(__name__)
READ_S = 0.6
"""Longest wait of a connecting client for the reader. The vendor's Python client gives up after one second."""
NAMESPACES = ("/", "/flat")
YES = ("true", "1", "yes")
"""Values of `flat`, in any case, that ask for it."""
Client = tuple[str, str]
"""Namespace and id of a connection."""


class Sockets:
    """A Socket.IO server that forwards the events of `feed`, as `shapes` writes them; `held` limits the number of clients."""

    def __init__(self, feed: EventFeed, keyring: Keyring, watch: CredentialWatch, held: HeldRequests, shapes: Shapes) -> None:
        self.feed = feed
        self.keyring = keyring
        self.watch = watch
        self.held = held
        self.shapes = shapes
        self.clients: dict[Client, tuple[Principal, Hold]] = {}
        """Connection → (caller, hold of its key)."""
        self._closing: set[asyncio.Task[None]] = set()
        self._live = Subscriber(feed)
        # Pages of other origins may not connect, unless the operator's proxy allows it.
        self.server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[], max_http_buffer_size=10_000, logger=False)
        self.application = socketio.ASGIApp(self.server, socketio_path="/socket.io")
        """ASGI application for `/socket.io/`."""
        for namespace in NAMESPACES:
            self.server.on("connect", partial(self._connect, namespace), namespace=namespace)
            self.server.on("disconnect", partial(self._disconnect, namespace), namespace=namespace)

    async def _connect(self, namespace: str, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        query = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=50)
        key = (query.get("apiKey") or [""])[-1]
        principal = await self.keyring.principal_of(key)
        if principal is None or not principal.may("reader", "producer", "operator"):
            raise Refused("a valid key is needed: apiKey in the query")
        try:
            self.held.take(principal.tenant_id, key_of(principal))
        except TooMany as error:
            raise Refused(str(error)) from None
        client = namespace, sid
        self.clients[client] = principal, self.watch.hold(principal.credential, lambda: self._close(client))
        self._live.follow(principal.tenant_id)
        # A connected client receives every later event, so the feed must be in position first.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.feed.reading.wait(), READ_S)
        flat = namespace == "/flat" or (query.get("flat") or [""])[-1].lower() in YES
        await self.server.enter_room(sid, room(principal.tenant_id, flat), namespace=namespace)

    def _close(self, client: Client) -> None:
        namespace, sid = client
        closing = asyncio.create_task(self.server.disconnect(sid, namespace=namespace))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _disconnect(self, namespace: str, sid: str, reason: Any = None) -> None:
        client = self.clients.pop((namespace, sid), None)
        if client is None:
            return
        principal, hold = client
        self.watch.release(hold)
        self.held.release(principal.tenant_id, key_of(principal))
        if all(other.tenant_id != principal.tenant_id for other, _ in self.clients.values()):
            self._live.unfollow(principal.tenant_id)

    async def run(self) -> None:
        """Forward new events until cancelled."""
        while True:
            for entry in await self._live.take():
                await self._send(entry)
            if self._live.overflowed:
                log.warning("real-time events were dropped: more arrived than could be sent")
                self._live.restart()

    async def _send(self, entry: Entry) -> None:
        message = entry.message
        if not isinstance(message, AlfredEvent):
            return
        nested = self.shapes.view(message.to_json())
        flat = flattened(nested)
        for channel in channels(message):
            await self.server.emit(channel, nested, room=room(message.tenant, False), namespace="/")
            for namespace in NAMESPACES:
                await self.server.emit(channel, flat, room=room(message.tenant, True), namespace=namespace)


def room(tenant: str, flat: bool) -> str:
    """The name of the room of a tenant's clients that want events in this shape."""
    return f"{'flat' if flat else 'nested'}:{tenant}"


def channels(event: AlfredEvent[Any]) -> tuple[str, str, str]:
    """Channels of an event: its kind, and its name as the vendor's Python and Node.js clients spell it."""
    name = event.event.NAME
    return event.event_type, name, f"alfred_event_{name.removesuffix('_event')}"
