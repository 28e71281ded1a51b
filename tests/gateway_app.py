"""The gateway in this process, for tests of what its HTTP API lets in: the real application, store and object store, no Kafka."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import FastAPI
from sqlalchemy import Connection, text
from starlette.routing import Route

from contracts import AccessKeyIssued, Message
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.passwords import HASHER
from services.ingest.adapters.store import accounts
from services.ingest.adapters.store.quotas import Limits
from services.ingest.app import make_app
from services.ingest.dialects.routes import ROUTERS
from services.ingest.settings import IngestSettings
from shared import clock
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.store import Store
from shared.objects.object_store import open_objects
from shared.processing.processor import BatchProcessor
from shared.web.api_keys import Keyring, enter_key
from shared.web.key_format import key_hash, new_key
from tests.published_answers import checker
from tests.unit.fake_relay import NotingRelay

BASE = "http://gateway.test"
ADDRESS = "203.0.113.7"


@dataclass
class RecordingPublisher:
    """Keeps what the gateway publishes."""

    published: list[tuple[str, Message]] = field(default_factory=list)

    async def publish_command(self, topic: str, message: Message, trace: str | None) -> None:
        self.published.append((topic, message))


class AtOnce:
    """A wait whose result is there at once: a yes."""

    def on_command(self, command_id: str, read: Callable[[dict[str, Any]], Any] = lambda answer: answer) -> None:
        """Any command."""

    def on_job(self, job_id: str, read: Callable[[dict[str, Any] | None], Any]) -> None:
        """Any job."""

    async def result(self, timeout_s: float, patient: bool = False) -> Any:
        return {"ok": True, "reason": None, "message": None, "job_id": None}

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to give back."""


class Agreeing:
    """Answers every command with yes, and looks once where the gateway waits."""

    def wait(self, kind: str, repeated: bool = False) -> AtOnce:
        return AtOnce()

    async def decision(self, command_id: str, timeout_s: float) -> dict[str, Any] | None:
        return {"ok": True, "reason": None, "message": None, "job_id": None}

    async def wait_until(self, look: Callable[[Connection], Any], timeout_s: float, patient: bool = False) -> Any:
        return True

    def wake(self) -> None:
        """Nobody waits."""


@dataclass
class InProcess:
    """A gateway and its application; `http()` gives a client from an address."""

    gateway: Gateway
    app: FastAPI
    publisher: RecordingPublisher
    relay: NotingRelay
    folder: Path

    def __post_init__(self) -> None:
        self.check = checker(self.app)

    @property
    def store(self) -> Store:
        return self.gateway.store

    def http(self, address: str = ADDRESS, **headers: str) -> httpx.AsyncClient:
        """A client whose connections come from `address`. It holds answers of our own API against the published document."""
        transport = httpx.ASGITransport(self.app, client=(address, 50_000), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers, event_hooks={"response": [self.check]})

    async def key(self, role: str = "producer", tenant: str = "acme", user: str = "robot", rights: tuple[str, ...] = ()) -> str:
        """A new key."""
        return await issued_key(self.store, role, tenant, user, rights)

    async def application(self, tenant: str = "acme", role: str = "producer") -> Application:
        """A new signing application."""
        made = Application(f"app_{secrets.token_hex(8)}", base64.b64encode(secrets.token_bytes(32)).decode())
        row = {"app_id": made.app_id, "tenant_id": tenant, "user_name": "sdk", "role": role, "api_key": made.api_key}
        values = {**row, "revoked": False, "created_at": clock.unix()}
        await self.store.transact(lambda c: c.execute(accounts.APPS.insert().values(**values)) and None)
        return made

    async def user(self, name: str, password: str, tenant: str = "acme", role: str = "producer") -> None:
        """A new user."""
        values = {
            "user_name": name, "tenant_id": tenant, "password_hash": HASHER.hash(password), "role": role, "disabled": False,
            "created_at": clock.unix(),
        }  # fmt: skip
        await self.store.transact(lambda c: c.execute(accounts.USERS.insert().values(**values)) and None)

    async def rows(self, query: str, **values: Any) -> list[Any]:
        """Rows of a query."""
        return await self.store.read(lambda c: list(c.execute(text(query), values).all()))

    async def execute(self, statement: str, **values: Any) -> None:
        """Run a statement."""
        await self.store.transact(lambda c: c.execute(text(statement), values) and None)

    def objects(self) -> list[str]:
        """Everything in the object store, also what is unfinished."""
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file())


@dataclass(frozen=True)
class Application:
    """Credentials of signed requests."""

    app_id: str
    api_key: str

    def sign(self, method: str, url: str, body: bytes | None, at: float | None = None, nonce: str | None = None) -> str:
        """The Authorization header, as the vendor's clients make it (reference/vendor-apis.md §1.7)."""
        stamp, nonce = str(int(clock.unix() if at is None else at)), nonce or str(uuid.uuid4())
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() if body else ""
        signed = f"{self.app_id}{method.upper()}{quote(url, safe='').lower()}{stamp}{nonce}{digest}"
        made = base64.b64encode(hmac.new(base64.b64decode(self.api_key), signed.encode(), hashlib.sha256).digest()).decode()
        return f"amx {self.app_id}:{made}:{nonce}:{stamp}"


async def issued_key(store: Store, role: str, tenant: str, user: str = "robot", rights: tuple[str, ...] = ()) -> str:
    """A new key in a service's own table of keys."""
    key = new_key()
    event = AccessKeyIssued(
        event_id=clock.new_root(), key_hash=key_hash(key), tenant_id=tenant, tenant_name=tenant, user_name=user, role=role,
        prefix=key[:8], occurred_at=clock.now(), rights=rights or None,
    )  # fmt: skip
    await store.transact(lambda c: enter_key(c, event))
    return key


@contextlib.asynccontextmanager
async def gateway_app(folder: Path, **settings: Any) -> AsyncIterator[InProcess]:
    """A gateway on a new SQLite database and a folder of objects."""
    store = open_store(f"sqlite:///{folder}/ingest.db")
    await migrate(store, "ingest")
    relay, publisher = NotingRelay(), RecordingPublisher()
    chosen = IngestSettings(data_dir=folder, decision_timeout_s=0.1, **settings)
    gateway = Gateway(
        chosen, store, BatchProcessor("ingest", store, relay, relay.telemetry), open_objects(f"file://{folder}/objects"), publisher,
        Agreeing(), Keyring(store), Limits(store, chosen),
    )  # fmt: skip
    app = make_app(gateway, SimpleNamespace(telemetry=relay.telemetry))  # type: ignore[arg-type]
    try:
        yield InProcess(gateway, app, publisher, relay, folder / "objects")
    finally:
        await gateway.remote.close()
        await store.close()


def operations(prefix: str) -> list[tuple[str, str]]:
    """(method, path pattern) of every route under `prefix`, also of those that the OpenAPI document leaves out."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, Route)]
    return [(method, r.path) for r in routes if r.path.startswith(prefix) for method in sorted(r.methods or ())]
