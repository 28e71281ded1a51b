"""A looked-up key is cached for a short time, and never longer than it is valid."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from contracts import AccessKeyIssued
from shared.database.open import open_store
from shared.database.store import Store
from shared.web import api_keys
from shared.web.api_keys import ACCESS, FRESH_S, Keyring, enter_key
from shared.web.key_format import key_hash, new_key
from tests.contracts.examples import example


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def unix(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(api_keys, "clock", SimpleNamespace(unix=made.unix))
    return made


async def issued(folder: Path, key: str, expires_at: float | None) -> Store:
    """A store that holds one key."""
    store = open_store(f"sqlite:///{folder}/keys.db")
    expiry = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC)
    event = example(AccessKeyIssued).model_copy(update={"key_hash": key_hash(key), "expires_at": expiry})
    await store.transact(lambda c: (ACCESS.create(c), enter_key(c, event)))
    return store


async def test_a_key_revoked_elsewhere_ends_after_the_cache_time(tmp_path: Path, clock: Clock) -> None:
    key = new_key()
    store = await issued(tmp_path, key, None)
    keyring = Keyring(store)
    assert (await keyring.principal_of(key)) is not None and await keyring.principal_of(new_key()) is None
    await store.transact(lambda c: c.execute(ACCESS.update().values(revoked=True)))
    clock.now += FRESH_S / 2
    assert await keyring.principal_of(key) is not None
    clock.now += FRESH_S / 2
    assert await keyring.principal_of(key) is None
    await store.close()


async def test_a_cached_key_ends_when_it_expires(tmp_path: Path, clock: Clock) -> None:
    key = new_key()
    store = await issued(tmp_path, key, clock.now + FRESH_S / 2)
    keyring = Keyring(store)
    assert await keyring.principal_of(key) is not None
    clock.now += FRESH_S / 2
    assert await keyring.principal_of(key) is None
    await store.close()


async def test_a_key_revoked_here_ends_at_once(tmp_path: Path, clock: Clock) -> None:
    key = new_key()
    store = await issued(tmp_path, key, None)
    keyring = Keyring(store)
    assert await keyring.principal_of(key) is not None
    await store.transact(lambda c: c.execute(ACCESS.update().values(revoked=True)))
    keyring.clear_cache()
    assert await keyring.principal_of(key) is None
    await store.close()
