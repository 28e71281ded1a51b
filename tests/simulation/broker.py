"""A model of what the pipeline needs of Kafka: partitions, order per key, groups, positions, offsets, fencing by generation."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field

from contracts import Message
from shared.kafka.outgoing import Outgoing

Place = tuple[str, int]
"""Topic and partition."""
GENERATION: Place = ("", -1)
"""Key under which a member keeps the generation of its positions."""


@dataclass(frozen=True)
class Entry:
    """One record."""

    key: str
    value: bytes
    message: Message | None
    """None for a record that cannot be decoded."""


@dataclass
class Group:
    """Which member owns which partition. Every change of members begins a new generation."""

    topics: tuple[str, ...]
    members: list[str] = field(default_factory=list)
    generation: int = 0
    owners: dict[Place, str] = field(default_factory=dict)
    committed: dict[Place, int] = field(default_factory=dict)


class Broker:
    """Topics are created by their first record."""

    def __init__(self, partitions: int, rng: random.Random) -> None:
        self.partitions = partitions
        self.rng = rng
        self.logs: dict[Place, list[Entry]] = {}
        self.groups: dict[str, Group] = {}

    def append(self, topic: str, entry: Entry) -> None:
        """Write a record to the partition of its key."""
        place = (topic, zlib.crc32(entry.key.encode()) % self.partitions)
        self.logs.setdefault(place, []).append(entry)

    def publish(self, row: Outgoing, message: Message | None) -> None:
        """Write the record of an outbox row."""
        self.append(row.topic, Entry((row.key or b"").decode(), row.value, message))

    def records(self, topic: str) -> list[Entry]:
        """All records of a topic, partition by partition."""
        return [e for n in range(self.partitions) for e in self.logs.get((topic, n), [])]

    def join(self, group: str, member: str, topics: tuple[str, ...]) -> None:
        """Add a member, and assign all partitions again."""
        found = self.groups.setdefault(group, Group(topics))
        found.members.append(member)
        self.rebalance(group)

    def leave(self, group: str, member: str) -> None:
        """Remove a member."""
        self.groups[group].members.remove(member)
        self.rebalance(group)

    def rebalance(self, group: str) -> None:
        """Assign all partitions again, at random."""
        found = self.groups[group]
        found.generation += 1
        places = [(t, n) for t in found.topics for n in range(self.partitions)]
        found.owners = {p: self.rng.choice(found.members) for p in places} if found.members else {}

    def poll(self, group: str, member: str, positions: dict[Place, int], most: int) -> list[tuple[Place, int, Entry]]:
        """The next records of one of the member's partitions. Moves the position."""
        found = self.groups[group]
        if positions.get(GENERATION) != found.generation:
            # After a rebalance a member goes on from the committed offsets.
            positions.clear()
            positions[GENERATION] = found.generation
        mine = [p for p, owner in found.owners.items() if owner == member]
        self.rng.shuffle(mine)
        for place in mine:
            start = positions.get(place, found.committed.get(place, 0))
            log = self.logs.get(place, [])[start : start + most]
            if log:
                positions[place] = start + len(log)
                return [(place, start + n, e) for n, e in enumerate(log)]
        return []

    def commit(self, group: str, member: str, generation: int, offsets: dict[Place, int]) -> bool:
        """Commit as a member of that generation. Refused after a rebalance."""
        found = self.groups[group]
        if generation != found.generation or member not in found.members:
            return False
        found.committed.update(offsets)
        return True

    def lag(self, group: str) -> int:
        """Records whose offsets the group has not committed."""
        found = self.groups[group]
        ends = {p: len(log) for p, log in self.logs.items() if p[0] in found.topics}
        return sum(end - found.committed.get(p, 0) for p, end in ends.items())
