"""Work whose caller went away ends all the same, and its failure is a sentence, not "Task exception was never retrieved"."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from shared.carried_through import carried_through
from shared.errors import Retry
from shared.kafka import offset_commits
from shared.kafka.offset_commits import OffsetCommits
from shared.processing.processor import BatchProcessor
from shared.telemetry.tracing import Telemetry
from stageline_kit.group_consumer import GroupConsumer
from tests.eventually import eventually

PLACE = TopicPartition("job.events", 0)
SENTENCE = "work that nothing waits for failed"


@pytest.fixture
async def unretrieved() -> list[str]:
    """What the event loop complains about."""
    found: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context["message"]))
    return found


async def told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def told() -> bool:
        return SENTENCE in caplog.messages

    await eventually(told)
    gc.collect()


async def test_the_result_and_the_error_reach_the_caller() -> None:
    async def work(fails: bool) -> int:
        if fails:
            raise Retry("away", "no")
        return 3

    assert await carried_through(work(False)) == 3
    with pytest.raises(Retry):
        await carried_through(work(True))


async def test_a_unit_whose_caller_was_cancelled_fails_in_a_sentence(
    processor: BatchProcessor, unretrieved: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def transact(*given: Any) -> Any:
        begun.set()
        await go_on.wait()
        raise Retry("store_unavailable", "connection is closed")

    monkeypatch.setattr(processor.relay, "transact", transact)
    caller = asyncio.create_task(processor.run_unit(lambda unit: None))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await told_of(caplog)
    assert unretrieved == []


async def test_a_commit_of_the_timer_that_fails_is_told_in_a_sentence(
    unretrieved: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Consumer:
        def assignment(self) -> set[TopicPartition]:
            return {PLACE}

        async def commit(self, given: dict[TopicPartition, int]) -> None:
            raise RuntimeError("a bug")

    monkeypatch.setattr(offset_commits, "COMMIT_SOON_S", 0.0)
    consumer = Consumer()
    commits = OffsetCommits(lambda: consumer, Telemetry("test", "test"), "group")
    commits.mark_done({PLACE: 5})
    await told_of(caplog)
    del commits
    gc.collect()
    assert unretrieved == []


@pytest.mark.parametrize(
    ("words", "raised"),
    [("unable to perform operation on <TCPTransport>; the handler is closed", KafkaConnectionError), ("a bug", RuntimeError)],
)
async def test_a_write_on_a_closed_transport_is_an_error_of_kafka(words: str, raised: type[Exception]) -> None:
    consumer = GroupConsumer(bootstrap_servers="127.0.0.1:1", group_id="g")

    class Connection:
        def send(self, *given: Any, **more: Any) -> Any:
            raise RuntimeError(words)

    async def ready(*given: Any, **more: Any) -> bool:
        return True

    consumer._client.ready = ready
    consumer._client._conns[(0, 0)] = Connection()
    try:
        with pytest.raises(raised):
            await consumer._client.send(0, object())
    finally:
        consumer._client._conns.clear()
        await consumer.stop()
