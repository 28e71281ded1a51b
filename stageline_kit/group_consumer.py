"""A consumer that takes a partition for new only when its group's coordinator says that nothing is committed there, and joins once.

Since version 2 an answer about committed offsets has one error for the whole group, and then it names no partition. aiokafka 0.14 reads
partitions alone, finds none, and goes to `auto_offset_reset`. So a coordinator that moves, or still loads, set a group back to the
beginning. The services' subscriptions use this consumer as well (`shared/kafka/clients.py`).

To join a group, aiokafka 0.14 sends one request for each of its assignment strategies, with one strategy more each time (its pull request
1168). Each differs from the one before, so each begins a rebalance, and the other members' requests do the same to this one. Two members
did so for seven minutes: one never got its partitions, and tasks on them found no worker.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.group import JoinGroupRequest

LOADING, NOT_COORDINATOR = 14, 16
"""Errors upon which aiokafka asks again; after the second one it looks up the coordinator first."""
FINAL = (0, LOADING, 29, 30)
"""Codes that stay: no error, loading, and no right to read the topic or the group, which the program must see."""
UNSENT = SimpleNamespace(error_code=0)
"""The answer to a request that is not sent. aiokafka goes on to its next strategy and reads the last answer alone."""


class GroupConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """As `AIOKafkaConsumer`. Without an answer about a partition it asks again, for as long as it takes. It joins with one request."""

    def __init__(self, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **options)
        send = self._client.send

        async def send_checked(node_id: int, request: Any, **more: Any) -> Any:
            if isinstance(request, JoinGroupRequest) and len(request._group_protocols) < len(self._partition_assignment_strategy):
                return UNSENT
            try:
                response = await send(node_id, request, **more)
            except RuntimeError as error:
                # uvloop's answer to a write after the transport closed. aiokafka knows an `OSError` alone.
                if "closed" not in str(error):
                    raise
                raise KafkaConnectionError(f"the connection to node {node_id} is closed") from error
            if isinstance(request, OffsetFetchRequest):
                response.topics = answer_of_each(request._partitions, response)
            return response

        self._client.send = send_checked


def answer_of_each(asked: list[tuple[str, list[int]]], response: Any) -> list[tuple[str, list[tuple[int, int, str, int]]]]:
    """The answer about each partition in `asked`, as (partition, offset, metadata, error), by topic.

    A partition has the error of the group, if there is one. A partition without an answer, and an error that may pass, become
    `NOT_COORDINATOR`.
    """
    answers = {(topic, answer[0]): answer for topic, partitions in response.topics for answer in partitions}

    def answer(topic: str, partition: int) -> tuple[int, int, str, int]:
        _, offset, metadata, error = answers.get((topic, partition), (partition, -1, "", NOT_COORDINATOR))
        error = getattr(response, "error_code", 0) or error
        return partition, offset, metadata, error if error in FINAL else NOT_COORDINATOR

    return [(topic, [answer(topic, partition) for partition in partitions]) for topic, partitions in asked]
