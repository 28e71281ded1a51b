"""The relay of replicas that share a database: the rows of a shard are published in the order of their commits.

A row's shard is the partition of its key. In steady state one replica writes to a shard: the records it reads and the records
it emits have the same key. After a rebalance or a timer, two replicas may write to one shard. They wait for each other in the
shard's advisory lock. A transaction takes the lock before it writes its rows, and its session holds it until Kafka has them. Rows
that another replica left in the shard are published first. The server ends a session that is silent for `PATIENCE_S`; the next
holder of the lock publishes its rows, under the same ids, so receivers drop duplicates.

The table is mostly dead rows, and a scan over them takes longer the longer vacuum has not run. So each replica remembers, for each
shard, the last id that it wrote there: under the lock it has seen all earlier ones.
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

from shared import clock
from shared.database.postgres import PostgresStore, abandon
from shared.database.statements import Statement
from shared.database.store import Store
from shared.kafka.outgoing import Outgoing
from shared.kafka.producer_batches import key_hash
from shared.processing import held_back
from shared.processing.outbox import Relay
from shared.processing.outbox_codec import INSERT_SHARDS, shard_values, unpack
from shared.telemetry.tracing import Telemetry

T = TypeVar("T")
PAGE = 200
"""Rows of other replicas that are read at a time."""
PATIENCE_S = 4
"""Seconds after which the server ends a silent session that holds locks; as `idle_in_transaction_session_timeout`."""
# Only a plain index scan marks dead entries, so the planner must not choose another by statistics of a table that is often empty.
_PLAIN = "set_config('enable_seqscan', '{0}', {1}), set_config('enable_bitmapscan', '{0}', {1})"
_SHARD = "hashtext(current_schema()), CAST(value AS int)"
# All replicas take locks in ascending order.
_TAKE = Statement(
    f"SELECT {_PLAIN.format('off', 'false')}, set_config('idle_session_timeout', '{PATIENCE_S}s', false), "
    f"pg_advisory_lock({_SHARD}) FROM [shards]"
)
# By id: the index on shards cannot tell where the dead rows end.
_LEFT = "SELECT id, '' AS shard FROM outbox_batch WHERE id > :low AND shard || '' IN (SELECT value FROM [shards])"
_WRITE = Statement(f"WITH new AS ({INSERT_SHARDS}) SELECT id, shard FROM new UNION ALL {_LEFT}")
# The count makes PostgreSQL delete before it unlocks. A crash may lose this lazy commit; then the rows are sent again. A replica
# that reads a row meanwhile waits for the commit (`FOR UPDATE` in `_BATCHES`).
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
class _LockedShards:
    """A session that holds the locks of `shards`: the rows it wrote (`ours`) and the ids of other replicas' rows (`others`)."""

    shards: str
    ours: dict[int, list[Outgoing]]
    others: list[int]
    at: float = field(default_factory=time.monotonic)
    connection: AsyncConnection | None = None


class SharedRelay(Relay):
    """As `Relay`, over a table that other replicas write to as well. `partitions`: number of partitions of the hot topics."""

    def __init__(self, producer: AIOKafkaProducer, telemetry: Telemetry, partitions: int) -> None:
        super().__init__(producer, telemetry, "")
        self.partitions = partitions
        self.low: dict[str, int] = {}
        """Shard → id up to which its rows are published and deleted."""
        self._locked: _LockedShards | None = None

    def _shard(self, row: Outgoing) -> str:
        return str(key_hash(row.key) % self.partitions) if row.key else "0"

    async def transact(self, store: Store, work: Callable[[Connection], T]) -> T:
        assert isinstance(store, PostgresStore)
        self._locked = None
        result, connection = await store.begin(work)
        await self._keep(connection)
        return result

    async def _keep(self, connection: AsyncConnection) -> None:
        if self._locked is None:
            await connection.close()
        else:
            self._locked.connection = connection

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
        # A statement of its own, after the locks, sees the rows that were committed while this session waited.
        found = _WRITE.run(connection, values).all()
        ours = {id_: batches[shard] for id_, shard in found if shard}
        others = sorted(id_ for id_, shard in found if not shard)
        self._locked = _LockedShards(shards, ours, others)
        return self._locked

    async def publish_left_behind(self, store: Store) -> None:
        if self.left_behind:
            self.held = await store.read(held_back.read)
            await self._clear(store)
            self.left_behind = False

    async def publish_rows(self, store: Store, rows: Sequence[Outgoing], written: _LockedShards | None) -> None:
        if written is None:
            return
        connection = written.connection
        assert connection is not None and isinstance(store, PostgresStore)
        try:
            with store.watched(writing=True):
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                if time.monotonic() - written.at > PATIENCE_S / 2:
                    # The process may have been stopped for so long that another replica has published these rows.
                    await connection.execute(_STILL_THERE)
                await self._send_others(connection, written.others)
                await self._send_or_keep(connection, [row for id_ in sorted(written.ours) for row in written.ours[id_]])
                await connection.run_sync(lambda c: _GIVE.run(c, {"ids": list(written.ours), "shards": written.shards}))
        except BaseException:
            # Ending the session releases the locks; the rows stay.
            self.left_behind = True
            await abandon(connection)
            raise
        await connection.close()
        newest = max(written.ours)
        self.low.update((shard, newest) for shard in json.loads(written.shards))

    def mark_committed(self) -> None:
        """Nothing to do: nothing is kept in memory."""

    def sweep(self) -> None:
        """Called every few seconds. The next transaction looks for rows of replicas that died."""
        self.left_behind = True

    async def _clear(self, store: Store) -> None:
        """Publish and delete the rows of all shards, in the order of their ids."""
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
        """Publish and delete rows of other replicas."""
        for start in range(0, len(ids), PAGE):
            page = {"ids": ids[start : start + PAGE]}
            found = await connection.run_sync(lambda c, p=page: _read(c, p))  # type: ignore[misc]
            await self._send_or_keep(connection, [row for id_ in sorted(found) for row in found[id_]])
            await connection.execute(_DROP, page)

    async def _send_or_keep(self, connection: AsyncConnection, rows: Sequence[Outgoing]) -> None:
        refused, now = await self.send_in_order(rows), clock.unix()
        if refused:
            await connection.run_sync(lambda c: held_back.keep(c, refused, now))


def _read(connection: Connection, page: Mapping[str, Sequence[int]]) -> dict[int, list[Outgoing]]:
    return {row.id: unpack(row.body) for row in connection.execute(_BATCHES, page)}
