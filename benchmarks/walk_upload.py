"""The gateway behind an ASGI client, with real parts except Kafka and the session service, whose answer comes at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from contracts import AccessKeyIssued
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.kafka_publisher import KafkaPublisher
from services.ingest.adapters.store.quotas import Limits
from services.ingest.adapters.waiting import Waits
from services.ingest.app import make_app
from services.ingest.settings import IngestSettings
from shared import clock
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.store import Store
from shared.kafka.outgoing import Outgoing
from shared.objects.object_store import open_objects
from shared.telemetry.tracing import Telemetry
from shared.web.api_keys import Keyring, enter_key
from shared.web.key_format import key_hash, new_key

PATH = "/api/file/uploadfile"
BODY = (
    b'--x\r\nContent-Disposition: form-data; name="session_id"\r\n\r\ns1\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\nContent-Type: application/pdf\r\n\r\n'
    b"%PDF-1.7 some bytes\r\n--x--\r\n"
)


class _AnsweredAtOnce:
    """A relay that sends nothing. The decision on each command arrives as soon as the request waits for it."""

    def __init__(self, decisions: Waits) -> None:
        self.decisions = decisions

    async def send_records(self, rows: list[Outgoing]) -> None:
        answers = [(json.loads(row.value)["command_id"], {"ok": True}) for row in rows]
        asyncio.get_running_loop().call_soon(self.decisions.arrive, answers, {})


async def upload_request(folder: Path) -> Callable[[], Awaitable[int]]:
    """A gateway on SQLite and files in `folder`. Returns a call that uploads one file and gives the answer's status."""
    store = open_store(f"sqlite:///{folder}/ingest.db")
    await migrate(store, "ingest")
    key = new_key()
    issued = AccessKeyIssued(
        event_id="e", key_hash=key_hash(key), tenant_id="t1", tenant_name="Tenant", user_name="ann", role="producer",
        prefix=key[:8], occurred_at=clock.now(),
    )  # fmt: skip
    await store.transact(lambda c: enter_key(c, issued))
    app = _application(store, folder)
    headers = {
        "host": "local", "x-api-key": key, "content-type": "multipart/form-data; boundary=x", "content-length": str(len(BODY)),
    }  # fmt: skip
    return lambda: _status(app, [(name.encode(), value.encode()) for name, value in headers.items()])


def _application(store: Store, folder: Path) -> FastAPI:
    settings = IngestSettings()
    telemetry = Telemetry.from_environment("walks", "walks")
    decisions = Waits(store)
    relay: Any = _AnsweredAtOnce(decisions)
    unused: Any = None
    gateway = Gateway(
        settings, store, unused, open_objects(f"file://{folder}/objects"), KafkaPublisher(relay, telemetry), decisions,
        Keyring(store), Limits(store, settings),
    )  # fmt: skip
    host: Any = SimpleNamespace(telemetry=telemetry)
    return make_app(gateway, host)


async def _status(app: FastAPI, headers: list[tuple[bytes, bytes]]) -> int:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "path": PATH,
        "raw_path": PATH.encode(), "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "server": ("local", 80),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])
