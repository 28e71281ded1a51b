"""The account's webhook and Socket.IO send events as Alfred's clients read them, and flat to those that ask; our own webhooks do not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import socketio
import uvicorn
from aiokafka import TopicPartition
from pydantic import AnyHttpUrl
from sqlalchemy import Connection, text

from contracts import Message, RegisterWebhook, Tenancy, derived
from contracts.alfred_view import company_id, event_view, flattened, tag_id
from contracts.event_names import name_of
from contracts.file_events import FileStatusUpdate
from contracts.job_events import JobCreate
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.feed import Entry, EventFeed
from services.notifier.adapters.socket import Sockets
from services.notifier.core.shapes import Shape, Shapes
from services.notifier.handlers import on_batch
from services.notifier.registration import save_endpoint
from shared import clock
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.store import Store
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from shared.web.api_keys import Principal
from shared.web.concurrency import HeldRequests
from shared.web.revocation import CredentialWatch
from tests.contracts.examples import AT, example
from tests.eventually import eventually

URL = "https://documents.example.com"
SHAPES = Shapes(AnyHttpUrl(URL))
ACCOUNT = derived("acme", "account-webhook")


def event(model: Any) -> Any:
    made: Any = example(model)
    return made.model_copy(update={"event": made.event.model_copy(update={"company_id": "acme"})})


def seen(message: Any) -> dict[str, Any]:
    return event_view(json.loads(message.to_json()), lambda path: URL + path)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = open_store(f"sqlite:///{tmp_path}/notifier.db")
    await migrate(made, "notifier")
    yield made
    await made.close()


def handle(c: Connection, *messages: Message) -> None:
    batch = [Inbound(m, "t", 0, n, 0.0, None, m.to_json(), ()) for n, m in enumerate(messages)]
    on_batch(Unit(c, 1000.0, "/t", Telemetry("t", "i")), batch, SHAPES)


def register(c: Connection, number: int, flat: bool | None) -> None:
    """Register the account's webhook, and let its address answer the challenge."""
    owner = Tenancy(tenant_id="acme", tenant_name="Acme", user_name="ann")
    command = RegisterWebhook(
        command_id=f"c-{number}", endpoint_id=ACCOUNT, owner=owner, url=URL, issued_at=clock.now(), flat=flat
    )
    handle(c, command)
    (row,) = c.execute(text("SELECT * FROM webhook_pending")).all()
    save_endpoint(c, row, 1000.0)
    c.execute(text("DELETE FROM webhook_pending"))


def bodies(c: Connection) -> dict[str, dict[str, Any]]:
    """Endpoint → the body of its only delivery."""
    rows = c.execute(text("SELECT endpoint_id, body FROM delivery")).all()
    c.execute(text("DELETE FROM delivery"))
    assert len({r.endpoint_id for r in rows}) == len(rows)
    return {r.endpoint_id: json.loads(r.body) for r in rows}


@pytest.mark.parametrize("model", [JobCreate, FileStatusUpdate])
async def test_the_accounts_webhook_gets_the_vendors_shape_and_ours_stay(store: Store, model: Any) -> None:
    message = event(model)

    def check(c: Connection) -> None:
        row = {"id": "own", "tenant_id": "acme", "url": URL, "secret": "s", "events": "[]", "description": "", "created_at": 0.0}
        c.execute(db.EndpointRow.__table__.insert(), row)  # type: ignore[attr-defined]
        register(c, 1, None)
        handle(c, message)
        assert bodies(c) == {ACCOUNT: seen(message), "own": {"type": name_of(message), **json.loads(message.to_json())}}
        register(c, 2, True)
        handle(c, message)
        flat = bodies(c)
        assert flat == {ACCOUNT: flattened(seen(message)), "own": {"type": name_of(message), **json.loads(message.to_json())}}
        assert flat[ACCOUNT]["event_name"] == flat[ACCOUNT]["event"]["event_name"] == message.event.NAME
        assert flat[ACCOUNT]["company_id"] == company_id("acme")
        register(c, 3, False)
        handle(c, message)
        assert bodies(c)[ACCOUNT] == seen(message), "the last registration decides"

    await store.transact(check)


async def test_endpoints_of_a_previous_release_get_their_shape(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/n.db")
    await migrate(store, "notifier")
    second = derived("acme", ACCOUNT, "own-endpoint")

    def before(c: Connection) -> None:
        for table in ("endpoint", "webhook_pending"):
            c.execute(text(f"ALTER TABLE {table} DROP COLUMN shape"))
        c.execute(text("ALTER TABLE endpoint DROP COLUMN former_secrets"))
        c.execute(text("ALTER TABLE delivery DROP COLUMN replayed"))
        c.execute(text("DROP TABLE webhook_act"))
        c.execute(text("UPDATE service_revision SET version_num = '0003'"))
        for endpoint in (ACCOUNT, second, "own"):
            values = {"e": endpoint, "s": "s"}
            c.execute(text("INSERT INTO endpoint VALUES (:e, 'acme', 'u', :s, '[]', '', 0, NULL, NULL)"), values)

    await store.transact(before)
    await migrate(store, "notifier")
    found = await store.read(lambda c: {e.id: e.shape for e in db.endpoints_of(c, ["acme"])})
    assert found == {ACCOUNT: Shape.ALFRED, second: Shape.ALFRED, "own": Shape.TYPED}
    await store.close()


class Keys:
    """A key for each tenant: its name."""

    async def principal_of(self, presented: str) -> Principal | None:
        tenancy = Tenancy(tenant_id=presented, tenant_name="", user_name="ann")
        return Principal(tenancy, "reader", frozenset(), f"key:{presented}") if presented else None


class Server(uvicorn.Server):
    """uvicorn without signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[str, Sockets]]:
    """A Socket.IO server on the loopback, whose feed is in position."""
    feed = EventFeed(SimpleNamespace(options={}), [], SimpleNamespace())  # type: ignore[arg-type]
    feed.reading.set()
    sockets = Sockets(feed, Keys(), CredentialWatch({}), HeldRequests("streams", 9, 9, 9), SHAPES)  # type: ignore[arg-type]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = Server(uvicorn.Config(sockets.application, log_config=None, lifespan="off"))
        tasks = [asyncio.create_task(server.serve(sockets=[listener])), asyncio.create_task(sockets.run())]
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", sockets
        finally:
            server.should_exit = True
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def listening(url: str, namespace: str = "/", wait_s: float = 5) -> AsyncIterator[list[tuple[str, dict[str, Any]]]]:
    """What a client hears, by channel."""
    heard: list[tuple[str, dict[str, Any]]] = []
    client = socketio.AsyncClient(reconnection=False)
    client.on("*", lambda name, body: heard.append((name, body)), namespace=namespace)
    await client.connect(url, transports=["websocket"], namespaces=[namespace], wait_timeout=wait_s)
    try:
        yield heard
    finally:
        await client.disconnect()


async def test_a_socket_is_flat_where_the_client_asks_for_it() -> None:
    message = event(FileStatusUpdate)
    entry = Entry(TopicPartition("file.events", 0), 0, message)
    async with served() as (url, sockets), contextlib.AsyncExitStack() as stack:
        plain = await stack.enter_async_context(listening(f"{url}?apiKey=acme"))
        off = await stack.enter_async_context(listening(f"{url}?apiKey=acme&flat=false"))
        asked = await stack.enter_async_context(listening(f"{url}?apiKey=acme&flat=true"))
        by_path = await stack.enter_async_context(listening(f"{url}?apiKey=acme", "/flat"))
        foreign = await stack.enter_async_context(listening(f"{url}?apiKey=nested:acme&flat=true"))
        sockets._live.put(entry)
        nested, flat = seen(message), flattened(seen(message))
        names = ("file_event", "file_status_update_event", "alfred_event_file_status_update")

        async def all_heard() -> bool:
            return all(len(heard) == len(names) for heard in (plain, off, asked, by_path))

        await eventually(all_heard, 5)
        for heard, body in ((plain, nested), (off, nested), (asked, flat), (by_path, flat)):
            assert heard == [(name, body) for name in names]
        assert not foreign and flat["tag_id"] == tag_id("acme", "invoice") and flat["event_time"] == float(round(AT.timestamp()))


async def test_no_namespace_lets_a_client_in_without_a_key() -> None:
    async with served() as (url, sockets):
        for namespace in ("/", "/flat"):
            with pytest.raises(socketio.exceptions.ConnectionError):
                async with listening(f"{url}?apiKey=", namespace, 0.2):
                    pass
        assert not sockets.clients
