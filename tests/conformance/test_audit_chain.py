"""The audit's chain of hashes on both databases: it shows what was changed, with replicas that write at once and after pruning."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, text

from services.ingest.adapters.store import audit
from services.ingest.adapters.store.audit import Entry
from services.ingest.adapters.store.audit_verification import ChainVerifier, Fault, Verification
from shared.database.store import Store
from tests.conformance.conftest import Opener


def entries(first: int, count: int, tenant: str = "t", at: float = 1000.0) -> list[Entry]:
    return [Entry(tenant, at + n, "key.issue", f"k-{n}", "ann") for n in range(first, first + count)]


async def add(store: Store, first: int, count: int, **more: Any) -> None:
    await store.transact(lambda c: audit.add_entries(c, entries(first, count, **more)))


async def verified(store: Store, known: tuple[int, str] | None = None) -> Verification:
    return await ChainVerifier(store, known).verify()


async def change(store: Store, statement: str, **values: Any) -> None:
    await store.transact(lambda c: c.execute(text(statement), values) and None)


async def test_an_empty_and_a_whole_chain(opened: Opener) -> None:
    store = await opened("ingest")
    assert (await verified(store)).fault is None
    await add(store, 0, 3)
    await add(store, 3, 2, tenant="other")
    found = await verified(store)
    assert (found.fault, found.rows, found.first_seq, found.head_seq, found.unchained) == (None, 5, 1, 5, 0)


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        ("UPDATE audit SET body = replace(body, 'ann', 'bob') WHERE seq = 3", 3, "does not match"),
        ("UPDATE audit SET at = at + 1 WHERE seq = 4", 4, "does not match"),
        ("UPDATE audit SET tenant_id = 'x' WHERE seq = 1", 1, "does not match"),
        ("DELETE FROM audit WHERE seq = 3", 3, "missing"),
        ("DELETE FROM audit WHERE seq = 1", 1, "missing"),
        ("DELETE FROM audit WHERE seq >= 4", 4, "missing"),
        ("DELETE FROM audit", 1, "missing"),
        ("UPDATE audit_chain SET head_seq = 4", 5, "follows the one"),
        ("UPDATE audit_chain SET head_hash = anchor_hash", 5, "not the one"),
        ("DELETE FROM audit_chain", 1, "ends of the chain"),
        ("INSERT INTO audit (tenant_id, at, body, seq, hash) VALUES ('t', 1, '{}', 6, 'x')", 6, "follows the one"),
    ],
)  # fmt: skip
async def test_the_first_broken_row_is_named(opened: Opener, statement: str, seq: int, reason: str) -> None:
    store = await opened("ingest")
    await add(store, 0, 5)
    await change(store, statement)
    fault = (await verified(store)).fault
    assert isinstance(fault, Fault) and fault.seq == seq and reason in fault.reason


async def test_a_chain_that_was_computed_again_does_not_have_the_head_that_was_noted(opened: Opener) -> None:
    store = await opened("ingest")
    await add(store, 0, 5)
    before = await verified(store)
    noted = before.head_seq, before.head_hash
    await add(store, 5, 2)
    assert (await verified(store, noted)).fault is None
    await change(store, "DELETE FROM audit")
    await change(store, "DELETE FROM audit_chain")
    await add(store, 1, 7)
    assert (await verified(store)).fault is None, "without a noted head nobody can tell"
    fault = (await verified(store, noted)).fault
    assert fault is not None and fault.seq == 5 and "noted" in fault.reason
    fault = (await verified(store, (99, noted[1]))).fault
    assert fault is not None and "ends before" in fault.reason


async def test_replicas_that_write_at_once_make_one_chain(opened: Opener) -> None:
    stores = [await opened("ingest") for _ in range(3)]
    # On SQLite a file has one process, so that one store writes.
    writers = stores if stores[0].shared else stores[:1]
    await asyncio.gather(*(add(writers[n % len(writers)], 10 * n, 3) for n in range(30)))
    found = await verified(stores[0])
    assert (found.fault, found.rows, found.head_seq) == (None, 90, 90)


async def test_verification_is_right_beside_writers_and_pruning(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PART", 7)
    monkeypatch.setattr("services.ingest.adapters.store.audit_verification.PART", 7)
    store = await opened("ingest")
    await add(store, 0, 50)

    async def write() -> None:
        for n in range(20):
            await add(store, 50 + n, 1)
            await store.transact(lambda c: audit.prune(c, 1000.0 + 2 * n))  # noqa: B023 - run at once

    writing = asyncio.create_task(write())
    while not writing.done():
        assert (await verified(store)).fault is None
    await writing
    assert (await verified(store)).fault is None


async def test_pruning_leaves_a_chain_that_verifies(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PART", 4)
    store = await opened("ingest")
    await add(store, 0, 10)
    await add(store, 0, 1, at=0.0)
    assert [await store.transact(lambda c: audit.prune(c, 1006.0)) for _ in range(3)] == [4, 2, 0], "a part at a time"
    found = await verified(store)
    assert (found.fault, found.rows, found.first_seq) == (None, 5, 7), (
        "a row that is older than its place says stays until its turn"
    )
    await change(store, "DELETE FROM audit WHERE seq = 7")
    fault = (await verified(store)).fault
    assert fault is not None and fault.seq == 7, "the anchor shows a row that was deleted without pruning"
    await store.transact(lambda c: audit.prune(c, 9999.0))


async def test_all_rows_may_be_pruned(opened: Opener) -> None:
    store = await opened("ingest")
    await add(store, 0, 3)
    assert await store.transact(lambda c: audit.prune(c, 9999.0)) == 3
    found = await verified(store)
    assert (found.fault, found.rows, found.head_seq) == (None, 0, 3)
    await add(store, 3, 1)
    assert (await verified(store)).fault is None


async def test_rows_of_an_older_release_are_adopted(opened: Opener) -> None:
    store = await opened("ingest")

    def older(c: Connection) -> None:
        for n in range(3):
            c.execute(text("INSERT INTO audit (tenant_id, at, body) VALUES ('t', :at, '{}')"), {"at": float(n)})

    await store.transact(older)
    await add(store, 0, 1)
    found = await verified(store)
    assert (found.fault, found.rows, found.unchained) == (None, 1, 3)
    assert await store.transact(audit.adopt) == 3 and await store.transact(audit.adopt) == 0
    found = await verified(store)
    assert (found.fault, found.rows, found.unchained) == (None, 4, 0)
