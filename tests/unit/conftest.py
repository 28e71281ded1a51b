"""Fixtures of several unit tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.database.migrate import RUNTIME, upgrade
from shared.database.open import open_store
from shared.processing.processor import BatchProcessor
from tests.unit.fake_relay import NotingRelay


@pytest.fixture
async def processor(tmp_path: Path) -> Any:
    relay = NotingRelay()
    store = open_store(f"sqlite:///{tmp_path}/t.db")
    await store.transact(lambda c: upgrade(c, {"runtime_revision": RUNTIME}))
    yield BatchProcessor("t", store, relay, relay.telemetry)
    await store.close()
