"""Topics, tasks, programs and reports of the kit's worker tests on a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts import StageReport, StageTask, from_record, to_record
from tests.contracts.examples import OTHERS
from tests.eventually import eventually
from tests.unit.test_kit_actions import is_running

EXAMPLE = next(m for m in OTHERS if isinstance(m, StageTask))
KINDS = ("hold", "kill", "hang", "isolated", "large")


class Bench:
    """Topics of one test, a producer for its tasks, and the worker programs that it has started."""

    def __init__(self, kafka: str, folder: Path) -> None:
        self.kafka = kafka
        self.notes = folder / "notes"
        self.suffix = f"t{uuid.uuid4().hex[:12]}"
        self.group = f"workers.{self.suffix}"
        self.programs: list[subprocess.Popen[bytes]] = []
        self.log = folder / "log"

    async def set_up(self, reports: dict[str, str] | None = None) -> None:
        """Create the topics."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        existing = await admin.list_topics()
        wanted = [NewTopic(self.topic(kind), 2, 1) for kind in KINDS]
        wanted += [
            NewTopic(n, 1, 1, topic_configs=reports or {}) for n in ("stage.reports", "stage.cancellations", "stage.workers")
        ]
        await admin.create_topics([topic for topic in wanted if topic.name not in existing])
        await admin.close()

    def topic(self, kind: str) -> str:
        """Task topic of a kind of task."""
        return f"stage.tasks.{self.suffix}.{kind}"

    def start(self, name: str, drain_s: float = 5, kinds: tuple[str, ...] = KINDS) -> subprocess.Popen[bytes]:
        """A worker process."""
        given = [self.kafka, self.suffix, name, str(self.notes), str(drain_s), ",".join(kinds)]
        command = [sys.executable, "-m", "tests.integration.kit_program", *given]
        with self.log.open("ab") as out:
            self.programs.append(subprocess.Popen(command, stdout=out, stderr=out))
        return self.programs[-1]

    async def send(self, kind: str, lease: str, partition: int = 0, **changes: Any) -> None:
        """Write a task."""
        lease = f"{self.suffix}-{lease}"
        fields = {
            "lease": lease,
            "task_id": f"task-{lease}",
            "action": f"{self.suffix}.{kind}",
            "job_id": self.suffix,
            "timeout_s": 300,
            **changes,
        }
        record = to_record(EXAMPLE.model_copy(update=fields), "/test")
        async with AIOKafkaProducer(bootstrap_servers=self.kafka) as producer:
            await producer.send_and_wait(self.topic(kind), record.value, record.key, partition, headers=list(record.headers))

    def noted(self, word: str) -> list[list[str]]:
        """Notes of the programs that begin with `word`."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line.split()[1:] for line in lines if line.startswith(word)]

    def release(self, lease: str) -> None:
        """Let a task of the kind `hold` end."""
        Path(f"{self.notes}.{self.suffix}-{lease}").touch()

    async def reports(self) -> list[StageReport]:
        """This test's reports in Kafka."""
        found = [
            from_record(r.value, r.headers, frozenset({StageReport.TYPE})) for r in await read_topic(self.kafka, "stage.reports")
        ]
        return [r for r in found if isinstance(r, StageReport) and r.job_id == self.suffix]

    async def ends(self) -> dict[str, tuple[str, str | None, str | None]]:
        """Lease → status, code and worker."""
        cut = len(self.suffix) + 1
        return {r.lease[cut:]: (r.status.value, r.code, r.worker) for r in await self.reports() if r.status.value != "RUN"}

    async def committed(self, kind: str, partition: int = 0) -> int:
        """The group's offset."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        offsets = await admin.list_consumer_group_offsets(self.group)
        await admin.close()
        found = offsets.get(TopicPartition(self.topic(kind), partition))
        return max(found.offset, 0) if found else 0  # -1: none

    async def until(self, look: Callable[[], Any], timeout_s: float = 40) -> None:
        """Wait for a fact; shows the programs' output where it does not come."""

        async def seen() -> Any:
            value = look()
            return await value if asyncio.iscoroutine(value) else value

        try:
            await eventually(seen, timeout_s, 0.2)
        except AssertionError as error:
            raise AssertionError(self.log.read_text()[-4000:]) from error


async def read_topic(kafka: str, topic: str) -> list[Any]:
    """All records of a topic."""
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        places = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or await partitions_of(consumer, topic)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[Any] = []
        await consumer.seek_to_beginning()
        while any([await consumer.position(tp) < ends[tp] for tp in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
        return found


async def partitions_of(consumer: Any, topic: str) -> set[int]:
    """Partitions of a topic that this consumer has not asked for before."""
    await consumer._client.add_topic(topic)
    return consumer.partitions_for_topic(topic) or set()


@contextmanager
def ended(made: Bench) -> Iterator[None]:
    """Kill what is left of a test's programs."""
    try:
        yield
    finally:
        for program in made.programs:
            program.kill()
            program.wait()
        for (pid,) in made.noted("child"):
            if is_running(int(pid)):
                os.kill(int(pid), signal.SIGKILL)
