"""How a group of workers shares partitions: a member keeps what it has, as far as the shares stay equal."""

from __future__ import annotations

from typing import Any

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor


def sticky_assignors() -> tuple[Any, ...]:
    """Assignment strategies for one consumer, the preferred first. A group with members of earlier releases uses the second.

    The sticky assignor of aiokafka keeps its assignment in its class, so that each consumer needs a class of its own.
    """
    return type("OwnStickyAssignor", (StickyPartitionAssignor,), {}), RoundRobinPartitionAssignor
