"""A worker of each kind on a broker in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from shared.kafka import offset_commits
from stageline_kit import dead_letters, kafka_transport, producer, report_queue
from stageline_kit import worker as kit_worker
from tests.conformance.workers.fake_kafka import FakeAdmin, FakeBroker, FakeConsumer, FakeProducer
from tests.conformance.workers.harness import KitWorker, Orchestrator, Program, RunningWorker, StageWorker

Launch = Callable[..., Awaitable[RunningWorker]]
_numbers = itertools.count()


@pytest.fixture
async def orchestrator() -> Orchestrator:
    """The other side of the topics, on a broker of its own."""
    return Orchestrator(FakeBroker(f"fake-{next(_numbers)}"))


@pytest.fixture
def program() -> Program:
    """The action that all workers of a test run."""
    return Program()


@pytest.fixture(params=[KitWorker, StageWorker], ids=["kit", "stage_worker"])
async def launch(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, orchestrator: Orchestrator, program: Program
) -> AsyncIterator[Launch]:
    """`await launch("w-1")`: a running worker of one kind."""
    monkeypatch.setattr(kafka_transport, "GroupConsumer", FakeConsumer)
    monkeypatch.setattr(kit_worker, "AIOKafkaConsumer", FakeConsumer)
    monkeypatch.setattr(producer, "AIOKafkaProducer", FakeProducer)
    monkeypatch.setattr(dead_letters, "AIOKafkaAdminClient", FakeAdmin)
    # Commits and repeats come sooner than in production; their order is the same.
    for module, pause in ((kit_worker, "COMMIT_EVERY_S"), (offset_commits, "COMMIT_SOON_S"), (offset_commits, "COMMIT_EVERY_S"),
                          (report_queue, "RETRY_S"), (dead_letters, "PAUSE_S")):  # fmt: skip
        monkeypatch.setattr(module, pause, 0.01)
    name = next(name for name, broker in FakeBroker.known.items() if broker is orchestrator.broker)
    workers: list[RunningWorker] = []

    async def start(worker: str = "w-1", **options: Any) -> RunningWorker:
        workers.append(request.param(name, worker, program, **options))
        await workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        if not worker.process.done():
            await worker.crash()
    FakeBroker.known.clear()
    FakeConsumer.made.clear()
    FakeProducer.made.clear()
