"""Services on an existing Kafka and database: in containers if Docker runs, else portable builds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contracts import MODELS, AddFile, CloseSession, CreateJob, FileRef, JobRequest, Message, OpenSession, Tenancy, from_record
from shared import clock
from shared.kafka.connection import KafkaAccess
from stageline_kit import Producer
from tests.e2e.outside import read_from
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
OWNER = Tenancy(tenant_id="t", user_name="test")
SERVICES = ["session", "job_orchestrator", "stage_worker"]
JOBS = 50


@dataclass
class Deployment:
    """Services that share one database, and their topics."""

    kafka: str
    folder: Path
    environment: dict[str, str]

    def start(self, service: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **self.environment,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "STAGELINE_DATA_DIR": str(self.folder),
        }
        with (self.folder / f"{service}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", f"services.{service}"], env=environment, stdout=log, stderr=log)


@pytest.fixture(params=["sqlite", "postgresql"])
async def deployment(request: pytest.FixtureRequest, kafka_url: str, tmp_path: Path) -> AsyncIterator[Deployment]:
    environment = {}
    if request.param == "postgresql":
        environment["STAGELINE_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    made = Deployment(kafka_url, tmp_path, environment)
    processes = [made.start(service) for service in SERVICES]
    yield made
    for process in processes:
        process.terminate()
    codes = [process.wait(30) for process in processes]
    logs = [(tmp_path / f"{service}.log").read_text()[-2000:] for service, code in zip(SERVICES, codes, strict=True) if code != 0]
    assert not logs, "\n".join(logs)


async def events(kafka: str, topic: str, ids: set[str]) -> list[Any]:
    """Messages of some jobs or sessions."""
    found = await read_from(KafkaAccess(bootstrap_servers=kafka), topic)
    return [from_record(r.value, r.headers, frozenset(MODELS)) for r in found if (r.key or b"").decode() in ids]


def commands(jobs: list[str], session: str) -> list[Message]:
    """The jobs, and a session with one file and five commands to close it."""
    wish = JobRequest(workflow="noop-five")
    who: dict[str, Any] = {"owner": OWNER, "issued_at": clock.now()}
    return [
        *(CreateJob(command_id=f"c-{i}", job_id=i, job=wish, **who) for i in jobs),
        OpenSession(command_id=f"o-{session}", session_id=session, ttl_s=600, **who),
        AddFile(
            command_id=f"a-{session}",
            session_id=session,
            file=FileRef(file_id="f", file_name="f.txt", blob_name=f"{OWNER.tenant_id}/f"),
            **who,
        ),
        *(CloseSession(command_id=f"x{n}-{session}", session_id=session, job=wish, **who) for n in range(5)),
    ]


async def published(kafka: str, messages: list[Message], bad: str) -> bool:
    """Publish each message twice, and one unreadable record."""
    async with Producer(kafka, "/test") as producer:
        # The services create the topics when they start.
        await asyncio.gather(*(producer.publish(message) for message in messages for _ in range(2)))
        await producer.send_raw("job.commands", bad.encode(), b"\xff not json", [])
    return True


async def test_jobs_and_sessions_end_correctly_and_unreadable_records_are_dead_lettered(deployment: Deployment) -> None:
    jobs, session, bad = [clock.new_root() for _ in range(JOBS)], clock.new_root(), clock.new_root()
    await eventually(lambda: published(deployment.kafka, commands(jobs, session), bad), 60, 0.5)

    async def finished() -> bool:
        names = Counter(m.event.NAME for m in await events(deployment.kafka, "job.events", set(jobs)))
        return names["job_finished_event"] == JOBS

    await eventually(finished, 60, 0.3)
    messages = await events(deployment.kafka, "job.events", set(jobs))
    for job in jobs:
        assert [m.event.sequence for m in messages if m.event.job_id == job] == list(range(1, 10))

    async def answered() -> bool:
        types = Counter(m.TYPE for m in await events(deployment.kafka, "session.events", {session}))
        return types["stageline.session.closed.v1"] == 1 and types["stageline.session.command_refused.v1"] == 4

    await eventually(answered, 30, 0.3)

    async def set_aside() -> bool:
        letters = [
            r
            for r in await read_from(KafkaAccess(bootstrap_servers=deployment.kafka), "job.commands.job_orchestrator.dlq")
            if r.key == bad.encode()
        ]
        return (
            len(letters) == 1 and letters[0].value == b"\xff not json" and dict(letters[0].headers)["dlq-code"] == b"invalid_json"
        )

    await eventually(set_aside, 30, 0.3)
