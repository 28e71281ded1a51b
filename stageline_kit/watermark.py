"""Offsets of tasks in hand: Kafka is told only what lies below the first one that is still open."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import TopicPartition

Place = tuple[TopicPartition, int]


class Watermark:
    """Tasks end in any order; an offset may be committed when everything before it has ended."""

    def __init__(self) -> None:
        self.open: dict[TopicPartition, set[int]] = {}
        self.high: dict[TopicPartition, int] = {}
        self.told: dict[TopicPartition, int] = {}

    def opened(self, place: Place) -> None:
        """A task was delivered."""
        tp, offset = place
        self.open.setdefault(tp, set()).add(offset)
        self.high[tp] = max(self.high.get(tp, -1), offset)

    def closed(self, place: Place) -> None:
        """Its report is in Kafka, or none is due."""
        self.open.get(place[0], set()).discard(place[1])

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """They are somebody else's now."""
        for tp in partitions:
            for table in (self.open, self.high, self.told):
                table.pop(tp, None)

    def moved(self) -> dict[TopicPartition, int]:
        """Partition → next offset, where it has moved since the last call."""
        found: dict[TopicPartition, int] = {}
        for tp, high in self.high.items():
            upto = min(self.open[tp], default=high + 1)
            if upto > self.told.get(tp, -1):
                found[tp] = self.told[tp] = upto
        return found
