"""Seal keys on both databases: made, renewed, punctured by erasure and forgotten; readers of the topic agree with the store."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.sealing import SealKeys
from services.job_orchestrator.adapters.seal_store import SqlSealStore
from services.job_orchestrator.publishing.seal_keys import KEEP_S, RENEW_S, SealKeyTimer, destroy_keys
from shared.database.store import Store
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener

T0 = 1_800_000_000.0
HEADERS = (("content-type", b"application/json"),)


class Sealing:
    """The timer and the erasure on a store, and a reader of what they tell."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reader = SealKeys(AESGCM)
        self.timer = SealKeyTimer(SqlSealStore)

    async def _run(self, now: float, work: Any) -> int:
        def transaction(connection: Any) -> int:
            unit = Unit(connection, now, "/test", Telemetry("test", "test"))
            work(unit)
            for row in unit.outgoing:
                key_id, _, part = row.key.decode().rpartition("/")
                body = json.loads(row.value) if row.value else {}
                at = datetime.fromisoformat(body["created_at"]).timestamp() if body else 0.0
                self.reader.apply(key_id, int(part), body.get("nodes"), at)
            return len(unit.outgoing)

        told: int = await self.store.transact(transaction)
        return told

    async def renew(self, now: float) -> int:
        return await self._run(now, lambda unit: self.timer.fire(unit, 1))

    async def erase(self, subject: str, since: float, now: float) -> int:
        return await self._run(now, lambda unit: destroy_keys(unit, SqlSealStore(unit.connection), [subject], since))

    def sealed(self, subject: str) -> Any:
        return self.reader.seal(subject.encode(), b"{}", HEADERS, b"n" * 12)

    def readable(self, subject: str, sealed: Any) -> bool:
        try:
            return self.reader.open(subject.encode(), *sealed)[0] == b"{}"
        except ValueError:
            return False


async def test_an_erasure_reaches_every_key_that_the_job_was_sealed_with_and_no_other_job(opened: Opener) -> None:
    made = Sealing(await opened("job_orchestrator"))
    assert await made.store.read(made.timer.next_due) == 0
    assert await made.erase("early", T0, T0) == 0, "there is nothing to destroy"
    assert await made.renew(T0) == 1
    assert await made.store.read(made.timer.next_due) == T0 + RENEW_S
    subjects = [str(uuid.uuid4()) for _ in range(40)]
    first = {s: made.sealed(s) for s in subjects}
    assert await made.renew(T0 + RENEW_S - 1) == 0, "not due"
    assert await made.renew(T0 + RENEW_S) == 1
    second = {s: made.sealed(s) for s in subjects}
    assert dict(first[subjects[0]][1])["stageline-seal"] != dict(second[subjects[0]][1])["stageline-seal"]
    for erased in subjects[:20]:
        assert await made.erase(erased, T0, T0 + RENEW_S + 5) > 0
    for n, subject in enumerate(subjects):
        assert [made.readable(subject, sealed[subject]) for sealed in (first, second)] == [n >= 20, n >= 20], n
    assert made.sealed(subjects[0]) is None
    assert await made.erase(subjects[0], T0, T0 + RENEW_S + 6) == 0, "a repeat tells nothing"


async def test_a_job_that_began_after_a_key_was_renewed_does_not_touch_the_old_one(opened: Opener) -> None:
    made = Sealing(await opened("job_orchestrator"))
    await made.renew(T0)
    old = made.sealed("job")
    await made.renew(T0 + RENEW_S)
    await made.erase("job", T0 + RENEW_S + 3600, T0 + RENEW_S + 7200)
    assert made.readable("job", old), "nothing of this job was sealed with it"
    assert made.sealed("job") is None


async def test_keys_that_no_record_needs_any_more_are_forgotten(opened: Opener) -> None:
    made = Sealing(await opened("job_orchestrator"))
    await made.renew(T0)
    await made.erase("job", T0, T0 + 1)
    other = made.sealed("other")
    await made.renew(T0 + RENEW_S)
    assert made.readable("other", other)
    assert await made.renew(T0 + RENEW_S + KEEP_S + 1) > 1
    assert not made.readable("other", other)
    with pytest.raises(LookupError):
        SealKeys(AESGCM).seal(b"job", b"{}", HEADERS, b"n" * 12)
