"""Alfred's real-time events over Socket.IO (reference/vendor-apis.md §1.8): the API key in the query, a channel per kind
(`job_event`, `file_event`) and one per event name. What happens while a client is away is not sent again: that is what the event
stream with its cursor, and webhooks, are for."""

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
"""How long a client waits for the reader at most: the Python client gives a connection one second."""
RECHECK_S = 5.0
"""How often the keys of connected clients are looked at: a revoked one's connection ends within this."""


class Sockets:
    """A Socket.IO server; every process reads the topics itself, for the clients that it has."""

    def __init__(self, kafka: KafkaAccess, topics: Sequence[Topic], keyring: Keyring, most: int) -> None:
        self.kafka = kafka
        self.allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}
        self.keyring = keyring
        self.most = most
        self.clients: dict[str, tuple[str, str]] = {}
        """Connection → (tenant, key)."""
        self.reading = asyncio.Event()
        """Set while the reader is in its place."""
        self.wanted = asyncio.Event()
        """Set while there are clients: without any nothing is read."""
        # Only what is ours is sent, and no page of another origin may read it unless the operator's proxy says so.
        self.server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[], max_http_buffer_size=10_000, logger=False)
        self.application = socketio.ASGIApp(self.server, socketio_path="/socket.io")
        """For `/socket.io/` of the notifier's application."""
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
        # Whoever is connected hears everything from then on: so the reader must stand at the end before we say so.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.reading.wait(), READ_S)
        await self.server.enter_room(sid, principal.tenant_id)

    async def _disconnect(self, sid: str, reason: Any = None) -> None:
        self.clients.pop(sid, None)
        if not self.clients:
            self.wanted.clear()

    async def run(self) -> None:
        """Until cancelled: send what happens from now on, while there is somebody to hear it."""
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
        """Until cancelled: disconnect clients whose key does not stand any more."""
        while True:
            await asyncio.sleep(RECHECK_S)
            for sid, (_, key) in list(self.clients.items()):
                if await self.keyring.principal_of(key) is None:
                    await self.server.disconnect(sid)


def channels(event: AlfredEvent[Any]) -> tuple[str, str, str]:
    """Where an event is heard: its kind, and its name as the Python and as the Node.js client of the vendor spell it."""
    name = event.event.NAME
    return event.event_type, name, f"alfred_event_{name.removesuffix('_event')}"
