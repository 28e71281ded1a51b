"""A replica of a service: polls, decides in one transaction, publishes its outbox, commits offsets. It may die between any two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts import Message, ReportRefused, StageReport, TaskStatus
from shared.errors import DeadLetter
from shared.kafka.outgoing import Outgoing
from shared.processing.inbox import DedupPolicy
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from tests.simulation.broker import Entry, Place
from tests.simulation.stores import Database, Row, Transaction

Handler = Callable[[Unit, Sequence[Inbound]], Any]
ENDS = (TaskStatus.OK, TaskStatus.KO, TaskStatus.ERR, TaskStatus.SKIP)
"""Statuses of a report that ends an attempt."""


class Silent:
    """Telemetry that records nothing."""

    enabled = False

    def create_span(self, message: Message, topic: str, trace: str | None) -> str | None:
        return None

    def count(self, name: str, value: int, **facts: Any) -> None:
        return None


SILENT: Any = Silent()


class Emitting(Unit):
    """A unit that keeps the messages of its rows, so that no test has to parse them."""

    __slots__ = ("messages",)

    def emit(self, topic: str, message: Message, trace: str | None, command: bool = False, traced: bool = True) -> None:
        super().emit(topic, message, trace, command, traced)
        self.messages[id(self.outgoing[-1])] = message


@dataclass
class Node:
    """`handler` applies a batch; `inbox` is the dedup policy by message."""

    world: Any
    name: str
    group: str
    topics: tuple[str, ...]
    database: Database
    handler: Handler
    inbox: Callable[[Message], DedupPolicy] = lambda message: DedupPolicy.BY_ID
    positions: dict[Place, int] = field(default_factory=dict)
    work: Iterator[str] | None = None
    alive: bool = True
    holds: set[int] = field(default_factory=set)
    """Shards of the outbox that this replica publishes now."""

    def start(self) -> None:
        """Start, also after a death, with empty memory."""
        self.alive = True
        self.positions = {}
        self.work = None
        self.world.broker.join(self.group, self.name, self.topics)

    def kill(self) -> None:
        """Die between two steps. Its memory is lost."""
        self.alive = False
        self.work = None
        self.holds = set()
        self.world.broker.leave(self.group, self.name)

    def step(self) -> bool:
        """Do one step; False when there was nothing to do."""
        if self.work is None:
            generation = self.world.broker.groups[self.group].generation
            batch = self.world.broker.poll(self.group, self.name, self.positions, self.world.rng.randint(1, 6))
            if not batch:
                return self._leftovers()
            self.work = self._batch(batch, generation)
        try:
            next(self.work)
        except StopIteration:
            self.work = None
        return True

    def _leftovers(self) -> bool:
        rows = self.database.tables.get("outbox", {})
        if not rows or any(n.holds for n in self.world.nodes if n.database is self.database and n.alive and n is not self):
            return False
        self.work = self._publish()
        return True

    def timer(self, fire: Callable[[Unit, int], int]) -> None:
        """Handle timers that are due, in a transaction of their own."""
        self.work = self._timer(fire)

    def _timer(self, fire: Callable[[Unit, int], int]) -> Iterator[str]:
        yield from self._publish()
        self._transact(lambda unit: fire(unit, 50))
        yield "after_commit"
        yield from self._publish()

    def _batch(self, batch: list[tuple[Place, int, Entry]], generation: int) -> Iterator[str]:
        offsets = {place: offset + 1 for place, offset, _ in batch}
        if self.world.switches.offsets_first:
            self._commit(offsets, generation)
        yield "polled"
        self._transact(lambda unit: self._apply(unit, batch))
        yield "after_commit"
        yield from self._publish()
        yield "after_publish"
        self._commit(offsets, generation)

    def _commit(self, offsets: dict[Place, int], generation: int) -> None:
        if not self.world.broker.commit(self.group, self.name, generation, offsets):
            # Another member owns the partition now: go on from the committed offsets.
            self.positions = {}

    def _transact(self, work: Callable[[Unit], Any]) -> None:
        tx: Any = self.database.begin()
        unit = Emitting(tx, self.world.now, f"/stageline/{self.group}", SILENT)
        unit.messages = {}
        work(unit)
        outbox = tx.table("outbox")
        rows = sorted(unit.outgoing, key=lambda row: not row.urgent)
        if self.world.switches.unordered_outbox:
            rows.reverse()
        for row in rows:
            self.database.numbers += 1
            outbox[self.database.numbers] = Row(self.database.numbers, row, unit.messages.get(id(row)))
        if self.world.switches.publish_before_commit:
            for n in list(outbox):
                self._send(outbox.pop(n))
            if self.world.rng.random() < 0.3:
                return  # died between the two
        self.world.observer.before_commit(self, tx, rows)
        tx.commit()
        self.world.observer.after_commit(self)

    def _apply(self, unit: Unit, batch: list[tuple[Place, int, Entry]]) -> None:
        inbound: list[Inbound] = []
        seen = unit.connection.table("seen")  # type: ignore[attr-defined]
        for place, offset, entry in batch:
            if entry.message is None:
                self._park(unit, entry, place, offset, "undecodable")
                continue
            key = f"{entry.message.message_id}|{entry.message.TYPE}"
            if self.inbox(entry.message) is DedupPolicy.BY_ID:
                if key in seen and not self.world.switches.no_inbox:
                    self.world.observer.settled(self, place, offset, "duplicate")
                    continue
                seen[key] = key
            inbound.append(Inbound(entry.message, place[0], place[1], offset, 0, entry.key.encode(), entry.value, ()))
        self.handler(unit, inbound)
        refused = {m.report_id for m in unit.messages.values() if isinstance(m, ReportRefused)}  # type: ignore[attr-defined]
        for item in inbound:
            place = (item.topic, item.partition)
            fault = item.dead_letter
            if fault is None:
                self.world.observer.settled(self, place, item.offset, "applied")
                if isinstance(item.message, StageReport) and item.message.status in ENDS:
                    self.world.observer.judged(item.message.message_id, item.message.message_id in refused)
                continue
            if isinstance(fault, DeadLetter) and fault.code == "handler_error" and not self.world.switches.any_bug:
                raise AssertionError(f"a handler failed: {fault}")
            if not self.world.switches.keeps_parked_as_seen:
                seen.pop(f"{item.message.message_id}|{item.message.TYPE}", None)
            key = item.key.decode() if item.key else ""
            self._park(unit, Entry(key, item.value, item.message), place, item.offset, fault.code)

    def _park(self, unit: Unit, entry: Entry, place: Place, offset: int, code: str) -> None:
        self.world.observer.settled(self, place, offset, "parked")
        if not self.world.switches.drops_parked:
            self.world.dead_letters.append((place[0], entry, code))

    def _publish(self) -> Iterator[str]:
        """Publish the outbox in order and delete it. One replica at a time, as with the shards' locks."""
        while any(n.holds for n in self.world.nodes if n.database is self.database and n.alive and n is not self):
            yield "waits for the shard"
        self.holds = {0}
        rows: list[Row] = [r for _, r in sorted(self.database.tables.get("outbox", {}).items())]
        for row in rows:
            if self.world.switches.loses_outbox and self.world.rng.random() < 0.02:
                continue
            self._send(row)
            if self.world.rng.random() < 0.2:
                yield "published one"
        if self.world.switches.keeps_outbox:
            self.holds = set()
            return
        tx: Transaction = self.database.begin()
        for row in rows:
            tx.table("outbox").pop(row.number, None)
        tx.commit()
        self.holds = set()

    def _send(self, row: Row) -> None:
        value = row.row
        if self.world.switches.changed_bytes and self.world.rng.random() < 0.05:
            value = Outgoing(value.topic, value.key, value.value + b" ", value.headers)
        self.world.broker.publish(value, row.message)
        self.world.observer.published(self, value, row.message)
