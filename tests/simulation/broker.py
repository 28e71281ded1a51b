"""A model of Kafka as far as the pipeline leans on it: partitions, order per key, groups, positions, offsets, fencing by generation."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field

from contracts import Message
from shared.kafka.outgoing import Outgoing

Place = tuple[str, int]
"""Topic and partition."""
GENERATION: Place = ("", -1)
"""Where a member notes the generation that its positions are of."""


@dataclass(frozen=True)
class Entry:
    """One record."""

    key: str
    value: bytes
    message: Message | None
    """None for what nobody can read."""


@dataclass
class Group:
    """Who owns which partition; every change of members is a new generation."""

    topics: tuple[str, ...]
    members: list[str] = field(default_factory=list)
    generation: int = 0
    owners: dict[Place, str] = field(default_factory=dict)
    committed: dict[Place, int] = field(default_factory=dict)


class Broker:
    """Topics come into being with their first record."""

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
        """Write what an outbox row says."""
        self.append(row.topic, Entry((row.key or b"").decode(), row.value, message))

    def records(self, topic: str) -> list[Entry]:
        """Everything ever written to a topic, partition by partition."""
        return [e for n in range(self.partitions) for e in self.logs.get((topic, n), [])]

    def join(self, group: str, member: str, topics: tuple[str, ...]) -> None:
        """A member comes: all partitions are shared out anew."""
        found = self.groups.setdefault(group, Group(topics))
        found.members.append(member)
        self.rebalance(group)

    def leave(self, group: str, member: str) -> None:
        """A member is gone."""
        self.groups[group].members.remove(member)
        self.rebalance(group)

    def rebalance(self, group: str) -> None:
        """Share the partitions out anew, to anybody."""
        found = self.groups[group]
        found.generation += 1
        places = [(t, n) for t in found.topics for n in range(self.partitions)]
        found.owners = {p: self.rng.choice(found.members) for p in places} if found.members else {}

    def poll(self, group: str, member: str, positions: dict[Place, int], most: int) -> list[tuple[Place, int, Entry]]:
        """The next records of one of the member's partitions that has any; moves the positions."""
        found = self.groups[group]
        if positions.get(GENERATION) != found.generation:
            # Assigned anew: on from what the group has committed.
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
        """Commit as that generation's member; refused when there has been another one since."""
        found = self.groups[group]
        if generation != found.generation or member not in found.members:
            return False
        found.committed.update(offsets)
        return True

    def lag(self, group: str) -> int:
        """Records that nobody of the group has committed."""
        found = self.groups[group]
        ends = {p: len(log) for p, log in self.logs.items() if p[0] in found.topics}
        return sum(end - found.committed.get(p, 0) for p, end in ends.items())
