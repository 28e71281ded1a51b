"""Alfred's real-time events over Socket.IO (reference/vendor-apis.md §1.8).

The API key is in the query. There is a channel per kind (`job_event`, `file_event`) and one per event name. Events that occur
while a client is disconnected are not sent again; use the event stream or webhooks for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import socketio
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from socketio.exceptions import ConnectionRefusedError as Refused

from contracts import Topic, UndecodableRecord, from_record
from contracts.alfred import AlfredEvent
from shared.kafka.connection import KafkaAccess
from shared.web.api_keys import Keyring

log = logging.getLogger(__name__)
READ_S = 0.6
"""Longest wait of a connecting client for the reader. The vendor's Python client gives up after one second."""
RECHECK_S = 5.0
"""Interval at which connected clients' keys are checked; a revoked key loses its connection within this time."""


class Sockets:
    """A Socket.IO server. Each process reads the topics for its own clients; `most` bounds their number."""

    def __init__(self, kafka: KafkaAccess, topics: Sequence[Topic], keyring: Keyring, most: int) -> None:
        self.kafka = kafka
        self.allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}
        self.keyring = keyring
        self.most = most
        self.clients: dict[str, tuple[str, str]] = {}
        """Connection → (tenant, key)."""
        self.reading = asyncio.Event()
        """Set while the reader is positioned at the end of the topics."""
        self.wanted = asyncio.Event()
        """Set while there are clients. Without clients nothing is read."""
        # Pages of other origins may not connect, unless the operator's proxy allows it.
        self.server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[], max_http_buffer_size=10_000, logger=False)
        self.application = socketio.ASGIApp(self.server, socketio_path="/socket.io")
        """ASGI application for `/socket.io/`."""
        self.server.on("connect", self._connect)
        self.server.on("disconnect", self._disconnect)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        query = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=50)
        key = (query.get("apiKey") or [""])[-1]
        principal = await self.keyring.principal_of(key)
        if principal is None or not principal.may("reader", "producer", "operator"):
            raise Refused("a valid key is needed: apiKey in the query")
        if len(self.clients) >= self.most:
            raise Refused(f"{self.most} clients are connected, which is the limit")
        self.clients[sid] = principal.tenant_id, key
        self.wanted.set()
        # A connected client receives every later event, so the reader must be in position first.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.reading.wait(), READ_S)
        await self.server.enter_room(sid, principal.tenant_id)

    async def _disconnect(self, sid: str, reason: Any = None) -> None:
        self.clients.pop(sid, None)
        if not self.clients:
            self.wanted.clear()

    async def run(self) -> None:
        """Forward new events until cancelled, while there are clients."""
        while True:
            await self.wanted.wait()
            consumer = AIOKafkaConsumer(
                *self.allowed, **self.kafka.options, group_id=None, enable_auto_commit=False, auto_offset_reset="latest"
            )
            try:
                await consumer.start()
                await consumer.seek_to_end()
                for partition in consumer.assignment():
                    await consumer.position(partition)
                self.reading.set()
                await self._forward(consumer)
            except KafkaError as error:
                log.warning("real-time events will be read again", extra={"reason": str(error)})
                await asyncio.sleep(1)
            finally:
                self.reading.clear()
                await consumer.stop()

    async def _forward(self, consumer: Any) -> None:
        while self.wanted.is_set():
            batch = await consumer.getmany(timeout_ms=1000, max_records=500)
            tenants = {tenant for tenant, _ in self.clients.values()}
            for record in (r for records in batch.values() for r in records) if tenants else ():
                await self._send(record, tenants)

    async def _send(self, record: Any, tenants: set[str]) -> None:
        if dict(record.headers).get("ce_tenant", b"").decode("utf-8", "replace") not in tenants | {""}:
            return
        try:
            message = from_record(record.value, record.headers, self.allowed[record.topic])
        except UndecodableRecord:
            return
        if not isinstance(message, AlfredEvent) or message.tenant not in tenants:
            return
        body = json.loads(message.to_json())
        for channel in channels(message):
            await self.server.emit(channel, body, room=message.tenant)

    async def recheck(self) -> None:
        """Disconnect clients whose key is no longer valid, until cancelled."""
        while True:
            await asyncio.sleep(RECHECK_S)
            for sid, (_, key) in list(self.clients.items()):
                if await self.keyring.principal_of(key) is None:
                    await self.server.disconnect(sid)


def channels(event: AlfredEvent[Any]) -> tuple[str, str, str]:
    """Channels of an event: its kind, and its name as the vendor's Python and Node.js clients spell it."""
    name = event.event.NAME
    return event.event_type, name, f"alfred_event_{name.removesuffix('_event')}"
