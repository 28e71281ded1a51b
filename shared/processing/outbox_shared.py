"""The relay where replicas share a database: a shard's rows leave in the order of their commit, whoever sends them.

A row's shard is the partition of its key, so that in steady state a replica meets only itself: what it reads and what follows
from it have one key. Replicas of which each handled something for the same key (a rebalance, a timer) meet in the shard's
advisory lock. A transaction takes it as its last act but writing the rows, and its session keeps it until Kafka has them: what
another left there goes first, and nobody comes between. A session that says nothing for `PATIENCE_S` meanwhile is ended by the
server, and its rows are left to whoever comes next (same ids: receivers drop repeats). Of a transaction, one statement more and
one after the sending; a second transaction for the sending cost six, four of them before anything was sent.

A queue's table is mostly dead rows, and looking past them costs more the longer nobody vacuums. So each replica remembers of every
shard the last id that it wrote there: under the lock it saw all that came before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database.postgres import PostgresStore, abandon, passing
from shared.database.statements import Statement
from shared.database.store import Store
from shared.kafka.outgoing import Outgoing
from shared.kafka.producer_batches import key_hash
from shared.processing.outbox import Relay
from shared.processing.outbox_codec import INSERT_SHARDS, shard_values, unpack
from shared.telemetry.tracing import Telemetry

T = TypeVar("T")
PAGE = 200
"""Batches read in one go of what somebody else left; it is seldom more than a few."""
PATIENCE_S = 4
"""As long as for a session that is silent within a transaction (`shared/database/postgres.py`)."""
# Whatever the statistics say of a table that is full and empty by turns: only a plain scan of an index remembers which of its entries are
# dead.
_PLAIN = "set_config('enable_seqscan', '{0}', {1}), set_config('enable_bitmapscan', '{0}', {1})"
_SHARD = "hashtext(current_schema()), CAST(value AS int)"
# Locks in ascending order, as everybody takes them.
_TAKE = Statement(
    f"SELECT {_PLAIN.format('off', 'false')}, set_config('idle_session_timeout', '{PATIENCE_S}s', false), "
    f"pg_advisory_lock({_SHARD}) FROM [shards]"
)
# By id, not by the index on shards: that one does not know where the dead rows end.
_LEFT = "SELECT id, '' AS shard FROM outbox_batch WHERE id > :low AND shard || '' IN (SELECT value FROM [shards])"
_WRITE = Statement(f"WITH new AS ({INSERT_SHARDS}) SELECT id, shard FROM new UNION ALL {_LEFT}")
# Deleted before the lock is given up, whatever order the planner likes; what a lazy commit loses in a crash are deletions, and the rows
# are sent again. Whoever reads a row just then waits for the commit (`FOR UPDATE` in `_BATCHES`) and finds it gone.
_GIVE = Statement(
    f"WITH gone AS (DELETE FROM outbox_batch WHERE id = ANY(CAST(:ids AS bigint[])) RETURNING 1) SELECT {_PLAIN.format('on', 'false')}, "
    "set_config('synchronous_commit', 'off', true), set_config('idle_session_timeout', '0', false), "
    f"pg_advisory_unlock({_SHARD}) FROM [shards] WHERE (SELECT count(*) FROM gone) >= 0"
)
_STILL_THERE = text("SELECT 1")
_WAITING = text("SELECT DISTINCT shard FROM outbox_batch")
_LOCK = Statement(
    f"SELECT {_PLAIN.format('off', 'true')}, set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock({_SHARD}) FROM [shards]"
)
_PAGE = Statement(f"SELECT id FROM ({_LEFT}) x ORDER BY id")
_BATCHES = text("SELECT id, body FROM outbox_batch WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE")
_DROP = text("DELETE FROM outbox_batch WHERE id = ANY(CAST(:ids AS bigint[]))")


@dataclass(slots=True)
class _Taken:
    """What a transaction wrote and found in the shards that its session has locked."""

    shards: str
    ours: dict[int, list[Outgoing]]
    others: list[int]
    at: float = field(default_factory=time.monotonic)
    connection: AsyncConnection | None = None


class SharedRelay(Relay):
    """As `Relay`, over a table that other replicas write to as well. `partitions` is that of the hot topics."""

    def __init__(self, producer: AIOKafkaProducer, telemetry: Telemetry, partitions: int) -> None:
        super().__init__(producer, telemetry, "")
        self.partitions = partitions
        self.low: dict[str, int] = {}
        """Shard → id up to which nothing is left in it, for ever."""
        self._taken: _Taken | None = None

    def _shard(self, row: Outgoing) -> str:
        return str(key_hash(row.key) % self.partitions) if row.key else "0"

    async def transact(self, store: Store, work: Callable[[Connection], T]) -> T:
        assert isinstance(store, PostgresStore)
        self._taken = None
        result, connection = await store.begin(work)
        await self._keep(connection)
        return result

    async def _keep(self, connection: AsyncConnection) -> None:
        if self._taken is None:
            await connection.close()
        else:
            self._taken.connection = connection

    def write_rows(self, connection: Connection, rows: list[Outgoing], now: float) -> Any:
        if not rows:
            return None
        rows.sort(key=lambda row: not row.urgent)
        batches: dict[str, list[Outgoing]] = {}
        for row in rows:
            batches.setdefault(self._shard(row), []).append(row)
        shards = json.dumps(sorted(batches, key=int))
        _TAKE.run(connection, {"shards": shards})
        values = {"shards": shards, "low": min(self.low.get(shard, 0) for shard in batches), **shard_values(batches, now)}
        # After the locks, in a statement of its own: it must see what was committed while we waited.
        found = _WRITE.run(connection, values).all()
        ours = {id_: batches[shard] for id_, shard in found if shard}
        others = sorted(id_ for id_, shard in found if not shard)
        self._taken = _Taken(shards, ours, others)
        return self._taken

    async def publish_left_behind(self, store: Store) -> None:
        if self.left_behind:
            await self._clear(store)
            self.left_behind = False

    async def publish_rows(self, store: Store, rows: Sequence[Outgoing], written: _Taken | None) -> None:
        if written is None:
            return
        connection = written.connection
        assert connection is not None
        try:
            with passing():
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                if time.monotonic() - written.at > PATIENCE_S / 2:
                    # Stopped meanwhile, perhaps for so long that others have sent these and later ones.
                    await connection.execute(_STILL_THERE)
                await self._send_others(connection, written.others)
                await self.send_in_order([row for id_ in sorted(written.ours) for row in written.ours[id_]])
                await connection.run_sync(lambda c: _GIVE.run(c, {"ids": list(written.ours), "shards": written.shards}))
        except BaseException:
            # The locks go with the session, the rows stay.
            self.left_behind = True
            await abandon(connection)
            raise
        await connection.close()
        newest = max(written.ours)
        self.low.update((shard, newest) for shard in json.loads(written.shards))

    def mark_committed(self) -> None:
        """Nothing is kept in memory."""

    def sweep(self) -> None:
        """Another replica may have died with rows unsent: the next transaction sends them."""
        self.left_behind = True

    async def _clear(self, store: Store) -> None:
        """Send what lies in any shard, in the order of the ids."""
        assert isinstance(store, PostgresStore)
        waiting = await store.read(lambda c: c.execute(_WAITING).scalars().all())
        if not waiting:
            return
        values = {"shards": json.dumps(sorted(set(waiting), key=int)), "low": 0}
        async with store.transaction() as connection:
            await connection.run_sync(lambda c: _LOCK.run(c, {"shards": values["shards"]}))
            ids = await connection.run_sync(lambda c: list(_PAGE.run(c, values).scalars()))
            await self._send_others(connection, ids)

    async def _send_others(self, connection: AsyncConnection, ids: Sequence[int]) -> None:
        """Send what somebody else decided, and delete it."""
        for start in range(0, len(ids), PAGE):
            page = {"ids": ids[start : start + PAGE]}
            found = await connection.run_sync(lambda c, p=page: _read(c, p))  # type: ignore[misc]
            await self.send_in_order([row for id_ in sorted(found) for row in found[id_]])
            await connection.execute(_DROP, page)


def _read(connection: Connection, page: Mapping[str, Sequence[int]]) -> dict[int, list[Outgoing]]:
    return {row.id: unpack(row.body) for row in connection.execute(_BATCHES, page)}
