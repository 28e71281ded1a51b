"""Connects the consumer of an engine's task topics with the engine."""

from __future__ import annotations

from typing import Any

from aiokafka import ConsumerRebalanceListener

from stageline_kit.engine import TaskEngine


class PartitionListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Rebalance listener for the consumer of an engine's task topics."""

    def __init__(self, engine: TaskEngine) -> None:
        self.engine = engine
        self.joined = False
        """Member of the group with its share of the partitions. Of many members, some may have none."""

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """aiokafka calls this before the group is rebalanced."""
        self.joined = False
        await self.engine.release_partitions(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """aiokafka calls this when the rebalance is over."""
        await self.engine.receive_partitions(assigned)
        self.joined = True
