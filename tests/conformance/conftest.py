"""A fresh, migrated store of any service, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.store import Store
from shared.settings import Settings

Opener = Callable[[str], Awaitable[Store]]
_numbers = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """`await opened(service)`: a store of that service. A second call for the same service gives another replica's view of it."""
    number = next(_numbers)
    stores: list[Store] = []

    async def make(service: str) -> Store:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path}/{service}.db"
        else:
            server = request.getfixturevalue("postgres_url")
            url = Settings(database_url=f"{server}?schema=t{number}_{service}").database_for(service)
        store = open_store(url)
        await migrate(store, service)
        stores.append(store)
        return store

    yield make
    for store in stores:
        await store.close()
