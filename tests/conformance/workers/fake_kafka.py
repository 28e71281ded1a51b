"""Kafka in memory, as far as a worker sees it: partitions, one eager group protocol, committed offsets, refused requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError, MessageSizeTooLargeError

PARTITIONS = 2


class FakeBroker:
    """Topics, groups and offsets. Clients find it by its name, as `bootstrap_servers`."""

    known: dict[str, FakeBroker] = {}

    def __init__(self, name: str) -> None:
        FakeBroker.known[name] = self
        self.log: dict[TopicPartition, list[ConsumerRecord[Any, Any]]] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.commits: list[tuple[TopicPartition, int]] = []
        self.members: list[FakeConsumer] = []
        self.created: list[str] = []
        self.refuses_records = False
        self.largest = 1 << 20
        """Bytes of a record's value at most."""
        self.changed = asyncio.Condition()

    def records(self, topic: str) -> list[ConsumerRecord[Any, Any]]:
        """All records of a topic, partition by partition."""
        return [record for tp, found in sorted(self.log.items()) if tp.topic == topic for record in found]

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: Any, partition: int = 0) -> int:
        """Write a record; returns its offset."""
        log = self.log.setdefault(TopicPartition(topic, partition), [])
        log.append(ConsumerRecord(topic, partition, len(log), 0, 0, key, value, None, 0, 0, tuple(headers)))  # type: ignore[arg-type]
        self.notify()
        return len(log) - 1

    def notify(self) -> None:
        """Let waiting consumers look again."""

        async def wake() -> None:
            async with self.changed:
                self.changed.notify_all()

        task = asyncio.get_running_loop().create_task(wake())
        task.add_done_callback(lambda _: None)

    async def rebalance(self) -> None:
        """Revoke everything, then share the partitions out again, as Kafka's eager protocol does."""
        living = [m for m in self.members if not m.dead]
        for member in living:
            member.rebalancing = True
            await member.listener.on_partitions_revoked(set(member.positions))
        topics = sorted({topic for m in living for topic in m.topics})
        shared: list[dict[TopicPartition, int]] = [{} for _ in living]
        for topic in topics:
            for partition in range(PARTITIONS if living else 0):
                tp = TopicPartition(topic, partition)
                shared[partition % len(living)][tp] = self.committed.get(tp, 0)
        for member, positions in zip(living, shared, strict=True):
            member.positions, member.rebalancing = positions, False
            await member.listener.on_partitions_assigned(set(positions))
        self.notify()


class NoListener:
    """A consumer without a group is not rebalanced."""

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing to do."""

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Nothing to do."""


class Mortal:
    """A client whose process may die: from then on none of its calls has an effect, or returns."""

    dead = False

    async def alive(self) -> None:
        """Return while the process lives."""
        if self.dead:
            await asyncio.Event().wait()


class FakeConsumer(Mortal):
    """`AIOKafkaConsumer` as the kit and the stage worker use it."""

    made: list[FakeConsumer] = []

    def __init__(self, *topics: str, bootstrap_servers: str, group_id: str | None = None, **_: Any) -> None:
        FakeConsumer.made.append(self)
        self.broker = FakeBroker.known[bootstrap_servers]
        self.topics = list(topics)
        self.group = group_id
        self.listener: Any = NoListener()
        self.positions: dict[TopicPartition, int] = {}
        self.rebalancing = False
        self._fetcher = self._coordinator = SimpleNamespace()

    def subscribe(self, topics: Iterable[str], listener: Any = None) -> None:
        """Choose topics and a rebalance listener."""
        self.topics, self.listener = list(topics), listener or self.listener

    async def start(self) -> None:
        """Join the group; without one, read every partition."""
        if self.group is None:
            self.positions = {TopicPartition(t, p): 0 for t in self.topics for p in range(PARTITIONS)}
            return
        self.broker.members.append(self)
        await self.broker.rebalance()

    async def stop(self) -> None:
        """Leave the group."""
        if self in self.broker.members and not self.dead:
            await self.listener.on_partitions_revoked(set(self.positions))
            self.broker.members.remove(self)
            self.positions = {}
            await self.broker.rebalance()

    def assignment(self) -> set[TopicPartition]:
        """Partitions that are ours."""
        return set(self.positions)

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Partition → offset after its last record."""
        return {tp: len(self.broker.log.get(tp, [])) for tp in partitions}

    async def position(self, partition: TopicPartition) -> int:
        """Offset of the next record."""
        return self.positions[partition]

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit explicit offsets of partitions that are ours."""
        await self.alive()
        if not set(offsets) <= set(self.positions):
            raise CommitFailedError
        self.broker.committed.update(offsets)
        self.broker.commits += offsets.items()

    async def getmany(self, timeout_ms: int = 0, max_records: int = 500) -> dict[TopicPartition, list[ConsumerRecord[Any, Any]]]:
        """Partition → records, as many as there are; waits for the first of them."""
        while True:
            await self.alive()
            found: dict[TopicPartition, list[ConsumerRecord[Any, Any]]] = {}
            room = max_records
            for tp in [] if self.rebalancing else sorted(self.positions):
                batch = self.broker.log.get(tp, [])[self.positions[tp] :][:room]
                self.positions[tp] += len(batch)
                room -= len(batch)
                if batch:
                    found[tp] = batch
            if found:
                return found
            async with self.broker.changed:
                await self.broker.changed.wait()

    async def getone(self) -> ConsumerRecord[Any, Any]:
        """The next record."""
        [[record]] = (await self.getmany(max_records=1)).values()
        return record

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord[Any, Any]]:
        while True:
            yield await self.getone()


class FakeProducer(Mortal):
    """`AIOKafkaProducer` as the kit and the services' relay use it."""

    made: list[FakeProducer] = []

    def __init__(self, bootstrap_servers: str, **_: Any) -> None:
        FakeProducer.made.append(self)
        self.broker = FakeBroker.known[bootstrap_servers]
        # All topics have as many partitions, and nobody numbers records.
        self.client = SimpleNamespace(cluster=SimpleNamespace(partitions_for_topic=lambda topic: set(range(PARTITIONS))))
        self._txn_manager = None

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def send(
        self, topic: str, value: Any = None, key: Any = None, headers: Any = (), partition: int = 0
    ) -> asyncio.Future[None]:
        """Append a record, or refuse it."""
        return await self._write(topic, [(key, value, headers)])

    async def send_and_wait(self, topic: str, value: Any = None, key: Any = None, headers: Any = ()) -> None:
        """Append a record."""
        await (await self._write(topic, [(key, value, headers)]))

    def create_batch(self) -> FakeBatch:
        """An empty batch."""
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, topic: str, partition: int) -> asyncio.Future[None]:
        """Append the records of a batch, or refuse them."""
        return await self._write(topic, batch.rows, partition)

    async def _write(self, topic: str, rows: list[tuple[Any, Any, Any]], partition: int = 0) -> asyncio.Future[None]:
        await self.alive()
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.broker.refuses_records:
            sent.set_exception(KafkaConnectionError("refused"))
        elif any(len(value or b"") > self.broker.largest for _, value, _ in rows):
            sent.set_exception(MessageSizeTooLargeError("too large"))
        else:
            for key, value, headers in rows:
                self.broker.append(topic, key, value, headers, partition)
            sent.set_result(None)
        return sent


class FakeAdmin:
    """`AIOKafkaAdminClient` as the kit uses it."""

    def __init__(self, bootstrap_servers: str, **_: Any) -> None:
        self.broker = FakeBroker.known[bootstrap_servers]

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to close."""

    async def list_topics(self) -> list[str]:
        """Topics that have a record."""
        return [tp.topic for tp in self.broker.log]

    async def describe_topics(self, topics: list[str]) -> list[Any]:
        """One replica of each partition."""
        return [{"topic": topic, "partitions": [{"replicas": [1]}]} for topic in topics]

    async def create_topics(self, topics: list[Any]) -> Any:
        """Note the names; a topic needs no more here."""
        self.broker.created += [topic.name for topic in topics]
        return SimpleNamespace(topic_errors=[(topic.name, 0, None) for topic in topics])


class FakeBatch:
    """A batch under construction."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, Any, Any]] = []

    def append(self, *, timestamp: int | None, key: Any, value: Any, headers: Any) -> bool:
        """Add one record; it always fits."""
        self.rows.append((key, value, headers))
        return True
