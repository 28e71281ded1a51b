"""Every program in `examples/` as its README starts it: workers in three languages, consumers that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client, CliError
from cli.commands.submit import submit_files
from contracts import CreateJob, JobRequest, Tenancy
from shared import clock
from stageline_kit import Producer
from tests.conftest import SAMPLES, Pipeline
from tests.eventually import eventually
from tests.tiers import needs, npm_installed

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OWNER = Tenancy(tenant_id="default", tenant_name="Default", user_name="examples")


@dataclass
class Program:
    """An example as a process of its own."""

    command: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill(self) -> None:
        assert self.process is not None and self.process.poll() is None
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """SIGTERM; the program must end by itself and without an error."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=40)
        assert self.process.returncode == 0, out


@contextmanager
def running(*programs: Program) -> Iterator[None]:
    for program in programs:
        program.start()
    try:
        yield
    finally:
        for program in programs:
            program.stop()


async def submit(pipeline: Pipeline, workflow: str, **config: Any) -> str:
    """Hand in a job whose step `shout` gets this configuration."""
    job_id = clock.new_root()
    request = JobRequest(workflow=workflow, args={"shout": config} if config else None)
    command = CreateJob(command_id=f"c-{job_id}", job_id=job_id, owner=OWNER, issued_at=clock.now(), job=request)
    async with Producer(pipeline.kafka, "/test", **pipeline.as_user("producer")) as producer:
        await producer.publish(command)
    return job_id


async def found(client: Client, job_id: str) -> dict[str, Any]:
    try:
        return dict(await client.call("GET", f"/v1/jobs/{job_id}"))
    except CliError:
        return {"stage": "not there yet"}


async def ended(client: Client, job_id: str, timeout_s: float = 60) -> dict[str, Any]:
    """The job at its end, with its history as `history`."""

    async def look() -> Any:
        job = await found(client, job_id)
        return job if job["stage"] in ("completed", "failed", "cancelled", "invalid") else None

    job: dict[str, Any] = await eventually(look, timeout_s)
    job["history"] = (await client.call("GET", f"/v1/jobs/{job_id}/history?limit=1000"))["result"]
    return job


async def taken(client: Client, job_id: str) -> None:
    """Wait until a worker has said that it works on the job's task."""

    async def look() -> bool:
        try:
            return bool((await client.call("GET", f"/v1/jobs/{job_id}/why"))["code"] == "running")
        except CliError:
            return False  # the job is not there yet

    await eventually(look, 30)


def faststream_worker(kafka: dict[str, str], action: str, folder: Path) -> Program:
    environment = {**kafka, "ACTION": action}
    return Program([sys.executable, "-m", "faststream", "run", "shouting:app"], EXAMPLES / "faststream_worker", environment)


def node_worker(kafka: dict[str, str], action: str, folder: Path) -> Program:
    command = ["node", "worker.mjs", kafka["KAFKA_BOOTSTRAP_SERVERS"], action]
    return Program(command, npm_installed(EXAMPLES / "nodejs", folder / "nodejs"), kafka)


def go_worker(kafka: dict[str, str], action: str, folder: Path) -> Program:
    subprocess.run(["go", "vet", "./..."], cwd=EXAMPLES / "go", check=True)
    subprocess.run(["go", "build", "-o", str(folder / "worker"), "."], cwd=EXAMPLES / "go", check=True)
    return Program([str(folder / "worker"), kafka["KAFKA_BOOTSTRAP_SERVERS"], action], EXAMPLES / "go", kafka)


WORKERS = [
    pytest.param("acme.faststream", faststream_worker),
    pytest.param("acme.nodejs", node_worker, marks=needs("node")),
    pytest.param("acme.go", go_worker, marks=needs("go")),
]


async def published(client: Client, action: str) -> str:
    """A workflow of one step with the action; its name."""
    name = f"examples-{action.removeprefix('acme.')}"
    step: dict[str, Any] = {
        "name": "shout",
        "action": action,
        "scope": "job",
        "config": {"text": "hello"},
        "timeouts": {"heartbeat_s": 1},
    }
    step["open"] = ["text", "takes_s"]
    await client.call("PUT", f"/v1/workflows/{name}/draft", json={"name": name, "version": 1, "steps": [step]})
    await client.call("POST", f"/v1/workflows/{name}/publish")
    return name


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("action", "worker"), WORKERS)
async def test_a_worker_keeps_the_protocol(
    pipeline: Pipeline, client: Client, tmp_path: Path, action: str, worker: Callable[[dict[str, str], str, Path], Program]
) -> None:
    workflow = await published(client, action)
    program = worker(pipeline.settings("--role", "worker", "--actions", action), action, tmp_path)
    with running(program):
        done = await ended(client, await submit(pipeline, workflow))
        assert done["stage"] == "completed" and done["retries"] == 0, done
        failed = await ended(client, await submit(pipeline, workflow, text=""))
        assert failed["stage"] == "failed" and failed["retries"] == 0, "a KO is not tried again"

        # The lease is 15 s at least, so heartbeats alone carry this task to its end.
        long = await ended(client, await submit(pipeline, workflow, takes_s=18))
        assert long["stage"] == "completed" and long["retries"] == 0, long

        endless = await submit(pipeline, workflow, takes_s=100)
        await taken(client, endless)
        await client.call("POST", f"/v1/jobs/{endless}/cancel", json={"reason": "test"})
        assert (await ended(client, endless))["stage"] == "cancelled"
        after = await ended(client, await submit(pipeline, workflow), 20)
        assert after["stage"] == "completed", "the cancelled task stopped, or this one would wait for it"

        killed = await submit(pipeline, workflow, takes_s=3)
        await taken(client, killed)
        program.kill()
        program.start()
        assert (await ended(client, killed))["stage"] == "completed"


def tally(database: Path) -> dict[str, tuple[int, int]]:
    """Job → files and endings that were billed."""
    if not database.exists():
        return {}
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        return {job_id: (files, finished) for job_id, files, finished in connection.execute("SELECT * FROM bill")}
    except sqlite3.OperationalError:
        return {}
    finally:
        connection.close()


Bills = dict[str, tuple[int, int]]


async def hand_in(pipeline: Pipeline, client: Client, jobs: int, expected: Bills) -> None:
    """One job with two files and some without; adds what a consumer has to bill for them to `expected`."""
    files = [SAMPLES / "letter-offer.docx", SAMPLES / "invoice-globex-117.pdf"]
    expected[await submit_files(client, files, {"workflow": "documents"})] = (2, 1)
    for job_id in await asyncio.gather(*(submit(pipeline, "noop-five") for _ in range(jobs))):
        expected[job_id] = (0, 1)


async def billed(database: Path, expected: Bills) -> None:
    """Wait until every expected job has its bill."""

    async def look() -> bool:
        bills = tally(database)
        return all(bills.get(job_id) == bill for job_id, bill in expected.items())

    await eventually(look, 60)


async def billed_more(database: Path) -> None:
    """Wait until a job has got a bill that had none."""
    before = len(tally(database))

    async def look() -> bool:
        return len(tally(database)) > before

    await eventually(look, 30, 0.01)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_consumers_that_are_killed_bill_every_job_once(pipeline: Pipeline, client: Client, tmp_path: Path) -> None:
    faststream, plain = tmp_path / "faststream.db", tmp_path / "plain.db"
    kafka = pipeline.settings("--role", "consumer")
    programs = {
        faststream: Program(
            [sys.executable, "-m", "faststream", "run", "billing:app"], EXAMPLES / "faststream_consumer",
            {**kafka, "BILLING_DB": str(faststream)},
        ),
        plain: Program([sys.executable, "consumer.py", pipeline.kafka, str(plain)], EXAMPLES / "aiokafka_plain", kafka),
    }  # fmt: skip
    expected: Bills = {}
    with running(*programs.values()):
        await hand_in(pipeline, client, 10, expected)
        await asyncio.gather(*(billed(database, expected) for database in programs))
        handing_in = asyncio.create_task(hand_in(pipeline, client, 40, expected))
        await asyncio.gather(*map(billed_more, programs))
        for program in programs.values():
            program.kill()
            program.start()
        await handing_in
        await asyncio.gather(*(billed(database, expected) for database in programs))
    for database in programs:
        assert {job_id: bill for job_id, bill in tally(database).items() if job_id in expected} == expected


async def test_the_plain_producer_hands_in_the_same_order_once(pipeline: Pipeline, client: Client) -> None:
    command = [sys.executable, "producer.py", pipeline.kafka, "noop-five", clock.new_root()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **pipeline.settings("--role", "producer")}
    folder = EXAMPLES / "aiokafka_plain"
    ids = {
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    }
    [job_id] = ids
    job = await ended(client, job_id)
    assert job["stage"] == "completed"
    assert [e["event"]["event_name"] for e in job["history"]].count("job_create_event") == 1


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_producer_may_compress_its_records(pipeline: Pipeline, client: Client, codec: str) -> None:
    """Producers in other languages choose a codec by themselves; one record that cannot be unpacked would stop the service."""
    pytest.importorskip("cramjam", reason="comes with aiokafka[lz4,snappy,zstd]")
    job_id = clock.new_root()
    request = JobRequest(workflow="noop-five", metadata={"text": "x" * 2000})
    command = CreateJob(command_id=f"c-{job_id}", job_id=job_id, owner=OWNER, issued_at=clock.now(), job=request)
    async with Producer(pipeline.kafka, "/test", compression_type=codec, **pipeline.as_user("producer")) as producer:
        await producer.publish(command)
    assert (await ended(client, job_id))["stage"] == "completed"
