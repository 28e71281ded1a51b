"""The notifier's HTTP application in this process: its real routes, store and errors, no Kafka and no deliveries."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from services.notifier.adapters.http import NotifierState
from services.notifier.adapters.sender import HttpSender
from services.notifier.app import make_app
from services.notifier.settings import NotifierSettings
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.processing.processor import BatchProcessor
from shared.web.api_keys import KEY_CREDENTIAL, Keyring
from shared.web.concurrency import HeldRequests
from shared.web.revocation import CredentialWatch
from tests.gateway_app import issued_key
from tests.unit.fake_relay import NotingRelay


@contextlib.asynccontextmanager
async def notifier_app(folder: Path, **settings: Any) -> AsyncIterator[tuple[FastAPI, str]]:
    """A notifier on a new SQLite database, and an administrator's key. It sends tests and challenges. Under `/socket.io` an application of one answer stands for Socket.IO."""
    store = open_store(f"sqlite:///{folder}/notifier.db")
    await migrate(store, "notifier")
    relay, keyring = NotingRelay(), Keyring(store)
    stream: Any = None
    made = NotifierSettings(data_dir=folder, **settings)
    sender = HttpSender(5, made.trusted)
    held = HeldRequests("streams", 10, 10, 10)
    state = NotifierState(
        made, store, BatchProcessor("notifier", store, relay, relay.telemetry), keyring, stream, held, sender, sender
    )
    watch = CredentialWatch({KEY_CREDENTIAL: keyring.valid_keys})
    yield make_app(state, PlainTextResponse("socket"), watch, relay.telemetry), await issued_key(store, "admin", "default")
    await sender.close()
    await store.close()
