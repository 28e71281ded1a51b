"""Workers of the kit join their group on a real broker: each that comes costs one rebalance, and no more follow."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stageline_kit.assignment import sticky_assignors
from stageline_kit.group_consumer import GroupConsumer
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
MEMBERS = 4


async def topic_of(bootstrap: str) -> str:
    name = f"joining-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, MEMBERS, 1)])
    await admin.close()
    return name


async def test_each_member_that_joins_costs_one_rebalance(kafka_url: str) -> None:
    topic, members = await topic_of(kafka_url), list[Any]()

    async def shared() -> bool:
        assigned = [member.assignment() for member in members]
        return all(assigned) and len(set().union(*assigned)) == MEMBERS == sum(map(len, assigned))

    async with AsyncExitStack() as stack:
        for number in range(1, MEMBERS + 1):
            member = GroupConsumer(
                topic, bootstrap_servers=kafka_url, group_id=topic, enable_auto_commit=False, heartbeat_interval_ms=100,
                partition_assignment_strategy=sticky_assignors(),
            )  # fmt: skip
            stack.push_async_callback(member.stop)
            await asyncio.wait_for(member.start(), 30)
            members.append(member)
            await eventually(shared, 30)
            assert {member._coordinator.generation for member in members} == {number}
