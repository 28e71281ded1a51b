"""Which offsets of a task topic may be committed: those below the first task that is still open."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import TopicPartition

Position = tuple[TopicPartition, int]
"""Partition and offset of one record."""


class Watermark:
    """Tasks end in any order; an offset may be committed when every task before it has ended."""

    def __init__(self) -> None:
        self._open: dict[TopicPartition, set[int]] = {}
        self._highest: dict[TopicPartition, int] = {}
        self._returned: dict[TopicPartition, int] = {}

    def open_task(self, position: Position) -> None:
        """Add a task that was delivered."""
        partition, offset = position
        self._open.setdefault(partition, set()).add(offset)
        self._highest[partition] = max(self._highest.get(partition, -1), offset)

    def close_task(self, position: Position) -> None:
        """Mark a task as done: Kafka has its report, or none is due. A position that is not open is ignored."""
        self._open.get(position[0], set()).discard(position[1])

    def is_open(self, position: Position) -> bool:
        """True between `open_task` and `close_task`, while the partition is ours."""
        return position[1] in self._open.get(position[0], ())

    def is_behind(self, position: Position) -> bool:
        """True when the offset to commit is past this position, so that no other member receives its task."""
        return position[1] < self._returned.get(position[0], -1)

    def drop_partitions(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that were revoked. Their next owner starts at the committed offset."""
        for partition in partitions:
            for table in (self._open, self._highest, self._returned):
                table.pop(partition, None)

    def advance(self) -> dict[TopicPartition, int]:
        """Partition → next offset to commit, for the partitions whose offset has moved since the last call."""
        found: dict[TopicPartition, int] = {}
        for partition, highest in self._highest.items():
            upto = min(self._open[partition], default=highest + 1)
            if upto > self._returned.get(partition, -1):
                found[partition] = self._returned[partition] = upto
        return found
