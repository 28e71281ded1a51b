"""The relay where replicas share a database: a shard's rows leave in the order of their commit, whoever sends them.

A row's shard is the partition of its key, so that in steady state a replica meets only itself: what it reads and what follows
from it have one key. Replicas of which each handled something for the same key (a rebalance, a timer) meet in the shard's
advisory lock, and whoever holds it sends all of the shard's rows in the order of their ids. Per key this is the order of the
commits, because the row of a job or session is locked before its outbox rows are numbered.

A queue's table is mostly dead rows, and looking past them costs more the longer nobody vacuums. So each replica knows for every
shard an id below which nothing is left, nor can come: an id is settled once every transaction has ended that was under way when
it had been given out (`pg_current_snapshot`), and left behind once the shard was emptied after that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from sqlalchemy import Connection, text

from shared.batches import key_hash
from shared.outbox import Relay
from shared.packing import insert_batches, of_row, unpack
from shared.postgres import PostgresStore
from shared.sql import Statement
from shared.store import Store
from shared.telemetry import Telemetry
from shared.unit import Outgoing

PAGE = 200
"""Batches sent in one go; what lies there is seldom more than a few."""
# In ascending order, as everybody takes them.
_LOCK = Statement("SELECT pg_advisory_xact_lock(hashtext(current_schema()), CAST(value AS int)) FROM [shards]")
# By id, not by the index on shards: that one does not know where the dead rows end. `outbox` is what the release before writes.
_PAGE = Statement(
    "SELECT id FROM outbox_batch WHERE id > :low AND shard || '' IN (SELECT value FROM [shards]) UNION ALL "
    "SELECT id FROM outbox WHERE id > :low AND shard || '' IN (SELECT value FROM [shards]) ORDER BY id LIMIT :limit"
)
_WAITING = text("SELECT shard FROM outbox_batch UNION SELECT shard FROM outbox")
_HORIZON = text(
    "SELECT CAST(CAST(pg_snapshot_xmin(s) AS text) AS bigint), CAST(CAST(pg_snapshot_xmax(s) AS text) AS bigint) FROM pg_current_snapshot() s"
)
LOOK_EVERY_S = 0.5
_BATCHES = text("SELECT id, body FROM outbox_batch WHERE id = ANY(CAST(:ids AS bigint[]))")
_ROWS = text("SELECT * FROM outbox WHERE id = ANY(CAST(:ids AS bigint[]))")
_DROP = text("DELETE FROM outbox_batch WHERE id = ANY(CAST(:ids AS bigint[]))")
_DROP_ROWS = text("DELETE FROM outbox WHERE id = ANY(CAST(:ids AS bigint[]))")
# What a lazy commit loses in a crash are deletions: the rows are sent again with the same ids. And whatever the statistics say of a table
# that is full and empty by turns: only a plain scan of an index remembers which of its entries are dead.
_LAZY = text(
    "SELECT "
    + ", ".join(f"set_config('{name}', 'off', true)" for name in ("synchronous_commit", "enable_seqscan", "enable_bitmapscan"))
)


class SharedRelay(Relay):
    """As `Relay`, over a table that other replicas write to as well. `partitions` is that of the hot topics."""

    def __init__(self, producer: AIOKafkaProducer, telemetry: Telemetry, partitions: int) -> None:
        super().__init__(producer, telemetry, "")
        self.partitions = partitions
        self.low: dict[str, int] = {}
        """Shard → id up to which nothing is left in it, for ever."""
        self._settled = 0
        self._mark: tuple[int, int] | None = None
        self._looked_at = 0.0

    def _shard(self, row: Outgoing) -> str:
        return str(key_hash(row.key) % self.partitions) if row.key else "0"

    def write(self, connection: Connection, rows: list[Outgoing], now: float) -> Any:
        rows.sort(key=lambda row: not row.urgent)
        shards = [self._shard(row) for row in rows]
        return set(shards), insert_batches(connection, shards, rows, now)

    async def before(self, store: Store) -> None:
        if self.left_behind:
            waiting = await store.read(lambda c: c.execute(_WAITING).scalars().all())
            await self._drain(store, waiting, {})
            self.left_behind = False

    async def after(self, store: Store, rows: Sequence[Outgoing], written: Any) -> None:
        try:
            shards, ours = written
            await self._drain(store, shards, ours, min((self.low.get(shard, 0) for shard in shards), default=0))
        except BaseException:
            self.left_behind = True
            raise

    def committed(self) -> None:
        """Nothing is kept in memory."""

    def sweep(self) -> None:
        """Another replica may have died with rows unsent: the next transaction sends them."""
        self.left_behind = True

    async def _drain(self, store: Store, shards: Collection[str], ours: dict[int, list[Outgoing]], low: int = 0) -> None:
        """Send what lies in the shards above `low`, in the order of the ids. `ours` has just been written, and need not be read."""
        assert isinstance(store, PostgresStore)
        wanted = json.dumps(sorted(shards, key=int))
        while shards:
            async with store.transaction() as connection:
                ids = await connection.run_sync(lambda c: self._locked(c, wanted, low, max(ours, default=0)))
                settled = self._settled
                if ids:
                    others = [i for i in ids if i not in ours]
                    rows = ours if not others else ours | await connection.run_sync(lambda c, o=others: _read(c, o))  # type: ignore[misc]
                    await self.send_in_order([row for i in ids for row in rows[i]])
                    await connection.execute(_DROP, {"ids": ids})
                    if others:
                        await connection.execute(_DROP_ROWS, {"ids": others})
            if len(ids) < PAGE:
                self.low.update((shard, max(self.low.get(shard, 0), settled)) for shard in shards)
                break

    def _locked(self, connection: Connection, shards: str, low: int, newest: int) -> list[int]:
        connection.execute(_LAZY)
        _LOCK.run(connection, {"shards": shards})
        if newest and time.monotonic() - self._looked_at >= LOOK_EVERY_S:
            self._look(connection, newest)
        # After the locks, in a statement of its own: it must see what was committed while we waited.
        return list(_PAGE.run(connection, {"shards": shards, "low": low, "limit": PAGE}).scalars())

    def _look(self, connection: Connection, newest: int) -> None:
        """`newest` has been given out: once all transactions of now have ended, so have those with lower ids."""
        self._looked_at = time.monotonic()
        oldest_running, next_begun = connection.execute(_HORIZON).one()
        if self._mark is not None and oldest_running >= self._mark[0]:
            self._settled, self._mark = self._mark[1], None
        if self._mark is None:
            self._mark = next_begun, newest


def _read(connection: Connection, ids: Sequence[int]) -> dict[int, list[Outgoing]]:
    batches = {row.id: unpack(row.body) for row in connection.execute(_BATCHES, {"ids": ids})}
    return batches | {row.id: [of_row(row)] for row in connection.execute(_ROWS, {"ids": ids})}
